"""`python -m tests.fuzz`: check many random networks, and write the smallest that fails.

What was found of each network is kept in `--out`, so a run that was stopped goes on where it was.
Empty the folder after a change of the library.
"""

import argparse
import json
import multiprocessing
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tests.fuzz import worker
from tests.fuzz.checks import check, plain_runs
from tests.fuzz.spec import Spec, draw
from tests.fuzz.worker import Found


def main() -> int:
    """Check `--count` networks from `--seed` on; exit 1 where a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="networks to draw")
    parser.add_argument("--seed", type=int, default=0, help="the first network's seed")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="results and scripts")
    parser.add_argument("--record", type=Path, help="where to write what was found, as JSON")
    parser.add_argument("--spec", help="check one network again, as a script's comment names it")
    options = parser.parse_args()
    if options.spec:
        broken, refused = check(eval(options.spec, {"Spec": Spec}), slow=True)
        print(json.dumps({"broken": broken, "refused": refused}, indent=2))
        return bool(broken)
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = range(options.seed, options.seed + options.count)
    found = []
    for one in _found(seeds, options.out / "found.jsonl", options.jobs):
        found.append(one)
        if len(found) % 100 == 0 or len(found) == options.count:
            _write(_record(found, options.seed), options.record)
            count = sum(map(bool, (each.broken for each in found)))
            print(f"{len(found)}/{options.count}: {count} broken", file=sys.stderr, flush=True)
    print(json.dumps(_record(found, options.seed), indent=2))
    failures: dict[str, list[tuple[Spec, str]]] = {}
    for one in found:
        for name, text in (one.broken or {}).items():
            failures.setdefault(f"{name}: {_kind(text)}", []).append((draw(one.seed), text))
    for i, (kind, specs) in enumerate(failures.items()):
        spec, text = min(specs, key=lambda pair: len(pair[0].blocks))
        file = options.out / f"broken_{i}.py"
        file.write_text(_shrunk(spec, kind.partition(":")[0]).script(f"{kind}\n{text}"))
        print(f"wrote {file}: {kind}", file=sys.stderr)
    return bool(failures)


def _found(seeds: Sequence[int], file: Path, jobs: int) -> Iterator[Found]:
    """What is known of each seed already, and then what is found of the others."""
    lines = file.read_text().splitlines() if file.exists() else []
    known = {one.seed: one for one in (Found(**json.loads(line)) for line in lines)}
    yield from (known[seed] for seed in seeds if seed in known)
    left = [seed for seed in seeds if seed not in known]
    with (
        file.open("a") as log,
        multiprocessing.get_context("spawn").Pool(jobs, worker.start) as pool,
    ):
        for one in pool.imap_unordered(worker.check_seed, left):
            log.write(json.dumps(asdict(one)) + "\n")
            log.flush()
            yield one


def _record(found: Sequence[Found], first: int) -> dict[str, Any]:
    def kinds(name: str) -> dict[str, int]:
        texts = [(getattr(one, name) or {}).items() for one in found]
        count = Counter(f"{check}: {_kind(text)}" for each in texts for check, text in each)
        return dict(count.most_common())

    return {
        "networks": len(found),
        "first_seed": first,
        "exported": sum(one.exported for one in found),
        "not_runnable_plain": sum(one.broken is None for one in found),
        "broken": kinds("broken"),
        "refused": kinds("refused"),
        "processor_minutes": round(sum(one.seconds for one in found) / 60, 1),
        "torch": torch.__version__,
    }


def _write(record: dict[str, Any], file: Path | None) -> None:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record, indent=2) + "\n")


def _kind(text: str) -> str:
    """A message without what differs from network to network."""
    line = text.splitlines()[0] if text else ""
    return re.sub(r"0x\w+|\d[\d.,e+-]*", "N", line)[:150]


def _shrunk(spec: Spec, name: str) -> Spec:
    """The smallest network found that breaks the same promise."""
    while True:
        for smaller in spec.smaller():
            if plain_runs(smaller) and name in check(smaller, slow=name.startswith("exported"))[0]:
                spec = smaller
                break
        else:
            return spec


if __name__ == "__main__":
    sys.exit(main())
