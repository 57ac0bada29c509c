"""What an export answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Exported:
    """What was written, and how it was checked.

    `files` has the bytes of each file by its path below `path`; `check` says in one line what was
    compared and how far answers differ.
    """

    path: Path
    format: str
    files: Mapping[str, int]
    check: str
