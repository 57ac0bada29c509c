"""What of the zoo can be exported: docs/exports.md and its record.

    python -m benchmarks.exports run --files DIR            # networks that the record lacks
    python -m benchmarks.exports run --files DIR --names NAME ...   # these again, the others stay
    python -m benchmarks.exports time --files DIR           # what `run` left there, alone
    python -m benchmarks.exports write                      # the page from the record

A network that does not export is listed with the reason. The record is written after each network,
so a run that is stopped loses little.
"""

import argparse
import statistics
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import pages
from benchmarks.pages import read_object
from ftwt.tables import of_text

RECORD, PAGE = pages.RECORDS / "exports.json", pages.DOCS / "exports.md"
_PACKAGES = ("torch", "torchvision", "timm", "onnxruntime", "openvino")
# Share of the filters of each site that random masks keep, and what widths are rounded to.
KEPT, ROUND_TO = 0.5, 8
FORMS = ("onnx", "torch", "native")
_ABOUT = """\
# Exports of the zoo

Networks of torchvision {torchvision} and timm {timm} with random weights, exported by torch {torch}
and checked in ONNX Runtime {onnxruntime} and OpenVINO {openvino}. Written from
`benchmarks/records/exports.json` by `python -m benchmarks.exports write`; do not edit.

- **masks, ONNX** and **masks, torch**: the network with the paper's gates on its default sites, as one
  ONNX file and as a program of `torch.export`; yes, if it answers the same for batches of two sizes.
- **gates, native**: the same as a file for the runtime in C, if that answers as Python does.
- **cut**: the same network cut to random masks that keep {kept:.0f} % of the filters, widths rounded
  to multiples of {round_to}. *Operators* are the nodes of the ONNX file, whole and cut; *MB* its
  size; *ms* what one image takes in ONNX Runtime.

{good} of {networks} networks export in all forms. {untried}

{timed}"""  # noqa: E501
_TIMED = """\
Of {networks} networks that masks cut, {faster} run faster in ONNX Runtime than whole: {low:.2f} to {high:.2f} times
as fast, {middle:.2f} in the middle. {cpu}, 1 thread, medians of {rounds} interleaved rounds.

"""  # noqa: E501
_HEADS = (
    "network", "side", "masks, ONNX", "masks, torch", "gates, native", "operators, whole", "cut",
    "MB, whole", "cut", "ms, whole", "cut", "times as fast",
)  # fmt: skip
_ROUNDS = 16


def main() -> None:
    """Export or write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=("run", "time", "write"))
    parser.add_argument("--names", nargs="*", default=[], help="networks; all of them by default")
    parser.add_argument("--files", type=Path, help="folder that keeps the files")
    options = parser.parse_args()
    if options.task == "write":
        PAGE.write_text(page(read_object(RECORD)))
        return
    if options.task == "time":
        time(options.names, options.files)
        return
    from tests.laws import zoo

    order = zoo.names()
    value = read_object(RECORD) if RECORD.exists() else {"networks": []}
    rows: dict[str, dict[str, Any]] = {row["network"]: row for row in value["networks"]}
    for name in options.names or [name for name in order if name not in rows]:
        rows[name] = exported(name, options.files)
        print(rows[name], flush=True)
        value = {
            **value,
            "versions": pages.versions_of(*_PACKAGES),
            "kept": KEPT,
            "round_to": ROUND_TO,
            "networks_in_all": len(order),
            "networks": [rows[one] for one in order if one in rows],
        }
        pages.write(RECORD, value)


def exported(name: str, files: Path) -> dict[str, Any]:
    """Export one network in every form; what does not work has its reason."""
    import torch

    import ftwt
    from ftwt import gates
    from ftwt.graph.sites import shape_of
    from tests.laws import zoo

    torch.set_num_threads(1)
    torch.manual_seed(0)
    row: dict[str, Any] = {"network": name}
    folder = _folder(files, name)
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as scratch:
        # These packages' own affair, such as GoogLeNet's initialisation.
        warnings.simplefilter("ignore")
        # Answers that differ by image: those of fresh batch norms nearly vanish, wrong ones too.
        network, pair = zoo.built(name)
        images, row["side"] = pair[:1], pair.shape[-1]
        for form in FORMS:
            model = ftwt.attach(network, ftwt.Pruning(), example=images).eval()
            row[f"masks_{form}"] = _tried(
                partial(ftwt.export, model, Path(scratch) / form, format=form)
            )
        whole = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=images).eval()
        masks = {}
        for site in whole.anatomy.sites:
            mask = torch.rand(shape_of(site, whole.anatomy.traced).out_channels) < KEPT
            mask[0] = True
            masks[site.name] = mask
        cut = ftwt.attach(network, ftwt.Pruning(gates.Fixed(masks)), example=images).eval()
        for form, model in (("whole", whole), ("cut", cut)):
            path = folder / f"{form}.onnx"
            path.unlink(missing_ok=True)
            row[form] = _tried(partial(ftwt.export, model, path, format="onnx", round_to=ROUND_TO))
            if path.is_file():
                row[form] |= {"operators": _operators(path), "bytes": path.stat().st_size}
    return row


def time(names: Sequence[str], files: Path) -> None:
    """Enter into the record how long files that are there take, whole and cut."""
    import torch

    from ftwt.export.engines import ENGINES
    from ftwt.reports.timing.machine import machine
    from ftwt.reports.timing.measure import interleave, paired_speedup

    torch.set_num_threads(1)
    value = read_object(RECORD)
    for row in value["networks"]:
        paths = {form: _folder(files, row["network"]) / f"{form}.onnx" for form in ("whole", "cut")}
        wanted = not names or row["network"] in names
        there = wanted and all(path.is_file() for path in paths.values())
        # Of a network without sites nothing is cut.
        if not there or row["whole"]["bytes"] == row["cut"]["bytes"]:
            continue
        runs = {form: ENGINES["onnxruntime"](path.read_bytes(), 1) for form, path in paths.items()}
        images = torch.randn(1, 3, row["side"], row["side"])
        found = interleave(runs, [images], _ROUNDS)
        for form, timing in found.times.items():
            row[form]["ms"] = timing.ms
        row["speedup"] = paired_speedup(found.times["whole"], found.times["cut"])
        row["others"] = found.others
        print(f"{row['network']} {row['speedup']:.2f}", flush=True)
    value["timed"] = {"cpu": machine()["cpu"], "rounds": _ROUNDS}
    pages.write(RECORD, value)


def _folder(files: Path, network: str) -> Path:
    return files / network.replace(":", "-")


def _tried(export: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"check": export().check}
    except Exception as error:
        # A benchmark goes on to the next network, whatever stopped this one.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        # What torch adds of itself and of its own graph.
        return {"failed": lines[0].partition(". Please feel free")[0]}


def _operators(path: Path) -> int:
    import onnx

    # Constants cost nothing.
    nodes = onnx.load(path).graph.node
    return sum(node.op_type not in ("Constant", "Identity") for node in nodes)


def page(value: dict[str, Any]) -> str:
    """The page that a record makes."""
    rows = value["networks"]
    forms = ("masks_onnx", "masks_torch", "masks_native", "cut")
    good = [row for row in rows if not any("failed" in row[form] for form in forms)]
    left = value["networks_in_all"] - len(rows)
    head = _ABOUT.format(
        **value["versions"],
        kept=100 * value["kept"],
        round_to=value["round_to"],
        good=len(good),
        networks=len(rows),
        untried=f"Of the other {left} of the zoo there is no record." if left else "",
        timed=_timed(value),
    )
    reasons = [
        f"- {row['network']}, {form.replace('_', ', ')}: {row[form]['failed']}"
        for row in rows
        for form in forms
        if "failed" in row[form]
    ]
    why = "\n## What does not export, and why\n\n" + "\n".join(reasons) + "\n" if reasons else ""
    return head + of_text(_HEADS, map(_row, rows)).markdown() + "\n" + why


def _timed(value: dict[str, Any]) -> str:
    speedups = [row["speedup"] for row in value["networks"] if "speedup" in row]
    if not speedups:
        return ""
    return _TIMED.format(
        networks=len(speedups),
        faster=sum(one >= 1 for one in speedups),
        low=min(speedups),
        high=max(speedups),
        middle=statistics.median(speedups),
        **value["timed"],
    )


def _row(row: dict[str, Any]) -> list[str]:
    cells = [row["network"], str(row["side"])]
    cells += ["no" if "failed" in row[f"masks_{form}"] else "yes" for form in FORMS]
    for what, scale, digits in (("operators", 1, 0), ("bytes", 1e6, 2), ("ms", 1, 2)):
        for form in ("whole", "cut"):
            number = row[form].get(what)
            cells.append("" if number is None else f"{number / scale:.{digits}f}")
    return [*cells, f"{row['speedup']:.2f}" if "speedup" in row else ""]


if __name__ == "__main__":
    main()
