"""Reading records, which people and merges may have damaged."""

from pathlib import Path
from typing import Any

from ftwt.io.reading import read_json


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a record; numbers are finite.

    Raises:
        FtwtError: it cannot be read or is no JSON object, in one line.
    """
    mend = "restore it, or measure again"
    return read_json(file, dict[str, Any], called="benchmarks", mend=mend)
