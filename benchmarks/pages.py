"""Records that are committed, and the pages that are made from them."""

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ftwt.io.files import make_folder, write_json
from ftwt.io.reading import read_json

ROOT = Path(__file__).parent.parent
RECORDS, DOCS = ROOT / "benchmarks" / "records", ROOT / "docs"


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a record; numbers are finite.

    Raises:
        FtwtError: it cannot be read or is no JSON object, in one line.
    """
    mend = "restore it, or measure again"
    return read_json(file, dict[str, Any], called="benchmarks", mend=mend)


def read_all(folder: Path, names: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """A folder's records by name: all, or those of some names that are there, in their order."""
    chosen = [one.stem for one in sorted(folder.glob("*.json"))] if names is None else names
    files = {name: folder / f"{name}.json" for name in chosen}
    return {name: read_object(file) for name, file in files.items() if file.is_file()}


def write(file: Path, record: dict[str, Any]) -> None:
    """Write a record, whole or not at all; its folder is made if need be."""
    make_folder(file.parent)
    write_json(file, record, indent=1)


def with_part(text: str, name: str, made: str) -> str:
    """A page with what stands between its marks `name: begin` and `name: end` made anew."""
    head, begin, rest = text.partition(f"<!-- {name}: begin -->")
    _, end, tail = rest.partition(f"<!-- {name}: end -->")
    return f"{head}{begin}\n{made}\n{end}{tail}"


def versions_of(*packages: str) -> dict[str, str]:
    """Versions of installed packages, without what names their build."""
    return {name: version(name).split("+")[0].split("-")[0] for name in packages}
