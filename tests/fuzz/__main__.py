"""`python -m tests.fuzz`: check many random networks, and write the smallest that fails."""

import argparse
import json
import multiprocessing
import re
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from tests.fuzz import worker
from tests.fuzz.checks import check, plain_runs
from tests.fuzz.spec import Spec


def main() -> int:
    """Check `--count` networks from `--seed` on; exit 1 where a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="networks to draw")
    parser.add_argument("--seed", type=int, default=0, help="the first network's seed")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="for scripts")
    parser.add_argument("--record", type=Path, help="where to write what was found, as JSON")
    parser.add_argument("--spec", help="check one network again, as a script's comment names it")
    options = parser.parse_args()
    if options.spec:
        broken, refused = check(eval(options.spec, {"Spec": Spec}), slow=True)
        print(json.dumps({"broken": broken, "refused": refused}, indent=2))
        return bool(broken)
    started = time.monotonic()
    seeds = range(options.seed, options.seed + options.count)
    failures: dict[str, list[Spec]] = {}
    said: dict[str, str] = {}
    refusals: Counter[str] = Counter()
    void = 0
    with multiprocessing.get_context("spawn").Pool(options.jobs, worker.start) as pool:
        for done, (spec, broken, refused) in enumerate(
            pool.imap_unordered(worker.check_seed, seeds, 4), 1
        ):
            void += broken is None
            for name, text in (broken or {}).items():
                kind = f"{name}: {_kind(text)}"
                failures.setdefault(kind, []).append(spec)
                said.setdefault(kind, text)
            refusals.update(f"{name}: {_kind(text)}" for name, text in refused.items())
            if done % 100 == 0 or done == options.count:
                count = sum(map(len, failures.values()))
                print(f"{done}/{options.count}: {count} broken", file=sys.stderr, flush=True)
    record = {
        "networks": options.count,
        "first_seed": options.seed,
        "not_runnable_plain": void,
        "broken": {kind: len(specs) for kind, specs in failures.items()},
        "refused": dict(refusals.most_common()),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "torch": torch.__version__,
    }
    print(json.dumps(record, indent=2))
    if options.record:
        options.record.write_text(json.dumps(record, indent=2) + "\n")
    for i, (kind, specs) in enumerate(failures.items()):
        options.out.mkdir(parents=True, exist_ok=True)
        smallest = _shrunk(min(specs, key=lambda spec: len(spec.blocks)), kind.partition(":")[0])
        file = options.out / f"broken_{i}.py"
        file.write_text(smallest.script(f"{kind}\n{said[kind]}"))
        print(f"wrote {file}: {kind}", file=sys.stderr)
    return bool(failures)


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
