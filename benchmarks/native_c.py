"""The C program beside Python and the engines, in time and in bytes.

    python -m benchmarks.native_c time resnet56     # or mobilenet_v2
    python -m benchmarks.native_c sizes resnet56
    python -m benchmarks.native_c write             # the tables on the pages

One image at a time, all in one interleaved run: the plain network in ONNX Runtime and OpenVINO, the
network cut to the same activity in both, `runtime.skip` and the exported file in a C program of its
own. Each call of that program goes through a pipe, which counts as its own time. Gates are
untrained, of low rank where large ones would cost more than 2 %, and keep half of the filters.
Records go to benchmarks/records/native_c/.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ftwt
from benchmarks import pages
from ftwt import gates, tables
from ftwt.data import shapes
from ftwt.export.native.folder import NETWORK
from ftwt.gated.model import Gated
from ftwt.reports.timing.calibration import randomize_gates
from ftwt.reports.timing.engines import deployed
from ftwt.reports.timing.machine import machine
from ftwt.reports.timing.measure import interleave, paired_speedup
from ftwt.reports.timing.subjects import bound, plain_network
from ftwt.runtime.native import binding

RECORDS = pages.RECORDS / "native_c"
NETWORKS = ("resnet56", "mobilenet_v2")
SKIP, PROGRAM = "skip, Python", "skip, C program"
_FRACTION = 0.5
_CALIBRATION, _IMAGES = 128, 16
# What the cut network's widths are rounded to, as engines like.
_ROUND_TO = 8
# Small ones where a linear layer would weigh more than what it decides on.
_GATES = gates.ByCost(gates.PooledLinear(), gates.Bottleneck(8), share=0.02)


def measure(name: str, *, rounds: int) -> dict[str, Any]:
    """Milliseconds of an image, by subject."""
    model, images = gated_network(name)
    batches = [image[None] for image in images]
    subjects: dict[str, Callable[[Tensor], Any]] = {}
    missing: dict[str, str] = {}
    for form, one in _plain(model, images).items():
        runs, why = deployed(one, batches[0])
        subjects |= {f"{form}, {engine}": run for engine, run in runs.items()}
        missing |= {f"{form}, {engine}": reason for engine, reason in why.items()}
    subjects[SKIP] = ftwt.runtime.skip(model)
    with _program(model, batches) as run:
        subjects[PROGRAM] = run
        measured = interleave(subjects, batches, rounds)
    with torch.no_grad():
        macs = model.trace(images, targets=False).macs.double().mean().item()
    return {
        "network": f"cifar10-{name}",
        "rounds": rounds,
        "fraction": _FRACTION,
        "round_to": _ROUND_TO,
        "reduction_exact": 1 - macs / model.dense_macs,
        "ms": {one: timing.ms for one, timing in measured.times.items()},
        "spread": {one: timing.spread for one, timing in measured.times.items()},
        "program_over_python": paired_speedup(measured.times[SKIP], measured.times[PROGRAM]),
        "others": measured.others,
        "missing": missing,
        "threads": torch.get_num_threads(),
        "set": binding.instruction_set(),
        "machine": machine(),
    }


def sizes(name: str) -> dict[str, int]:
    """Bytes of what is written, by form."""
    model, images = gated_network(name)
    masked = {"ONNX": "onnx", "torch.export": "torch"}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for form, plain in _plain(model, images).items():
            path = Path(folder) / form
            files = ftwt.export(plain, path, format="onnx", example=images[:1]).files
            found[f"{form}, ONNX"] = sum(files.values())
        for form, kind in masked.items():
            path = Path(folder) / kind
            files = ftwt.export(model, path, format=kind).files
            found[f"gates as masks, {form}"] = sum(files.values())
        native = ftwt.export(model, Path(folder) / "native", format="native").files
    found["gates, model.ftwt"] = native[NETWORK]
    found["libftwt, sources"] = sum(native.values()) - native[NETWORK]
    found["libftwt, compiled"] = (Path(binding.__file__).parent / binding.NAME).stat().st_size
    return found


def records() -> dict[str, dict[str, Any]]:
    """The records that are there, by network."""
    return pages.read_all(RECORDS, NETWORKS)


def times_table(found: dict[str, dict[str, Any]]) -> str:
    """What was timed, in Markdown."""
    first = next(iter(found.values()))
    rows = [
        [one, *(f"{record['ms'][one]:.2f}" for record in found.values())] for one in first["ms"]
    ]
    table = tables.of_text(["ms an image", *_titles(found)], rows).markdown()
    faster = ", ".join(f"{record['program_over_python']:.2f}" for record in found.values())
    where = f"{first['threads']} thread of {first['machine']['cpu']}, {first['set']}"
    torch_version = first["machine"]["versions"]["torch"]
    lines = (
        f"One image of 32x32 pixels; {where}; torch {torch_version}; medians of {first['rounds']}",
        f"interleaved rounds. In pairs of rounds the C program is {faster} times as fast as",
        "`runtime.skip` in Python. Untrained gates, of low rank where large ones would cost over",
        f"2 %, keep {100 * first['fraction']:.0f} % of the filters; *cut* has as many, chosen",
        f"beforehand, with widths rounded to multiples of {first['round_to']}.",
    )
    return "\n".join((table, "", *lines))


def sizes_table(found: dict[str, dict[str, Any]]) -> str:
    """What files take, in Markdown."""
    first = next(iter(found.values()))["bytes"]
    rows = [[one, *(f"{r['bytes'][one] / 1e6:.2f}" for r in found.values())] for one in first]
    return tables.of_text(["MB", *_titles(found)], rows).markdown()


PARTS = {
    pages.DOCS / "c-program.md": ("times", times_table),
    pages.DOCS / "export.md": ("sizes", sizes_table),
}


def page(path: Path, found: dict[str, dict[str, Any]]) -> str:
    """A page with its table made from the records anew."""
    name, made = PARTS[path]
    return pages.with_part(path.read_text(), name, made(found))


def _titles(found: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"{record['network']}, {100 * record['reduction_exact']:.0f} % fewer MACs"
        for record in found.values()
    ]


def gated_network(name: str) -> tuple[Gated, Tensor]:
    """A network whose untrained gates keep half of the filters, and images."""
    torch.manual_seed(0)
    network = ftwt.networks.build(f"cifar10-{name}")
    model = ftwt.attach(network, ftwt.Pruning(_GATES), example=torch.zeros(1, 3, 32, 32)).eval()
    images = _images(_CALIBRATION + _IMAGES)
    randomize_gates(model, images[:_CALIBRATION], _FRACTION)
    return model, images[_CALIBRATION:]


def _plain(model: Gated, images: Tensor) -> dict[str, torch.nn.Module]:
    return {"dense": plain_network(model), "cut": bound(model, images, round_to=_ROUND_TO)[0]}


def _images(count: int) -> Tensor:
    pixels = shapes.render_shapes(count, 0, size=32).pixels.float() / 255
    std, mean = torch.std_mean(pixels, (0, 2, 3), keepdim=True)
    return (pixels - mean) / std


@contextmanager
def _program(model: Gated, batches: list[Tensor]) -> Iterator[Callable[[Tensor], None]]:
    """The exported network in a process of its own, with the library of this installation."""
    library = Path(binding.__file__).parent
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ftwt.export(model, folder / "native", format="native")
        torch.cat(batches).numpy().tofile(folder / "images")
        source, program = Path(__file__).with_suffix(".c"), folder / "program"
        # The library takes its threads from the OpenMP runtime that is there, so it has to be.
        command = [
            "cc", "-O2", f"-I{library / 'src'}", str(source), str(library / binding.NAME),
            f"-Wl,-rpath,{library}", "-Wl,--no-as-needed", "-fopenmp", "-o", str(program),
        ]  # fmt: skip
        subprocess.run(command, check=True)
        file = folder / "native" / NETWORK
        arguments = [str(program), str(file), str(folder / "images"), str(torch.get_num_threads())]
        places = {batch.data_ptr(): bytes([place]) for place, batch in enumerate(batches)}
        with subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            send, receive = process.stdin, process.stdout

            def run(batch: Tensor) -> None:
                send.write(places[batch.data_ptr()])
                assert receive.read(1)

            yield run
            send.close()


def main() -> None:
    """Measure and keep a record, or write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=("time", "sizes", "write"))
    parser.add_argument("network", choices=NETWORKS, nargs="?", default=NETWORKS[0])
    parser.add_argument("--rounds", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # The C program too: to wake another core for each image takes longer than to change places.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    found = records()
    if options.task == "write":
        for path in PARTS:
            path.write_text(page(path, found))
        return
    record = found.get(options.network, {})
    if options.task == "sizes":
        record["bytes"] = sizes(options.network)
    else:
        record |= measure(options.network, rounds=options.rounds)
    pages.write(RECORDS / f"{options.network}.json", record)
    print(json.dumps({name: record[name] for name in ("ms", "bytes") if name in record}, indent=1))


if __name__ == "__main__":
    main()
