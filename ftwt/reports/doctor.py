"""What decides whether skipping is right and fast here: versions, processor, kernels, engines."""

import os
import platform
import time
from collections.abc import Callable
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
from ftwt.reports.timing.machine import Others, machine
from ftwt.reports.timing.measure import QUIET, interleave, paired_speedup
from ftwt.reports.timing.subjects import plain_network
from ftwt.runtime import native
from ftwt.runtime.native.binding import known_sets, team_size
from ftwt.tables import percent

# Packages that something of ftwt works better with, by what they are for.
_OPTIONAL = {
    "onnx": "export, engines",
    "onnxruntime": "bench",
    "openvino": "bench",
    "timm": "networks",
    "matplotlib": "plots",
    "tensorboard": "training",
    "torchmetrics": "tasks",
}
# Rounding of float32 over a few layers, of the largest output.
_NEAR = 1e-4
_REDUCTION = 0.5
# Rounds of timing; fewer where other programs disturb all of them, and each takes long.
_ROUNDS, _FEW_ROUNDS = 15, 3
# Seconds over which to look what other programs do.
_LOOK = 0.5
_SPEED = "faster than torch"
_whole = percent(0, " %")


@dataclass(frozen=True)
class Check:
    """One thing that was tried, whether it is as it should be, and what to do where it is not.

    `passed` is None where that cannot be told now.
    """

    name: str
    passed: bool | None
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
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {**asdict(self), "passed": self.passed}


def doctor(tell: Callable[[str], None] = lambda doing: None) -> Health:
    """Look at this installation, and try skipping on a small network of random weights.

    Takes some seconds. Where other programs use the processors meanwhile, speed is not judged.

    Args:
        tell: is told what is done next.
    """
    tell("looking at packages, processor and kernels")
    busy = _busy()
    rounds = _ROUNDS if busy <= QUIET else _FEW_ROUNDS
    facts = _facts(busy)
    kernels, threads = _kernels(), _threads()
    tell("setting up a small network")
    model, images = _subject()
    tell("comparing the outputs of skipping, and the MACs that it ran")
    same, counted = _same(model, images), _counted(model, images)
    tell(f"timing it beside torch and the engines that are installed, {rounds} rounds")
    speed, milliseconds = _speed(model, images, rounds)
    packages = {name: _version(name) for name in _OPTIONAL}
    return Health(facts, packages, (kernels, threads, same, counted, speed), milliseconds)


def _busy() -> float:
    """Share of the processors that other programs use now; 0 where the system does not tell."""
    others = Others()
    time.sleep(_LOOK)
    return others.share() or 0.0


def _facts(busy: float) -> dict[str, str]:
    here = machine()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else here["cores"]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    peak = native.peak()
    disturbed = f", while others used {_whole(busy)} of the processors" if busy > QUIET else ""
    return {
        **here["versions"],
        "system": platform.platform(),
        "CPU": here["cpu"],
        "cores": f"{here['cores']}, {usable} of them for this process",
        "threads": str(here["threads"]),
        "instruction sets": ", ".join(known_sets()) or "unknown without kernels",
        "instruction set in use": native.instruction_set() or "none",
        "peak": "unknown" if peak is None else f"{peak:.0f} GMAC/s{disturbed}",
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


def _speed(model: Gated, images: torch.Tensor, rounds: int) -> tuple[Check, dict[str, float]]:
    """One image at a time, against the plain network in torch and in the engines that are there.

    What is checked is the installation, which is in order where torch is slower; which engine is
    the fastest depends on the network, and is for `ftwt bench` to say.
    """
    plain, batches = plain_network(model), list(images.unsqueeze(1).unbind())
    deployments, _ = deployed(plain, batches[0])
    dense: dict[str, RunEngine] = {"dense, torch": plain}
    dense |= {f"dense, {name}": run for name, run in deployments.items()}
    own = f"skipping {_whole(_REDUCTION)} of the MACs"
    times, others, _ = interleave({**dense, own: runtime.skip(model)}, batches, rounds)
    speedup = paired_speedup(times["dense, torch"], times[own])
    found = ", ".join(f"{name}: {timing.ms:.2f} ms" for name, timing in times.items())
    milliseconds = {name: timing.ms for name, timing in times.items()}
    if others is not None and others > QUIET:
        found += (
            f"; not to be trusted: other programs used {_whole(others)} of the processors meanwhile"
        )
        return Check(_SPEED, None, found, "try again when nothing else computes"), milliseconds
    mend = "look whether kernels and threads are there"
    return Check(_SPEED, speedup > 1, found, mend), milliseconds
