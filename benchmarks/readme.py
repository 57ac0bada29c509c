"""README's picture, table and figures, made from the records.

    python -m benchmarks.readme      # README.md, docs/accuracy-over-cost.svg

What no record tells is left out, and README says that it is not measured yet.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks import pages, results, runtime
from benchmarks.pareto import page as pareto
from benchmarks.pareto import record as arms
from ftwt.tables import of_text

README, PICTURE = pages.ROOT / "README.md", pages.DOCS / "accuracy-over-cost.svg"

Records = Sequence[dict[str, Any]]


class Kind(NamedTuple):
    """A way to spend MACs as README names it, the arms that are one, and its colour."""

    name: str
    arms: tuple[str, ...]
    colour: str


KINDS = (
    Kind("dense", ("dense",), "#7B8794"),
    Kind("fixed masks (static pruning)", pareto.FIXED, "#E69F00"),
    Kind("gates, by image", ("gates", "paper-gates"), "#56B4E9"),
    Kind("budget for each image", ("escalated",), "#0072B2"),
)
WAYS = ("way", "accuracy, %", "drop, points", "MACs saved, %", "ms, one image")


class Point(NamedTuple):
    """A way at one cost, best of its arms: means over seeds; ms where all of it was timed."""

    kind: Kind
    accuracy: float
    reduction: float
    macs: float
    ms: float | None


def text(old: str, records: Records) -> str:
    """README with all that is made from records made anew."""
    chosen = subject(records)
    parts = {
        "picture": caption(chosen, records),
        "table": table(chosen, records),
        "pays": "\n".join(pays()),
    }
    for name, made in parts.items():
        old = pages.with_part(old, name, made)
    return old


def subject(records: Records) -> tuple[str, int, float] | None:
    """Network, epochs and reduction that most kinds are recorded for, smaller networks first."""
    groups: dict[tuple[str, int, float], set[str]] = {}
    for one in records:
        if one["asked"] is not None:
            key = one["network"], one["epochs"], one["asked"]
            groups.setdefault(key, set()).update(
                kind.name for kind in KINDS if one["arm"] in kind.arms
            )
    order = sorted(groups, key=lambda key: (-len(groups[key]), key))
    return order[0] if order else None


def points(records: Records, network: str, epochs: int) -> list[Point]:
    """Each kind at each reduction that was asked for, of one study."""
    groups: dict[tuple[str, float | None], list[dict[str, Any]]] = {}
    for one in records:
        if (one["network"], one["epochs"]) == (network, epochs):
            groups.setdefault((one["arm"], one["asked"]), []).append(one)
    found: dict[tuple[str, float | None], Point] = {}
    for (arm, asked), runs in groups.items():
        kind = next((kind for kind in KINDS if arm in kind.arms), None)
        if kind is None:
            continue
        mean = {
            name: statistics.mean(one[name] for one in runs)
            for name in ("accuracy", "reduction_exact", "macs")
        }
        timed = [one["ms"] for one in runs if one["ms"] is not None]
        ms = statistics.mean(timed) if len(timed) == len(runs) else None
        point = Point(kind, mean["accuracy"], mean["reduction_exact"], mean["macs"], ms)
        best = found.get((kind.name, asked))
        if best is None or point.accuracy > best.accuracy:
            found[kind.name, asked] = point
    return sorted(found.values(), key=lambda point: (KINDS.index(point.kind), point.reduction))


def table(chosen: tuple[str, int, float] | None, records: Records) -> str:
    """Four ways in five columns, at the chosen reduction."""
    by_kind: dict[str, Point] = {}
    if chosen is not None:
        network, epochs, asked = chosen
        here = [one for one in records if one["asked"] in (None, asked)]
        by_kind = {point.kind.name: point for point in points(here, network, epochs)}
    dense = by_kind.pop("dense", None)
    best = max(by_kind.values(), key=lambda point: point.accuracy, default=None)
    rows = [_row(KINDS[0], dense, dense, best)]
    rows += [_row(kind, by_kind.get(kind.name), dense, best) for kind in KINDS[1:]]
    about = (
        f"{chosen[0]}, {chosen[2]:.0%} fewer MACs asked for" if chosen else "No run is recorded yet"
    )
    ms = "ms: mean over test images one at a time, by this library's kernels, narrow networks cut."
    counted = f"{about}; everything that ran is counted. {ms}"
    return f"{of_text(WAYS, rows).markdown()}\n\n{counted}"


def _row(
    kind: Kind, point: Point | None, dense: Point | None, best: Point | None
) -> tuple[str, ...]:
    if point is None:
        return kind.name, "not measured yet", "", "", ""
    drop = (
        "" if dense is None or point is dense else f"{100 * (dense.accuracy - point.accuracy):.2f}"
    )
    saved = f"{100 * point.reduction:.1f}"
    ms = "" if point.ms is None else f"{point.ms:.2f}"
    name = f"**{kind.name}**" if point is best else kind.name
    return name, f"{100 * point.accuracy:.2f}", drop, saved, ms


def caption(chosen: tuple[str, int, float] | None, records: Records) -> str:
    """The picture's place in README."""
    found = shown(chosen, records)
    over = "milliseconds an image" if in_ms(found) else "MACs"
    seen = ", ".join(dict.fromkeys(point.kind.name for point in found))
    what = chosen[0] if chosen else "ResNet-56, CIFAR-10 (JPEG)"
    return f"![Accuracy over {over}: {what}; {seen}](docs/{PICTURE.name})"


def shown(chosen: tuple[str, int, float] | None, records: Records) -> list[Point]:
    """What is drawn: the study that the table is of, or trainings without others to compare."""
    if chosen is not None:
        return points(records, *chosen[:2])
    found = []
    for name, one in results.records().items():
        if name.startswith("resnet56"):
            kind = KINDS[0] if name.endswith("dense") else KINDS[2]
            test = one["test"]
            found.append(Point(kind, test["accuracy"], test["reduction_exact"], test["macs"], None))
    return sorted(found, key=lambda point: (KINDS.index(point.kind), point.reduction))


def in_ms(found: Sequence[Point]) -> bool:
    """Whether the picture can be drawn over milliseconds."""
    return bool(found) and all(point.ms is not None for point in found)


_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 640, 360, 64, 20, 20, 56


def picture(found: Sequence[Point]) -> str:
    """Accuracy over milliseconds (or millions of MACs, where not all is timed), as SVG."""
    timed = in_ms(found)
    across = [point.ms if timed and point.ms else point.macs / 1e6 for point in found]
    up = [100 * point.accuracy for point in found]
    xs, ys = _scale(across, _LEFT, _WIDTH - _RIGHT, zero=True), _scale(up, _HEIGHT - _BOTTOM, _TOP)
    unit = "ms for one image" if timed else "million MACs for one image, all that ran counted"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-family="system-ui, sans-serif" font-size="13">',
        f"<title>Accuracy over {unit}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        *_axes(xs, ys, unit),
        *_marks(found, across, up, xs, ys),
        *_legend(found),
        "</svg>\n",
    ])  # fmt: skip


class _Axis(NamedTuple):
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> Iterator[float]:
        return (self.low + step * (self.high - self.low) / 4 for step in range(5))


def _scale(values: Sequence[float], start: float, end: float, *, zero: bool = False) -> _Axis:
    low, high = (0.0 if zero else min(values)), max(values)
    room = max(0.12 * (high - low), 0.02 * high)
    return _Axis(low if zero else low - room, high + room, start, end)


def _axes(xs: _Axis, ys: _Axis, unit: str) -> Iterator[str]:
    for value in ys.ticks():
        y = ys(value)
        yield f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" stroke="#DDE2E8"/>'
        place = f'x="{_LEFT - 8}" y="{y + 4}" text-anchor="end"'
        yield f'<text {place} fill="#52606d">{value:.1f}</text>'
    for value in xs.ticks():
        label = f"{value:.2f}" if xs.high < 10 else f"{value:.0f}"
        yield (
            f'<text x="{xs(value)}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle" '
            f'fill="#52606d">{label}</text>'
        )
    yield f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 20}" text-anchor="end">{unit}</text>'
    yield f'<text x="{_LEFT}" y="{_TOP - 6}" fill="#1F2933">accuracy, %</text>'


def _marks(
    found: Sequence[Point], across: Sequence[float], up: Sequence[float], xs: _Axis, ys: _Axis
) -> Iterator[str]:
    lines: dict[str, list[str]] = {}
    for point, x, y in zip(found, across, up, strict=True):
        lines.setdefault(point.kind.colour, []).append(f"{xs(x)} {ys(y)}")
    for colour, places in lines.items():
        yield f'<path d="M{"L".join(places)}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for point, x, y in zip(found, across, up, strict=True):
        yield f'<circle cx="{xs(x)}" cy="{ys(y)}" r="6" fill="{point.kind.colour}"/>'


def _legend(found: Sequence[Point]) -> Iterator[str]:
    kinds = list(dict.fromkeys(point.kind for point in found))
    for place, kind in enumerate(kinds):
        x, y = _WIDTH - _RIGHT - 190, _HEIGHT - _BOTTOM - 18 * (len(kinds) - place)
        yield f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{kind.colour}"/>'
        yield f'<text x="{x + 12}" y="{y}" fill="#1F2933">{kind.name}</text>'


def pays() -> Iterator[str]:
    """When skipping pays: speed-ups over the fastest dense engine, from the timings."""
    machines = runtime.records()
    if not machines:
        return
    # One that was timed beside the engines, if there is such a one.
    found = max(machines.values(), key=lambda one: sum(map(runtime.with_engines, one.values())))
    beside = "torch"
    if any(map(runtime.with_engines, found.values())):
        # Lines of torch alone say nothing of the engines.
        beside = "ONNX Runtime, OpenVINO and torch"
        found = {name: one for name, one in found.items() if runtime.with_engines(one)}
    some = next(iter(found.values()))["machine"]
    yield (
        f"On {some['cpu']} with {some['threads']} threads, over the fastest dense form of {beside} "
        "([docs/bench.md](docs/bench.md)):"
    )
    yield ""
    for cases, batch, about in (
        (runtime.SKIPPING, 1, "half of the MACs or so saved, one image at a time"),
        (runtime.SKIPPING, 32, "the same, 32 images a call"),
        (runtime.FULL, 1, "every filter on, so that gates only cost, one image at a time"),
        (runtime.FULL, 32, "the same, 32 images a call"),
    ):
        speedups = [
            _best(found[case.name])
            for case in cases
            if case.name in found and found[case.name]["batch"] == batch
        ]
        if speedups:
            won = sum(one > 1 for one in speedups)
            yield (
                f"- {about}: {min(speedups):.2f} to {max(speedups):.2f} times as fast, faster for "
                f"{won} of {len(speedups)} lines;"
            )


def _best(record: Mapping[str, Any]) -> float:
    """The speed-up of what a user would run: the measured plan."""
    speedups = {row["name"]: row["speedup"] for row in record["rows"]}
    return float(speedups["skip, planned"])


def write() -> None:
    """Write README and its picture."""
    records = arms.read()
    README.write_text(text(README.read_text(), records))
    PICTURE.write_text(picture(shown(subject(records), records)))


if __name__ == "__main__":
    write()
