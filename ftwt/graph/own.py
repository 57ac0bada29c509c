"""Which code is the network's own, and which is torch's or this library's."""

import traceback
from pathlib import Path

import torch

_NOT_THE_USERS = (Path(torch.__file__).parent, Path(__file__).parent)


def not_the_users(file: str) -> bool:
    """Whether a file is torch's, or this package's."""
    return any(Path(file).is_relative_to(folder) for folder in _NOT_THE_USERS)


def line_of_user() -> str:
    """Where the network's own code is now: file, line and what it says."""
    for frame in reversed(traceback.extract_stack()):
        if not_the_users(frame.filename):
            continue
        return f"{frame.filename}:{frame.lineno} `{frame.line}`"
    return "a value"
