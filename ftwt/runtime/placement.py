"""Which back end runs which step: a value that can be printed, saved and used again."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from ftwt.errors import FtwtError
from ftwt.io.reading import misfit_of_fields
from ftwt.runtime.program import Conv, GateRows, GateStep, Linear, Program, Step, output_of
from ftwt.tables import Column, Table, count, fixed

_FORMAT = 1
_Value = TypeVar("_Value", bound="PlacedStep | Placed | Placement")
# Batches this many times larger or smaller than a measured one are placed as it was.
_NEAR = 4


@dataclass(frozen=True)
class PlacedStep:
    """One step: what it is, where it runs, and what that took when it was measured.

    `ms` is for the whole batch, `macs` the mean of an image. None where nothing was measured.
    """

    step: str
    kind: str
    backend: str
    ms: float | None = None
    macs: float | None = None


@dataclass(frozen=True)
class Placed:
    """What runs where for one batch size and image size, step by step; prints as a table.

    Milliseconds are for the batch, MACs the mean of an image; both are of the calibration, and
    missing where there was none. `totals` has the milliseconds of whole candidates, of which the
    rows are those of `chosen`.
    """

    batch: int
    shapes: tuple[tuple[int, ...], ...]
    rows: tuple[PlacedStep, ...]
    totals: Mapping[str, float] = field(default_factory=dict)
    threads: int | None = None
    chosen: str = ""

    def __str__(self) -> str:
        shapes = " and ".join("x".join(map(str, shape)) for shape in self.shapes)
        threads = "" if self.threads is None else f", {self.threads} threads"
        lines = [f"batch {self.batch} of {shapes}{threads}"]
        if not self.totals:
            lines += ["not measured: skip(model, calibrate=images) chooses by measurement"]
        for name, ms in sorted(self.totals.items(), key=lambda pair: pair[1]):
            lines += [f"{name}: {ms:.3f} ms" + (", chosen" if name == self.chosen else "")]
        return "\n".join([*lines, str(Table(_COLUMNS, self.rows))])


_COLUMNS = (
    Column("step", "step"),
    Column("kind", "kind"),
    Column("backend", "back end"),
    Column("ms", "ms", fixed(3)),
    Column("macs", "MACs", count),
)


@dataclass(frozen=True)
class Placement:
    """Back ends for all batch sizes that were measured, of one model."""

    model: str
    placed: tuple[Placed, ...] = ()

    def json(self) -> dict[str, Any]:
        """As a JSON object, which `Placement.from_json` reads."""
        return {"format": _FORMAT, **asdict(self)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Placement":
        """Read what `json` made.

        Raises:
            FtwtError: it is no plan, or one of another version.
        """
        try:
            if value["format"] != _FORMAT:
                raise ValueError(f"its format is {value['format']!r}, this version reads {_FORMAT}")
            placed = tuple(_placed(one) for one in value["placed"])
            return _checked(Placement(value["model"], placed))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            raise FtwtError(
                f"Placement.from_json: this is no plan of this version of ftwt ({reason}); "
                "make one with skip(model, calibrate=images).plan.json()"
            ) from None

    def with_placed(self, new: Placed) -> "Placement":
        """With one batch size measured, in place of what was known of it."""
        kept = (one for one in self.placed if (one.batch, one.shapes) != (new.batch, new.shapes))
        return replace(self, placed=(*kept, new))

    def for_batch(self, batch: int, shapes: tuple[tuple[int, ...], ...]) -> Placed | None:
        """What was measured for a batch of about this size of these images, if anything was.

        What is fastest for one image says nothing of a hundred: not beyond `_NEAR` times.
        """
        far = [(abs(math.log(one.batch / batch)), one) for one in self.placed]
        near = [
            pair for pair in far if pair[1].shapes == shapes and pair[0] <= math.log(_NEAR) + 1e-9
        ]
        return min(near, key=lambda pair: pair[0])[1] if near else None


def fingerprint(program: Program) -> str:
    """What tells one network's steps from another's; weights do not matter."""
    rows = [
        [step_kind(step), label(step), getattr(output_of(step), "shape", ())]
        for step in program.steps
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def rows_of(program: Program, backends: Sequence[str]) -> tuple[PlacedStep, ...]:
    """Rows of which nothing is measured yet."""
    return tuple(
        PlacedStep(label(step), step_kind(step), backend)
        for step, backend in zip(program.steps, backends, strict=True)
    )


def label(step: Step) -> str:
    """A step's name for a reader."""
    return f"gate of {step.site}" if isinstance(step, GateStep) else step.name


def step_kind(step: Step) -> str:
    """What a step does, in a word or two."""
    match step:
        case Conv():
            rows, columns = step.weight.shape[2:]
            form = "depthwise" if step.weight.shape[1] == 1 < step.groups else "conv"
            after = f" + {step.pool.kind} pool" if step.pool is not None else ""
            return f"{form} {rows}x{columns}{after}"
        case Linear():
            return "linear"
        case GateRows():
            return "gate, several rows"
        case _:
            return type(step).__name__.lower()


def _placed(value: Mapping[str, Any]) -> Placed:
    placed = Placed(
        batch=value["batch"],
        shapes=tuple(tuple(shape) for shape in value["shapes"]),
        threads=value.get("threads"),
        rows=tuple(_checked(PlacedStep(**row)) for row in value["rows"]),
        totals=dict(value["totals"]),
        chosen=value.get("chosen", ""),
    )
    if _checked(placed).batch < 1:
        raise ValueError(f"it was made for a batch of {placed.batch}")
    return placed


def _checked(value: _Value) -> _Value:
    """A dataclass whose fields are of their types."""
    wrong = misfit_of_fields(type(value), vars(value))
    if wrong is not None:
        raise ValueError(wrong)
    return value
