"""What a skipping network does, step by step, for a reader."""

from collections.abc import Mapping
from dataclasses import dataclass

from ftwt.runtime.placement import Row


@dataclass(frozen=True)
class Explanation:
    """The steps for one batch size; prints as a table.

    Milliseconds are for the batch, MACs the mean of an image; both are of the calibration, and
    missing where there was none. `totals` has the milliseconds of whole candidates.
    """

    batch: int
    shapes: tuple[tuple[int, ...], ...]
    rows: tuple[Row, ...]
    totals: Mapping[str, float]
    threads: int | None = None

    def __str__(self) -> str:
        shapes = " and ".join("x".join(map(str, shape)) for shape in self.shapes)
        threads = "" if self.threads is None else f", {self.threads} threads"
        lines = [f"batch {self.batch} of {shapes}{threads}"]
        if not self.totals:
            lines += ["not measured: skip(model, calibrate=images) chooses by measurement"]
        for name, ms in sorted(self.totals.items(), key=lambda pair: pair[1]):
            lines += [f"{name}: {ms:.3f} ms"]
        steps = [("step", "kind", "back end", "ms", "MACs")]
        steps += [
            (row.step, row.kind, row.backend, _number(row.ms, ".3f"), _number(row.macs, ",.0f"))
            for row in self.rows
        ]
        widths = [max(len(row[place]) for row in steps) for place in range(5)]
        for row in steps:
            left = (text.ljust(width) for text, width in zip(row[:3], widths[:3], strict=True))
            right = (text.rjust(width) for text, width in zip(row[3:], widths[3:], strict=True))
            lines += ["  ".join([*left, *right]).rstrip()]
        return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
