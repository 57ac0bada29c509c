"""Which code is not the network's own: torch's and this library's."""

from pathlib import Path

import torch

_NOT_THE_USERS = (Path(torch.__file__).parent, Path(__file__).parent)


def not_the_users(file: str) -> bool:
    """Whether a file is torch's, or this package's."""
    return any(Path(file).is_relative_to(folder) for folder in _NOT_THE_USERS)
