"""The C program beside Python and the engines: `python -m benchmarks.native_c resnet56`.

One image at a time, all in one interleaved run: the plain network in ONNX Runtime and OpenVINO, the
network cut to the same activity in both, `runtime.skip` and the exported file in a C program of its
own. Each call of that program goes through a pipe, which counts as its own time. Gates are
untrained and keep half of the filters. Records go to benchmarks/records/native_c/.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ftwt
from ftwt.data import shapes
from ftwt.export.native.folder import NETWORK
from ftwt.gated.model import Gated
from ftwt.reports.timing.calibration import calibrate
from ftwt.reports.timing.engines import deployed
from ftwt.reports.timing.machine import machine
from ftwt.reports.timing.measure import interleave, paired_speedup
from ftwt.reports.timing.subjects import bound, widths
from ftwt.runtime.native import binding
from ftwt.slicing import cut

RECORDS = Path(__file__).parent / "records" / "native_c"
SKIP, PROGRAM = "skip, Python", "skip, C program"
_FRACTION = 0.5
_CALIBRATION, _IMAGES = 128, 16


def measure(name: str, *, rounds: int) -> dict[str, Any]:
    """Milliseconds of an image, by subject."""
    torch.manual_seed(0)
    network = ftwt.networks.build(f"cifar10-{name}")
    model = ftwt.attach(network, ftwt.Pruning(), example=torch.zeros(1, 3, 32, 32)).eval()
    images = _images(_CALIBRATION + _IMAGES)
    calibrate(model, images[:_CALIBRATION], _FRACTION)
    batches = [image[None] for image in images[_CALIBRATION:]]
    every = {site: torch.ones(width, dtype=torch.bool) for site, width in widths(model).items()}
    subjects: dict[str, Callable[[Tensor], Any]] = {}
    missing: dict[str, str] = {}
    forms = {"dense": cut(model, every), "cut": bound(model, images[_CALIBRATION:])[0]}
    for form, one in forms.items():
        runs, why = deployed(one, batches[0])
        subjects |= {f"{form}, {engine}": run for engine, run in runs.items()}
        missing |= {f"{form}, {engine}": reason for engine, reason in why.items()}
    subjects[SKIP] = ftwt.runtime.skip(model)
    with _program(model, batches) as run:
        subjects[PROGRAM] = run
        measured = interleave(subjects, batches, rounds)
    with torch.no_grad():
        macs = model.trace(images[_CALIBRATION:], targets=False).macs.double().mean().item()
    return {
        "network": f"cifar10-{name}",
        "rounds": rounds,
        "fraction": _FRACTION,
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


def _images(count: int) -> Tensor:
    pixels = shapes.render(count, 0, size=32).pixels.float() / 255
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
    """Measure, print and keep a record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=["resnet56", "mobilenet_v2"])
    parser.add_argument("--rounds", type=int, default=48)
    arguments = parser.parse_args()
    record = measure(arguments.network, rounds=arguments.rounds)
    RECORDS.mkdir(parents=True, exist_ok=True)
    (RECORDS / f"{arguments.network}.json").write_text(json.dumps(record, indent=2) + "\n")
    for name, ms in record["ms"].items():
        print(f"{name:24} {ms:7.3f} ms")
    print(f"Python over C program, in pairs: {record['program_over_python']:.3f}")


if __name__ == "__main__":
    main()
