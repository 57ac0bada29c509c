"""Which back end runs which step: a value that can be printed, saved and used again."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ftwt.errors import FtwtError
from ftwt.runtime.program import Conv, Gate, Linear, Program, Step, output_of

_FORMAT = 1


@dataclass(frozen=True)
class Row:
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
    """The rows for one batch size and image size, and what whole candidates took, in ms."""

    batch: int
    shapes: tuple[tuple[int, ...], ...]
    threads: int
    rows: tuple[Row, ...]
    totals: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """Back ends for all batch sizes that were measured, of one model."""

    model: str
    placed: tuple[Placed, ...] = ()

    def json(self) -> dict[str, Any]:
        """As a JSON object, which `Plan.from_json` reads."""
        return {"format": _FORMAT, **asdict(self)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Plan":
        """Read what `json` made.

        Raises:
            FtwtError: it is no plan, or one of another version.
        """
        try:
            if value["format"] != _FORMAT:
                raise KeyError("format")
            return Plan(value["model"], tuple(_placed(one) for one in value["placed"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FtwtError(
                f"Plan.from_json: this is no plan of this version of ftwt ({error}); "
                "make one with skip(model, calibrate=images).plan.json()"
            ) from error

    def with_placed(self, new: Placed) -> "Plan":
        """With one batch size measured, in place of what was known of it."""
        kept = (one for one in self.placed if (one.batch, one.shapes) != (new.batch, new.shapes))
        return replace(self, placed=(*kept, new))

    def for_batch(self, batch: int, shapes: tuple[tuple[int, ...], ...]) -> Placed | None:
        """What was measured for the nearest batch size of these images, if anything was."""
        fitting = [one for one in self.placed if one.shapes == shapes]
        return min(fitting, key=lambda one: abs(math.log(one.batch / batch)), default=None)


def fingerprint(program: Program) -> str:
    """What tells one network's steps from another's; weights do not matter."""
    rows = [
        [kind_of(step), label(step), getattr(output_of(step), "shape", ())]
        for step in program.steps
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def rows_of(program: Program, backends: Sequence[str]) -> tuple[Row, ...]:
    """Rows of which nothing is measured yet."""
    return tuple(
        Row(label(step), kind_of(step), backend)
        for step, backend in zip(program.steps, backends, strict=True)
    )


def label(step: Step) -> str:
    """A step's name for a reader."""
    return f"gate of {step.site}" if isinstance(step, Gate) else step.name


def kind_of(step: Step) -> str:
    """What a step does, in a word or two."""
    match step:
        case Conv():
            rows, columns = step.weight.shape[2:]
            form = "depthwise" if step.weight.shape[1] == 1 < step.groups else "conv"
            after = f" + {step.pool.kind} pool" if step.pool is not None else ""
            return f"{form} {rows}x{columns}{after}"
        case Linear():
            return "linear"
        case _:
            return type(step).__name__.lower()


def _placed(value: Mapping[str, Any]) -> Placed:
    return Placed(
        batch=int(value["batch"]),
        shapes=tuple(tuple(shape) for shape in value["shapes"]),
        threads=int(value["threads"]),
        rows=tuple(Row(**row) for row in value["rows"]),
        totals=dict(value["totals"]),
    )
