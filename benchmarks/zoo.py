"""Every network of the zoo: `python -m benchmarks.zoo` writes its record and docs/zoo.md.

    python -m benchmarks.zoo                     # all networks, from nothing
    python -m benchmarks.zoo --resume            # those that the record lacks, or that failed
    python -m benchmarks.zoo timm:mobileone_s0   # these again, the others as they are
    python -m benchmarks.zoo --page-only         # the page from the record as it is

Each network runs in one of `--processes` processes and has to pass everything that
`tests.laws.zoo.examine` asserts. One that does not is listed with its reason, and the exit status
is 1. The record is written after each network, so a run that is stopped loses little.
"""

import argparse
import multiprocessing
import statistics
import sys
from typing import Any

from benchmarks import pages
from benchmarks.pages import read_object
from ftwt.tables import of_text

RECORD, PAGE = pages.RECORDS / "zoo.json", pages.DOCS / "zoo.md"
# The median over networks of the share of zero channels that the analysis has to find.
TIGHT = 0.95
_ABOUT = """\
# The zoo

The {networks} convolutional classification networks of torchvision {torchvision} and the
{timm_networks} of timm {timm} that `ftwt` is checked on, with random weights. Written by
`make zoo` from `benchmarks/records/zoo.json` (torch {torch}, {minutes:.0f} minutes of processor
time, spread over two processes); do not edit.

For each network, on its default sites: with every mask on the output is the plain network's (1e-5
relative) and the exact MACs are those of torch's flop counter; with random masks every channel that
the analysis calls dead is zero, at every node; a training step is finite; skipped, cut and
slimmed it answers as the network with masks (1e-4 relative), or is refused by name.
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
- **skip**, **cut**, **slim**: how far `runtime.skip` (each back end, other masks for each image),
  `slicing.cut` (batch norms folded or not, channels renumbered or not) and `ftwt.slim`, which is
  `slicing.narrow` (the smaller network, and the same skipping), are from the network with masks:
  the largest of these differences, as a share of the largest output. What skips runs the MACs that
  are counted, by its audit; what is cut without renumbering has them, by torch's flop counter.

"""
_WAYS = ("skip", "cut", "slim")
_HEADS = (
    "network", "sites", "size", "dense MACs", "gates %", "reach %", "tight %", "truly zero",
    *_WAYS,
)  # fmt: skip


def main() -> int:
    """Examine the networks that are asked for, and write the record and the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="networks; all of them by default")
    parser.add_argument("--resume", action="store_true", help="only what the record lacks")
    parser.add_argument("--page-only", action="store_true", help="from the record as it is")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if not options.page_only:
        _measure(options.names, resume=options.resume, processes=options.processes)
    value = read_object(RECORD)
    PAGE.write_text(page(value))
    failed = [row for row in value["networks"] if "failed" in row]
    for row in failed:
        print(f"{row['network']}: {row['failed']}")
    return 1 if failed else 0


def _measure(names: list[str], *, resume: bool, processes: int) -> None:
    from tests.laws import zoo

    order = zoo.names()
    rows: dict[str, dict[str, Any]] = {}
    if RECORD.exists() and (resume or names):
        rows = {row["network"]: row for row in read_object(RECORD)["networks"]}
    wanted = names or [name for name in order if not resume or "ways" not in rows.get(name, {})]
    # A new process now and then gives the memory of large networks back.
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, maxtasksperchild=8) as pool:
        for done, row in enumerate(pool.imap_unordered(_examine, wanted), start=1):
            outcome = row.get("failed", f"{row.get('cpu_seconds')} s")
            print(f"{done}/{len(wanted)} {row['network']}: {outcome}", flush=True)
            rows[row["network"]] = row
            value = {
                "versions": pages.versions_of("torch", "torchvision", "timm"),
                "draws": zoo.DRAWS,
                "kept": zoo.KEPT,
                "networks": [rows[name] for name in order if name in rows],
            }
            pages.write(RECORD, value)


def _examine(name: str) -> dict[str, Any]:
    import torch

    from tests.laws import zoo

    torch.set_num_threads(1)
    try:
        return zoo.examine(name).json()
    except Exception as error:
        lines = str(error).strip().splitlines()
        return {"network": name, "failed": f"{type(error).__name__}: {lines[0] if lines else ''}"}


def median_tightness(value: dict[str, Any]) -> float:
    """Median over networks of the share of zero channels that the analysis found."""
    shares = (row.get("tightness") for row in value["networks"])
    return statistics.median(float(share) for share in shares if share is not None)


def page(value: dict[str, Any]) -> str:
    """The page that a record makes."""
    rows = value["networks"]
    good = [row for row in rows if "failed" not in row]
    timm = sum(row["network"].startswith("timm:") for row in rows)
    versions = {name: text.split("+")[0] for name, text in value["versions"].items()}
    head = _ABOUT.format(
        **versions,
        networks=len(rows) - timm,
        timm_networks=timm,
        networks_all=len(rows),
        passed=len(good),
        minutes=sum(row["cpu_seconds"] for row in good) / 60,
        median=100 * median_tightness(value),
        draws=value["draws"],
        kept=100 * value["kept"],
        sides=" or ".join(map(str, sorted({row["examined_size"] for row in good}))),
    )
    return head + of_text(_HEADS, map(_row, rows)).markdown() + "\n" + _refusals(good)


def _refusals(rows: list[dict[str, Any]]) -> str:
    """A line for each way that was refused, with its reason."""
    lines = [
        f"- {row['network']}, {way}: `{reason}`"
        for row in rows
        for way, reason in row.get("ways", {}).items()
        if isinstance(reason, str)
    ]
    return "\n".join(["", "Refused:", "", *lines, ""]) if lines else ""


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    if "failed" in row:
        return row["network"], f"fails: {row['failed']}", *[""] * (len(_HEADS) - 2)
    dense = row["dense_macs"]
    tight = row["tightness"]
    return (
        row["network"],
        f"{row['sites']} of {row['convolutions']}",
        str(row["size"]),
        f"{dense:,}",
        f"{100 * row['gate_macs'] / dense:.2f}",
        f"{100 * (1 - row['unreached_macs'] / dense):.1f}",
        "" if tight is None else f"{100 * tight:.1f}",
        f"{row['zero_channels']:,}",
        *(_way(row.get("ways", {}).get(way)) for way in _WAYS),
    )


def _way(found: float | str | None) -> str:
    if found is None:
        return ""
    return "refused" if isinstance(found, str) else f"{found:.0e}"


if __name__ == "__main__":
    sys.exit(main())
