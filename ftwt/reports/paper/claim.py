"""The folder of a report: of one study, told by data, scale, recipe and runs."""

from pathlib import Path
from typing import Any

from ftwt.errors import FtwtError
from ftwt.io.files import write_json, writing
from ftwt.io.reading import read_json

_CARD = "paper.json"


def claim(folder: Path, about: dict[str, Any]) -> None:
    """Make a folder the place of one study, told by data, scale, recipe and runs.

    Raises:
        FtwtError: it holds anything but that same study, and is left as it was.
    """
    card = folder / _CARD
    if folder.is_file():
        raise FtwtError(f"paper: {folder} is a file; give a folder")
    if card.is_file():
        mend = "restore it, or give a new folder"
        was: Any = read_json(card, called="paper", mend=mend)
        differs = sorted(key for key in {*was, *about} if was.get(key) != about.get(key))
        if differs:
            raise FtwtError(
                f"paper: {folder} holds a report of another study, it differs in "
                f"{', '.join(differs)}; nothing was changed, give a new folder"
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise FtwtError(
            f"paper: {folder} is not empty and holds no report of ftwt paper; nothing was "
            "changed, give a new folder"
        )
    with writing("paper", folder, "free space, or give another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(card, about)
