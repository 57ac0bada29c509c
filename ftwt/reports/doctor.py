"""What decides whether skipping is right and fast here: versions, processor, kernels, engines."""

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from ftwt import backbones, gates, runtime
from ftwt.export.engines import RunEngine
from ftwt.gated.attach import attach
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.graph.randomness import fixed_seed
from ftwt.reports.timing.calibration import randomize_to_reduction
from ftwt.reports.timing.engines import deployed
from ftwt.reports.timing.machine import machine
from ftwt.reports.timing.measure import QUIET, interleave, paired_speedup
from ftwt.reports.timing.subjects import plain_network
from ftwt.runtime import native
from ftwt.runtime.native.binding import known_sets, team_size

# Packages that something of ftwt works better with, by what they are for.
_OPTIONAL = {
    "onnx": "export, engines",
    "onnxruntime": "bench",
    "openvino": "bench",
    "timm": "networks",
    "matplotlib": "plots",
    "tensorboard": "training",
}
# Rounding of float32 over a few layers, of the largest output.
_NEAR = 1e-4
_REDUCTION = 0.5
_ROUNDS = 15


@dataclass(frozen=True)
class Check:
    """One thing that was tried, whether it is as it should be, and what to do where it is not."""

    name: str
    passed: bool
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Health:
    """An installation: facts by name, the packages that were found, and checks."""

    facts: dict[str, str]
    packages: dict[str, str | None]
    checks: tuple[Check, ...]
    milliseconds: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether every check came out as it should."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {**asdict(self), "passed": self.passed}


def doctor() -> Health:
    """Look at this installation, and try skipping on a small network of random weights.

    Takes some seconds. The check of speed means something where nothing else runs meanwhile.
    """
    model, images = _subject()
    speed, milliseconds = _speed(model, images)
    checks = (_kernels(), _threads(), _same(model, images), _counted(model, images), speed)
    packages = {name: _version(name) for name in _OPTIONAL}
    return Health(_facts(), packages, checks, milliseconds)


def _facts() -> dict[str, str]:
    here = machine()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else here["cores"]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    peak = native.peak()
    return {
        **here["versions"],
        "system": platform.platform(),
        "CPU": here["cpu"],
        "cores": f"{here['cores']}, {usable} of them for this process",
        "threads": str(here["threads"]),
        "instruction sets": ", ".join(known_sets()) or "unknown without kernels",
        "instruction set in use": native.instruction_set() or "none",
        "peak": "unknown" if peak is None else f"{peak:.0f} GMAC/s",
        "GPU": gpu,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _subject() -> tuple[Gated, torch.Tensor]:
    """A ResNet-20 whose untrained gates save half of the MACs, other filters for each image."""
    with fixed_seed(0):
        images = torch.randn(48, 3, 32, 32)
        model = attach(backbones.resnet20(), Pruning(gates.PooledLinear()), example=images[:1])
    randomize_to_reduction(model.eval(), images[:32], _REDUCTION)
    return model, images[32:]


def _kernels() -> Check:
    missing = native.missing()
    if missing is None:
        return Check("kernels", True, f"compiled, {native.instruction_set()}")
    mend = "install a C compiler (gcc or clang, Linux), then install ftwt again"
    return Check("kernels", False, missing, mend)


def _threads() -> Check:
    wanted = torch.get_num_threads()
    own = team_size(wanted) if native.available() else wanted
    mend = "load torch before other packages that bring an OpenMP runtime of their own"
    return Check("threads", own == wanted, f"{own} of {wanted} share the work", mend)


def _same(model: Gated, images: torch.Tensor) -> Check:
    with torch.inference_mode():
        wanted, got = model(images), runtime.skip(model)(images)
    off = ((got - wanted).abs().max() / wanted.abs().max()).item()
    found = f"outputs of skipping differ by {off:.1e} of the largest"
    return Check("right outputs", off < _NEAR, found, "report this as a fault, with all of this")


def _counted(model: Gated, images: torch.Tensor) -> Check:
    audit = runtime.skip(model).audit(images)
    same = torch.equal(audit.macs, audit.counted_macs)
    found = (
        f"executed {audit.macs.double().mean():,.0f} MACs an image, {'as' if same else 'not as'}"
    )
    return Check("right counts", same, f"{found} counted", "report this as a fault")


def _speed(model: Gated, images: torch.Tensor) -> tuple[Check, dict[str, float]]:
    """One image at a time, against the plain network in torch and in the engines that are there.

    What is checked is the installation, which is in order where torch is slower; which engine is
    the fastest depends on the network, and is for `ftwt bench` to say.
    """
    plain, batches = plain_network(model), list(images.unsqueeze(1).unbind())
    deployments, _ = deployed(plain, batches[0])
    dense: dict[str, RunEngine] = {"dense, torch": plain}
    dense |= {f"dense, {name}": run for name, run in deployments.items()}
    own = f"skipping {_REDUCTION:.0%} of the MACs"
    times, others, _ = interleave({**dense, own: runtime.skip(model)}, batches, _ROUNDS)
    speedup = paired_speedup(times["dense, torch"], times[own])
    found = ", ".join(f"{name}: {timing.ms:.2f} ms" for name, timing in times.items())
    if others is not None and others > QUIET:
        found += f"; other programs used {others:.0%} of the processors meanwhile"
    mend = "look whether kernels and threads are there, and try on an idle machine"
    milliseconds = {name: timing.ms for name, timing in times.items()}
    return Check("faster than torch", speedup > 1, found, mend), milliseconds
