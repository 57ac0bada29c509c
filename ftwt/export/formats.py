"""`export`: one function for all formats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from torch import Tensor, nn

from ftwt.errors import FtwtError, check_choice
from ftwt.export import native, onnx, program
from ftwt.export.exported import Exported
from ftwt.export.subject import subject_of
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.model import Gated
from ftwt.gated.within import held_in
from ftwt.io import Card
from ftwt.io.storage import load
from ftwt.runtime.numbering import check_round_to


@dataclass(frozen=True)
class Given:
    """What a format is told beside the network; see `export`."""

    card: Card | None = None
    example: Tensor | Sequence[Tensor] | None = None
    round_to: int = 1


# Writes a network to a path that does not exist yet.
FormatWriter: TypeAlias = Callable[[nn.Module, Path, Given], Exported]


@dataclass(frozen=True)
class Format:
    """How a format is written, and what it is called beside a run if no path is given."""

    write: FormatWriter
    name: str


def _native(model: nn.Module, path: Path, given: Given) -> Exported:
    return native.write_native(model, path, given.card)


def _onnx(model: nn.Module, path: Path, given: Given) -> Exported:
    return onnx.write_onnx(subject_of(model, given.example, round_to=given.round_to), path)


def _torch(model: nn.Module, path: Path, given: Given) -> Exported:
    return program.write_program(subject_of(model, given.example, round_to=given.round_to), path)


FORMATS: Mapping[str, Format] = {
    "native": Format(_native, "native"),
    "onnx": Format(_onnx, "model.onnx"),
    "torch": Format(_torch, "model.pt2"),
}


def export(
    model: nn.Module | Path | str,
    path: Path | str | None = None,
    *,
    format: str = "onnx",
    reduction: float | None = None,
    round_to: int = 1,
    example: Tensor | Sequence[Tensor] | None = None,
    card: Card | None = None,
) -> Exported:
    """Write a network so that other programs can run it, and check what was written.

    Args:
        model: a gated, escalating or, but for "native", plain network in eval mode; or a run
            folder or a saved model. Of a network that holds a gated one, such as a detector, that
            one alone is written.
        path: where to; nothing may be there. Beside the run's own files if left out.
        format: "native", a folder with the network as a file, and C sources that run it; "onnx",
            a file for engines, which is tried in ONNX Runtime and, if installed, OpenVINO;
            "torch", a program of `torch.export`. The latter two take batches of any size and
            compute every filter, with masks as operators; masks that are the same for every image
            are cut.
        reduction: share of MACs saved, of a calibrated model; see `model.at`.
        round_to: of masks that are cut, keep filters until their numbers are multiples of this.
        example: inputs (B, ...) of a plain network, whose sizes are not known otherwise.
        card: names of the classes, and mean and deviation of the pixels, which a run has itself.

    Raises:
        FtwtError: a format or a network that cannot be, something at `path` already, a reduction
            that the model was not calibrated for, or written files that do not answer what the
            network does.

    Example:
        >>> ftwt.export(model.eval(), "model.pt2", format="torch").format
        'torch'
    """
    check_choice("export", "format", format, FORMATS)
    check_round_to("export", round_to)
    _check_types(model, path, card)
    if not isinstance(model, nn.Module):
        run = Path(model)
        model, saved = load(run)
        card = card or saved
        path = path or (run if run.is_dir() else run.parent) / FORMATS[format].name
    inside = ""
    if (held := held_in(model)) is not None:
        inside, model = held
        if inside and card is not None:
            # What a part of a network answers are no classes.
            card = replace(card, classes=())
    if path is None:
        raise FtwtError("export: no path; give one, for example ftwt.export(model, 'exported')")
    path = Path(path)
    if path.exists():
        raise FtwtError(f"export: {path} exists; give a new path, or remove it first")
    if not path.absolute().parent.is_dir():
        raise FtwtError(f"export: there is no folder {path.parent}; make it first")
    if reduction is not None:
        model = _at(model, reduction)
    found = FORMATS[format].write(model, path, Given(card, example, round_to))
    return replace(found, check=f"its {inside} alone, {found.check}") if inside else found


def _check_types(model: object, path: object, card: object) -> None:
    if not isinstance(model, (nn.Module, Path, str)):
        raise FtwtError(
            f"export: {model!r} is no model; give one, or the path of a run folder or a saved model"
        )
    if not isinstance(path, (Path, str, type(None))):
        raise FtwtError(f"export: path={path!r}; give where to write, such as 'exported'")
    if not isinstance(card, (Card, type(None))):
        raise FtwtError(f"export: card={card!r}; give an ftwt.Card, or leave it out")


def _at(model: nn.Module, reduction: float) -> nn.Module:
    if not isinstance(model, (Gated, Escalating)):
        raise FtwtError(
            f"export: {type(model).__name__} is a plain network, which has no reductions; leave "
            "reduction out"
        )
    return model.at(reduction=reduction)
