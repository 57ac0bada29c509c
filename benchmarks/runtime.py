"""The table of docs/bench.md: what skipping saves in milliseconds, and training steps cost more.

    python -m benchmarks.runtime list                     # the cases by name
    python -m benchmarks.runtime run vgg16_bn-73-b1 ...   # measures cases; all of them by default
    python -m benchmarks.runtime write                    # docs/bench.md

A record in benchmarks/records/runtime/SET/ is what `ftwt bench ... --json` printed, the command and
the date; SET is the instruction set that torch found, so that machines stand beside each other.
"""

import argparse
import datetime
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from benchmarks import overhead, pages
from ftwt.tables import of_text

RECORDS, PAGE = pages.RECORDS / "runtime", pages.DOCS / "bench.md"
_THREADS = 2


@dataclass(frozen=True)
class Case:
    """One network at an exact MAC reduction and a batch; without a reduction every filter runs."""

    network: str
    reduction: float | None
    batch: int
    rounds: int
    gates: str = "paper"

    @property
    def name(self) -> str:
        """Unique, and the record's name."""
        cut = "all" if self.reduction is None else str(round(100 * self.reduction))
        light = "" if self.gates == "paper" else f"-{self.gates}"
        return f"{self.network.partition('-')[2]}-{cut}{light}-b{self.batch}"

    @property
    def command(self) -> list[str]:
        """The command that measures it."""
        activity: dict[str, float | str] = (
            {"--fraction": 1.0} if self.reduction is None else {"--reduction": self.reduction}
        )
        options = activity | {
            "--batch": self.batch, "--threads": _THREADS, "--repeats": self.rounds,
            **({} if self.gates == "paper" else {"--gates": self.gates}),
        }  # fmt: skip
        return ["bench", self.network, *(str(one) for pair in options.items() for one in pair)]


def _skipping() -> tuple[Case, ...]:
    rows = (
        # Network, reduction, gates, rounds at batch 1 and 32.
        ("cifar10-vgg16_bn", 0.73, "paper", (25, 21)),
        ("cifar10-vgg16_bn", 0.50, "paper", (25, 21)),
        ("cifar10-resnet56", 0.55, "paper", (25, 21)),
        ("cifar10-mobilenet_v1", 0.65, "paper", (25, 21)),
        ("cifar10-mobilenet_v1", 0.65, "light", (25, 21)),
        ("imagenet-resnet18", 0.50, "paper", (15, 5)),
        ("imagenet-resnet34", 0.50, "paper", (15, 5)),
        ("imagenet-mobilenet_v2", 0.40, "paper", (15, 5)),
        ("imagenet-mobilenet_v2", 0.40, "light", (15, 5)),
    )
    return tuple(
        Case(net, reduction, batch, rounds[place], gates)
        for place, batch in enumerate((1, 32))
        for net, reduction, gates, rounds in rows
    )


def _full() -> tuple[Case, ...]:
    rows = (
        # Network, rounds at batch 1 and 32.
        ("cifar10-vgg16_bn", (25, 21)),
        ("cifar10-resnet56", (25, 21)),
        ("cifar10-mobilenet_v1", (25, 21)),
        ("imagenet-resnet18", (15, 3)),
        ("imagenet-resnet34", (15, 3)),
        ("imagenet-mobilenet_v2", (15, 3)),
    )
    return tuple(
        Case(net, None, batch, rounds[place])
        for place, batch in enumerate((1, 32))
        for net, rounds in rows
    )


SKIPPING, FULL = _skipping(), _full()
CASES = (*SKIPPING, *FULL)
# Records of a machine: by case, in the order of the tables.
Found: TypeAlias = dict[str, dict[str, Any]]


def run(case: Case) -> dict[str, Any]:
    """Measure a case in a process of its own, and record it."""
    code = "from ftwt_cli.app import main; main()"
    command = [sys.executable, "-c", code, *case.command, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case.name}: {done.stderr.strip()}")
    record = {
        "command": ["ftwt", *case.command],
        "recorded": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **json.loads(done.stdout),
    }
    folder = RECORDS / record["machine"]["vector_instructions"].lower()
    pages.write(folder / f"{case.name}.json", record)
    return record


def records() -> dict[str, Found]:
    """Recorded cases by machine, the machine that was recorded last first."""
    found = {
        folder.name: pages.read_all(folder, (case.name for case in CASES))
        for folder in RECORDS.glob("*/")
    }
    order = sorted(found, key=lambda name: (_dates(found[name])[1], name), reverse=True)
    return {name: found[name] for name in order if found[name]}


def _dates(found: Found) -> tuple[str, str]:
    """First and last; the oldest records have none."""
    dates = [record.get("recorded", "") for record in found.values()]
    return min(dates, default=""), max(dates, default="")


def page(machines: dict[str, Found], steps: Found) -> str:
    """The whole page."""
    parts = [
        "# Speed",
        "Made by `make bench` from the records in `benchmarks/records/`; do not edit.",
        "Each line is one run of `ftwt bench`, in which all forms of the network take turns. The "
        "weights are random. The gates are the paper's (`gates.PooledLinear`), or *light* ones, of "
        "low rank where the paper's cost much; they are random but for the biases, which are set "
        "on drawn images so that the mean exact MAC reduction, gates counted, is as stated; other "
        "filters run for each image. Speed-up is over the fastest "
        "dense form, *best dense*, of all that were timed in that run: torch (eager, batch norms "
        "folded, `torch.compile`), ONNX Runtime, OpenVINO. It is the median over rounds of the "
        "ratio within a round. *Kernels alone* is the speed-up of this library's kernels with "
        "every filter on and no gates, *skipping adds* what skipping makes of that. The *sliced "
        "bound* is the plain network cut beforehand to as many channels in each layer as an "
        "ordinary image keeps, without gates; *share of the bound* is its time, run by the same "
        "kernels, over that of the native back end. Columns without a number were not measured in "
        "that run. *others* is the share of the "
        "processors' time that other programs took meanwhile: lines where it is not near 0 are "
        "disturbed, all forms of a network alike. What a neighbour on the same hardware takes from "
        "a virtual machine is not in it.",
    ]
    for name, found in machines.items():
        parts += _machine(name, found)
    if steps:
        parts += [
            "## A training step",
            "A training step of the gated network (decoupled, the paper's gates and targets) over "
            "one of the plain network, batch 128: median of the ratios of paired steps, and their "
            f"quartiles. {_described(next(iter(steps.values()))['machine'])}.",
            _steps(steps),
        ]
    commands = "\n".join(" ".join(["ftwt", *case.command]) for case in CASES)
    parts += ["## Commands", f"```\n{commands}\n```"]
    return "\n\n".join(parts) + "\n"


def _machine(name: str, found: Found) -> list[str]:
    """What was recorded on one machine."""
    names = list(dict.fromkeys(row["name"] for record in found.values() for row in record["rows"]))
    # A speed-up over torch alone says nothing of the engines, so it stands by itself.
    beside = {key: record for key, record in found.items() if with_engines(record)}
    alone = {key: record for key, record in found.items() if key not in beside}
    parts = [f"## {name.upper()}"]
    for about, chosen in (
        ("Beside ONNX Runtime, OpenVINO and torch", beside),
        ("Beside torch alone, with older kernels", alone),
    ):
        if not chosen:
            continue
        some = next(iter(chosen.values()))["machine"]
        parts += [f"### {about}, on {name.upper()}", f"{_described(some)}. {_recorded(chosen)}"]
        if any(case.name in chosen for case in SKIPPING):
            parts.append(_speedups(chosen, SKIPPING))
        if any(case.name in chosen for case in FULL):
            parts += [
                "Every filter runs, so the gates are to no avail, and cost what they cost:",
                _speedups(chosen, FULL),
            ]
    parts += ["Milliseconds, medians over the rounds:", _milliseconds(found, names)]
    light = [case for case in SKIPPING if case.gates == "light" and case.batch == 1]
    for case in light:
        if layers := found.get(case.name, {}).get("layers"):
            about = f"{case.network}, light gates, batch 1, by kind of step, native"
            parts += [f"Where the time of one call goes: {about}.", _by_kind(layers)]
    return parts


def _recorded(found: Found) -> str:
    first, last = _dates(found)
    if not first:
        return "Recorded before records had a date."
    return f"Recorded {first}." if first == last else f"Recorded {first} to {last}."


def with_engines(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a run that timed engines beside torch."""
    return any("onnxruntime" in row["name"] for row in record["rows"])


def _described(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{key} {value}" for key, value in machine["versions"].items())
    return f"{machine['cpu']}, {machine['threads']} threads, {versions}"


def _speedups(found: Found, cases: Sequence[Case]) -> str:
    heads = (
        "network", "gates", "batch", "MAC reduction, %", "MAC ratio", "best dense",
        "speed-up, native", "speed-up, planned", "kernels alone", "skipping adds",
        "share of the bound", "others, %",
    )  # fmt: skip
    rows = []
    for case in cases:
        if case.name not in found:
            continue
        record = found[case.name]
        speed = {row["name"]: row["speedup"] for row in record["rows"]}
        # Where torch ran the cut network, its time is no bound of other kernels.
        share = record["share_of_bound"] if "best_bound" in record else None
        rows.append((
            case.network, case.gates, str(case.batch), f"{100 * record['reduction_exact']:.1f}",
            f"{record['mac_ratio']:.2f}", record["best_dense"].removeprefix("dense, "),
            _number(speed.get("skip, native")), _number(speed.get("skip, planned")),
            _number(record.get("engine_alone")), _number(record.get("skipping_adds")),
            _number(share), _others(record),
        ))  # fmt: skip
    return of_text(heads, rows).markdown()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _others(record: dict[str, Any]) -> str:
    return "-" if record["others"] is None else f"{100 * record['others']:.0f}"


def _milliseconds(found: Found, names: list[str]) -> str:
    rows = []
    for case in CASES:
        if case.name in found:
            times = {row["name"]: f"{row['ms']:.2f}" for row in found[case.name]["rows"]}
            rows.append(
                (
                    case.network,
                    case.gates,
                    str(case.batch),
                    *(times.get(name, "-") for name in names),
                )
            )
    return of_text(("network", "gates", "batch", *names), rows).markdown()


def _by_kind(layers: Sequence[Mapping[str, Any]]) -> str:
    """Medians of steps timed one by one, summed over those of a kind."""
    spent: dict[str, float] = defaultdict(float)
    macs: dict[str, float] = defaultdict(float)
    for one in layers:
        spent[one["kind"]] += one["ms"]
        macs[one["kind"]] += one["macs"] or 0
    rows = [
        (
            kind,
            f"{1e3 * spent[kind]:.0f}",
            f"{macs[kind] / spent[kind] / 1e6:.0f}" if macs[kind] and spent[kind] else "-",
        )
        for kind in sorted(spent, key=lambda kind: -spent[kind])
    ]
    return of_text(("kind of step", "microseconds", "GMAC/s"), rows).markdown()


def _steps(steps: Found) -> str:
    heads = ("network", "dense, ms", "gated, ms", "ratio", "quartiles", "goal")
    rows = [
        (
            record["network"], f"{record['dense_ms']:.0f}", f"{record['gated_ms']:.0f}",
            f"{record['ratio']:.2f}", f"{record['low']:.2f} - {record['high']:.2f}",
            f"at most {record['goal']:.2f}",
        )
        for record in steps.values()
    ]  # fmt: skip
    return of_text(heads, rows).markdown()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="names of the cases")
    known = {case.name: case for case in CASES}
    running = commands.add_parser("run", help="measure and record cases")
    running.add_argument("cases", nargs="*", metavar="CASE")
    commands.add_parser("write", help="write docs/bench.md")
    options = parser.parse_args()
    if options.command == "list":
        print("\n".join(known))
    elif options.command == "write":
        PAGE.write_text(page(records(), overhead.records()))
    else:
        for name in options.cases or known:
            record = run(known[name])
            rows = ", ".join(f"{row['name']} {row['ms']:.2f}" for row in record["rows"])
            print(f"{name}: {rows} ms; share {record['share_of_bound']:.2f}", flush=True)


if __name__ == "__main__":
    main()
