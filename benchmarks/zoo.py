"""Every network of the zoo: `python -m benchmarks.zoo` writes its record and docs/zoo.md.

Each network runs in one of `--processes` processes and has to pass everything that
`tests.laws.zoo.examine` asserts. One that does not is listed with its reason, and the exit status
is 1.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent
_ABOUT = """\
# The zoo

The {networks} convolutional classification networks of torchvision {torchvision} and the
{timm_networks} of timm {timm} that `ftwt` is checked on, with random weights. Written by
`make zoo` from `benchmarks/records/zoo.json`
(torch {torch}, {processes} processes, {minutes:.0f} minutes).

For each network, on its default sites: with every mask on the output is the plain network's (1e-5
relative) and the exact MACs are those of torch's flop counter; with random masks every channel that
the analysis calls dead is zero, at every node; a training step is finite.
{passed} of {networks_all} networks pass.

- **sites**: convolutions that a gate decides, of all convolutions.
- **dense MACs**, **gates** (MACs of the paper's gates in % of these) and **reach** (share of the
  dense MACs that vanish when no filter runs) are for one image of the given size.
- **tight**: of the channels at convolution inputs that are truly zero, the share that the analysis
  found; the median is {median:.1f} %. Random masks keep {kept:.0f} % of the filters. "Truly" is
  zero in each of {draws} draws of images, biases, batch norms and signs of filters: in a single
  draw a ReLU also answers zeros by accident, which no analysis of a graph can know. Batch norms
  never have the bias of zero of a new one. Images are {sides} pixels wide, the smallest of a few
  sizes that the network takes. Where few channels are truly zero (sums of many branches),
  accidents that survive all draws weigh much.

| network | sites | size | dense MACs | gates % | reach % | tight % | truly zero |
|---|---|---|---|---|---|---|---|
"""


def _examine(name: str) -> dict[str, Any]:
    import torch

    from tests.laws import zoo

    torch.set_num_threads(1)
    try:
        return zoo.examine(name).json()
    except Exception as error:
        lines = str(error).strip().splitlines()
        return {"network": name, "failed": f"{type(error).__name__}: {lines[0] if lines else ''}"}


def main() -> int:
    """Examine the networks that are asked for, and write the record and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="networks; all of them by default")
    parser.add_argument("--record", type=Path, default=_ROOT / "benchmarks/records/zoo.json")
    parser.add_argument("--page", type=Path, default=_ROOT / "docs/zoo.md")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--page-only", action="store_true", help="from the record as it is")
    options = parser.parse_args()
    record = options.record
    if not options.page_only:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(_measure(options.names, options.processes), indent=1) + "\n")
    value = json.loads(record.read_text())
    options.page.write_text(_page(value))
    failed = [row for row in value["networks"] if "failed" in row]
    for row in failed:
        print(f"{row['network']}: {row['failed']}")
    return 1 if failed else 0


def _measure(names: list[str], processes: int) -> dict[str, Any]:
    import timm
    import torch
    import torchvision

    from tests.laws import zoo

    started = time.perf_counter()
    # A new process now and then gives the memory of large networks back.
    context = multiprocessing.get_context("spawn")
    rows = []
    with context.Pool(processes, maxtasksperchild=8) as pool:
        for row in pool.imap(_examine, names or zoo.names()):
            rows.append(row)
            print(row["network"], row.get("failed", f"{row.get('seconds')} s"), flush=True)
    return {
        "versions": {
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "timm": timm.__version__,
        },
        "processes": processes,
        "seconds": round(time.perf_counter() - started),
        "draws": zoo.DRAWS,
        "kept": zoo.KEPT,
        "networks": rows,
    }


def _page(value: dict[str, Any]) -> str:
    rows = value["networks"]
    good = [row for row in rows if "failed" not in row]
    timm = sum(row["network"].startswith("timm:") for row in rows)
    versions = {name: text.split("+")[0] for name, text in value["versions"].items()}
    tight = [row["tightness"] for row in good if row["tightness"] is not None]
    page = _ABOUT.format(
        **versions,
        processes=value["processes"],
        networks=len(rows) - timm,
        timm_networks=timm,
        networks_all=len(rows),
        passed=len(good),
        minutes=value["seconds"] / 60,
        median=100 * statistics.median(tight),
        draws=value["draws"],
        kept=100 * value["kept"],
        sides=" or ".join(map(str, sorted({row["examined_size"] for row in good}))),
    )
    return page + "".join(_row(row) for row in rows)


def _row(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"| {row['network']} | fails: {row['failed']} | | | | | | |\n"
    dense = row["dense_macs"]
    tight = row["tightness"]
    cells = [
        row["network"],
        f"{row['sites']} of {row['convolutions']}",
        str(row["size"]),
        f"{dense:,}",
        f"{100 * row['gate_macs'] / dense:.2f}",
        f"{100 * (1 - row['unreached_macs'] / dense):.1f}",
        "" if tight is None else f"{100 * tight:.1f}",
        f"{row['zero_channels']:,}",
    ]
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    sys.exit(main())
