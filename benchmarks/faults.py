"""Faults in numbers: `python -m benchmarks.faults` writes their record and docs/trust.md's tables.

    python -m benchmarks.faults --count 200 --seed 0   # all, from nothing
    python -m benchmarks.faults --resume               # what the record lacks
    python -m benchmarks.faults --page-only            # the page from the records as they are

Every kind of file that is read is damaged (those of programs in C under sanitizers), every process
that writes is killed, and a skipping network is called often. The record is written after each, so
a run that is stopped loses little. The exit status is 1 where a damaged file was neither
refused nor read to something sound, a killed process ended otherwise, or calls kept memory.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import pages, watched
from benchmarks.pages import read_object
from ftwt.tables import of_text

RECORD, FUZZ = pages.RECORDS / "faults.json", pages.RECORDS / "fuzz.json"
PAGE = pages.DOCS / "trust.md"
_MARK = "<!-- What follows is written by `make faults`. -->\n"
_KILLS, _CALLS = 30, 10_000
# Native files with other numbers, for each damaged file of another kind.
_CRAFTED = 50
# KiB; allocators keep a little.
_GROWTH = 4096


def main() -> int:
    """Try all faults, and write the record and the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="damaged files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="only what the record lacks")
    parser.add_argument("--page-only", action="store_true", help="from the records as they are")
    options = parser.parse_args()
    if not options.page_only:
        _try(options.count, options.seed, resume=options.resume)
    record = read_object(RECORD)
    checks = read_object(watched.RECORD) if watched.RECORD.exists() else {}
    PAGE.write_text(page(record, read_object(FUZZ), checks, PAGE.read_text()))
    for line in failures(record):
        print(line)
    return 1 if failures(record) else 0


def failures(record: Mapping[str, Any]) -> list[str]:
    """What should not have happened."""
    broken = [
        f"{kind}: {line}" for kind, found in record["damaged"].items() for line in found["broken"]
    ]
    other = [f"{name} ended otherwise" for name, one in record["killed"].items() if one["other"]]
    grown = ["calls kept memory"] if record.get("calls", {}).get("grown_kib", 0) > _GROWTH else []
    return [*broken, *other, *grown]


def _try(count: int, seed: int, *, resume: bool) -> None:
    import torch

    from tests.export.damage import damaged
    from tests.faults.kills import WORKS, killed
    from tests.faults.kinds import KINDS
    from tests.faults.trial import counts

    torch.set_num_threads(1)
    record: dict[str, Any] = {"count": count, "seed": seed, "kills": _KILLS}
    record |= {"damaged": {}, "killed": {}, "seconds": 0.0}
    if resume and RECORD.exists():
        record = read_object(RECORD)
    clock = _clock()

    def keep() -> None:
        nonlocal clock
        record["seconds"] = round(record["seconds"] + _clock() - clock, 1)
        clock = _clock()
        pages.write(RECORD, record)

    with tempfile.TemporaryDirectory() as name:
        for kind in KINDS:
            if kind.name in record["damaged"]:
                continue
            folder = Path(name) / kind.name
            folder.mkdir()
            found, broken = counts(kind, folder, record["count"], record["seed"])
            record["damaged"][kind.name] = {**found, "broken": broken}
            print(f"{kind.name}: {dict(found)}", flush=True)
            keep()
        if "native" not in record:
            folder = Path(name) / "native"
            folder.mkdir()
            record["native"] = damaged(folder, _CRAFTED * record["count"], record["seed"])
            print(f"native: {record['native']}", flush=True)
            keep()
        for work in WORKS:
            if work.name in record["killed"]:
                continue
            folder = Path(name) / work.name
            folder.mkdir()
            ends = killed(work, folder, record["kills"], record["seed"])
            record["killed"][work.name] = {"killed": 0, "same": 0, "other": 0} | ends
            print(f"{work.name}: {dict(ends)}", flush=True)
            keep()
    record["calls"] = _called(_CALLS)
    keep()


def _called(times: int) -> dict[str, int]:
    """How the process's memory grows over calls of a skipping network."""
    import ftwt
    from tests.faults.kinds import IMAGES, gated

    fast = ftwt.runtime.skip(gated())
    for at in range(times // 10):
        fast(IMAGES[: 1 + at % 2])
    before = _resident_kib()
    for at in range(times):
        fast(IMAGES[: 1 + at % 2])
    return {"times": times, "grown_kib": _resident_kib() - before}


def _resident_kib() -> int:
    held = int(Path("/proc/self/statm").read_text().split()[1])
    return held * os.sysconf("SC_PAGE_SIZE") // 1024


def _clock() -> float:
    """Seconds of the processor, of children too."""
    return sum(os.times()[:4]) if hasattr(os, "times") else time.process_time()


def page(
    record: Mapping[str, Any], fuzz: Mapping[str, Any], checks: Mapping[str, Any], text: str
) -> str:
    """The page with its tables made anew; what stands before them is written by hand."""
    ends = ("refused", "same", "other")
    damaged = [
        (kind, *(str(found.get(end, 0)) for end in ends), str(len(found["broken"])))
        for kind, found in record["damaged"].items()
    ]
    killed_ones = [
        (f"`{name}`", f"{one['killed']} of {record['kills']}", str(one["same"]), str(one["other"]))
        for name, one in record["killed"].items()
    ]
    lines = [
        "## Figures",
        "",
        f"Of each kind of file {record['count']} damaged ones, from seed {record['seed']}: "
        "refused in one line; read to the same values (a change that says nothing, such as a "
        "name that nobody reads); read to other ones, which are finite and what the file now "
        "says; broken (anything else).",
        "",
        of_text(("file", *ends, "broken"), damaged).markdown(),
        "",
    ]
    if "native" in record:
        rows = [
            (what, f"{one['files']:,}", f"{one['files'] - one['ran']:,}", f"{one['ran']:,}")
            for what, one in record["native"].items()
        ]
        lines += [
            "Files of programs in C (`model.ftwt`) were opened and run under the address, "
            "undefined-behaviour and leak sanitizers, which found nothing. What ran has another "
            "number where any will do, such as a weight.",
            "",
            of_text(("`model.ftwt`", "files", "refused", "ran"), rows).markdown(),
            "",
        ]
    if killed_ones:
        heads = ("command", "killed before its end", "ended the same", "ended otherwise")
        lines += [
            f"Each command was killed (SIGKILL) {record['kills']} times, each time after a random "
            "part of the time that it takes, and run to its end after up to three kills.",
            "",
            of_text(heads, killed_ones).markdown(),
            "",
        ]
    if "calls" in record:
        calls = record["calls"]
        lines += [
            f"{calls['times']:,} calls of a skipping network: the process grew by "
            f"{calls['grown_kib']} KiB.",
            "",
        ]
    lines += [
        f"`make fuzz`: {fuzz['networks']:,} random networks as people write them, from seed "
        f"{fuzz['first_seed']}, in {fuzz['processor_minutes']:.0f} minutes of one processor: "
        f"{sum(fuzz['broken'].values())} differences. {_refused(fuzz)}",
        "",
    ]
    if checks:
        lines += ["Long checks of the kernels:", "", watched.table(checks), ""]
    return text.partition(_MARK)[0] + _MARK + "\n".join(lines)


def _refused(fuzz: Mapping[str, Any]) -> str:
    parts = [f"{times:,} times `{kind}`" for kind, times in fuzz["refused"].items()]
    return f"Refused: {'; '.join(parts)}." if parts else "Nothing was refused."


if __name__ == "__main__":
    raise SystemExit(main())
