"""Many runs of one recipe, over masses and seeds: what is missing runs, what is finished stays."""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from ftwt import data
from ftwt.budget.executors import executor_named, run_all
from ftwt.budget.profile import check_rising
from ftwt.errors import FtwtError, check_whole, listed
from ftwt.io import specs, storage
from ftwt.io.files import write_json
from ftwt.io.reading import read_json
from ftwt.training.folders import claimed, status
from ftwt.training.initial import TORCHVISION
from ftwt.training.recipes import Overrides, recipe
from ftwt.training.records import Tested, read_record, read_test
from ftwt.training.runs import train_run
from ftwt.training.tested import evaluate_run

_RECORD = "sweep.json"
# What a row sums up, and where a tested run has it.
_MEASURED = {
    "accuracy": "value", "reduction_exact": "reduction_exact", "reduction_paper": "reduction_paper",
}  # fmt: skip


class _Shared(TypedDict):
    """What the runs of a sweep share."""

    overrides: NotRequired[dict[str, Any]]
    # What earlier versions call them.
    choices: NotRequired[dict[str, Any]]


class _SweepRecord(TypedDict):
    """What is read again of a `sweep.json`."""

    sweep: _Shared


@dataclass(frozen=True)
class Sweep:
    """What all runs of a sweep share; a folder holds runs of one sweep only.

    `overrides` are those of every run, but for its mass and seed.
    """

    recipe: str
    data: str
    init: str
    overrides: Overrides
    limit: int | None = None
    image_size: int | None = None


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep."""

    sweep: Sweep
    mass: float
    seed: int
    out: Path

    @property
    def specification(self) -> Any:
        """The recipe of this run, as `run.json` holds it."""
        overrides = replace(self.sweep.overrides, mass=self.mass, seed=self.seed)
        return json.loads(json.dumps(specs.to_json(recipe(self.sweep.recipe, overrides))))


@dataclass(frozen=True)
class SweepRow:
    """Runs of one mass that differ in their seed: means and sample deviations, fractions.

    `accuracy` is the task's `score`, whatever that is. A deviation is None where there is one run.
    """

    mass: float
    runs: int
    accuracy: float
    std_accuracy: float | None
    reduction_exact: float
    std_reduction_exact: float | None
    reduction_paper: float
    std_reduction_paper: float | None
    score: str = "accuracy"


def run_sweep(
    sweep: Sweep,
    out: Path,
    masses: Sequence[float],
    *,
    seeds: int = 3,
    jobs: int = 1,
    executor: Executor | str = "local",
    done: Callable[[SweepRun], None] = lambda job: None,
) -> dict[str, Any]:
    """Train and test one run for each mass and each seed from 0, and sum them up.

    Runs are those of `ftwt train`, in `OUT/massM-seedS`. Those that are finished and tested are
    left as they are, those that were interrupted go on; so a sweep that was stopped, or that gets
    more masses or seeds, runs what is missing. Writes `sweep.json` (all rows) and, with
    matplotlib, `tradeoff.png` and `.svg`.

    Args:
        sweep: what all runs share.
        out: a folder, new or of the same sweep.
        masses: heatmap masses, rising.
        seeds: runs for each mass.
        jobs: runs at a time on this machine, each in a process with its share of the threads.
        executor: where runs are computed instead: any executor of `concurrent.futures`, which stays
            open, or a name as for `executors.executor_named`. Its workers see the same files.
        done: called after each run that was not finished before.

    Raises:
        FtwtError: `out` holds another sweep or a run of another recipe, masses that do not rise,
            nothing to start from, or a run that failed (the others still run).
    """
    _check(masses, seeds, jobs)
    planned = [
        SweepRun(sweep, mass, seed, out / f"mass{mass:g}-seed{seed}")
        for mass in masses
        for seed in range(seeds)
    ]
    _check_folder(sweep, out, planned)
    if sweep.init != TORCHVISION and not all(map(_finished, planned)):
        storage.model_file(Path(sweep.init))
    own = (
        nullcontext(executor) if isinstance(executor, Executor) else executor_named(executor, jobs)
    )
    with claimed(out, "sweep"), own as pool:
        return _run(sweep, out, planned, pool, done)


def summed_up(out: Path) -> tuple[SweepRow, ...]:
    """Mean and deviation over seeds for each mass with a tested run in a sweep's folder."""
    by_mass: dict[float, list[Tested]] = {}
    for folder in out.glob("mass*-seed*"):
        if (folder / "eval.json").is_file():
            mass = _mass(folder)
            by_mass.setdefault(mass, []).append(read_test(folder, "sweep"))
    rows = []
    for mass, runs in sorted(by_mass.items()):
        values: dict[str, Any] = {}
        for name, field in _MEASURED.items():
            found: list[float] = [getattr(run, field) for run in runs]
            values[name] = statistics.fmean(found)
            values[f"std_{name}"] = statistics.stdev(found) if len(found) > 1 else None
        rows.append(SweepRow(mass=mass, runs=len(runs), score=runs[0].score, **values))
    return tuple(rows)


def _run(
    sweep: Sweep,
    out: Path,
    planned: Sequence[SweepRun],
    pool: Executor,
    done: Callable[[SweepRun], None],
) -> dict[str, Any]:
    """Run what is missing, and sum up all."""
    write_json(out / _RECORD, {"sweep": _plain(sweep), **_read(out)})
    missing = [job for job in planned if not _finished(job)]
    failed = run_all(pool, run_job, {job: job.out.name for job in missing}, done)
    record: dict[str, Any] = {
        "sweep": _plain(sweep),
        "dense_accuracy": _dense_accuracy(planned),
        "rows": [asdict(row) for row in summed_up(out)],
    }
    write_json(out / _RECORD, record)
    if failed:
        raise FtwtError(
            f"sweep: {listed(failed, most=1)}; the other runs are finished, call again to run what "
            "is missing"
        )
    return record


def _mass(folder: Path) -> float:
    try:
        return float(folder.name.removeprefix("mass").partition("-seed")[0])
    except ValueError:
        raise FtwtError(f"sweep: {folder} is none of its runs; move it away") from None


def _check(masses: Sequence[float], seeds: int, jobs: int) -> None:
    check_rising("sweep", "masses", masses, "0.8,0.9")
    for name, value in (("seeds", seeds), ("jobs", jobs)):
        check_whole("sweep", name, value)


def _check_folder(sweep: Sweep, out: Path, planned: Iterable[SweepRun]) -> None:
    """Refuse a folder of another sweep before anything runs."""
    if out.is_dir() and not (out / _RECORD).is_file() and any(out.iterdir()):
        raise FtwtError(
            f"sweep: {out} is not empty and holds no sweep; nothing was changed, give a new folder"
        )
    was, now = _flat(_read(out).get("sweep", _plain(sweep))), _flat(_plain(sweep))
    for name in now:
        if was.get(name) != now[name]:
            raise FtwtError(
                f"sweep: {out} holds runs of another sweep, with {name}={was.get(name)!r} instead "
                f"of {now[name]!r}; give a new folder, or the same options as before"
            )
    for job in planned:
        wanted = job.specification
        file = job.out / "run.json"
        record = read_record(job.out, "sweep") if file.is_file() else None
        if record is not None and specs.renewed(record.get("specification")) != wanted:
            raise FtwtError(
                f"sweep: {job.out} is a run of another recipe ({record.get('recipe')}); give a new "
                "folder, or move it away"
            )


def _flat(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides by themselves: which of them differ is the answer."""
    held = dict(sweep)
    overrides = held.pop("overrides", None) or held.pop("choices", {})
    return {**held, **overrides}


def _finished(job: SweepRun) -> bool:
    return (job.out / "eval.json").is_file() and status(job.out) == "finished"


def run_job(job: SweepRun) -> None:
    """Train one run, or go on with it, and test it."""
    sweep = job.sweep
    begun = (job.out / "run.json").is_file()
    if not begun or status(job.out) != "finished":
        overrides = replace(sweep.overrides, mass=job.mass, seed=job.seed)
        dataset = data.load_any(sweep.data, size=sweep.image_size, limit=sweep.limit)
        train_run(
            recipe(sweep.recipe, overrides), dataset, job.out,
            name=sweep.recipe, init=sweep.init, resume=begun,
        )  # fmt: skip
    evaluate_run(job.out, sweep.data, size=sweep.image_size)


def _dense_accuracy(planned: Iterable[SweepRun]) -> float | None:
    for job in planned:
        if (job.out / "eval.json").is_file():
            return read_test(job.out, "sweep").dense
    return None


def _plain(sweep: Sweep) -> dict[str, Any]:
    """The sweep as JSON gives it back; mass and seed are each run's own."""
    value: dict[str, Any] = json.loads(json.dumps(asdict(sweep)))
    for name in ("mass", "seed"):
        del value["overrides"][name]
    return value


def _read(out: Path) -> dict[str, Any]:
    file = out / _RECORD
    if not file.is_file():
        return {}
    mend = "restore it, or give a new folder"
    return dict(read_json(file, _SweepRecord, called="sweep", mend=mend))
