"""`export`: one function for all formats."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from torch import nn

from ftwt.errors import FtwtError
from ftwt.export import native
from ftwt.export.exported import Exported
from ftwt.io import Card
from ftwt.io.storage import load

# Writes a network to a path that does not exist yet, with what the card says of it.
Writer: TypeAlias = Callable[[nn.Module, Path, Card | None], Exported]


@dataclass(frozen=True)
class Format:
    """How a format is written, and what it is called beside a run if no path is given."""

    write: Writer
    name: str


FORMATS: Mapping[str, Format] = {"native": Format(native.write, "native")}


def export(
    model: nn.Module | Path | str,
    path: Path | str | None = None,
    *,
    format: str = "native",
    card: Card | None = None,
) -> Exported:
    """Write a network so that other programs can run it, and check what was written.

    Args:
        model: a gated or escalating network in eval mode; or a run folder or a saved model.
        path: where to; nothing may be there. Beside the run's own files if left out.
        format: "native", a folder with the network as a file, and C sources that run it.
        card: names of the classes, and mean and deviation of the pixels, which a run has itself.

    Raises:
        FtwtError: a format or a network that cannot be, something at `path` already, or written
            files that do not answer what the network does.
    """
    if format not in FORMATS:
        raise FtwtError(f"export: format={format!r} is unknown; use one of {', '.join(FORMATS)}")
    if not isinstance(model, nn.Module):
        run = Path(model)
        model, saved = load(run)
        card = card or saved
        path = path or (run if run.is_dir() else run.parent) / FORMATS[format].name
    if path is None:
        raise FtwtError("export: no path; give one, for example ftwt.export(model, 'exported')")
    path = Path(path)
    if path.exists():
        raise FtwtError(f"export: {path} exists; give a new path, or remove it first")
    return FORMATS[format].write(model, path, card)
