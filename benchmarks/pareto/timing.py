"""Milliseconds of recorded arms for one image at a time, all in one interleaved run."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ftwt import data, runtime
from ftwt.data.splits import balanced_prefix
from ftwt.errors import FtwtError
from ftwt.gated.attach import attach
from ftwt.gated.escalation import Escalating
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.gates import Fixed
from ftwt.io import storage
from ftwt.reports.timing.machine import Others, machine

_ROUNDS = 5


def timed(names: list[str], out: Path, source: str, images: int) -> dict[str, dict[str, Any]]:
    """Mean over test images of the median of five rounds, by name of record.

    An escalating network takes longer for images that it is unsure of, so the images are real ones,
    of all classes alike.

    Args:
        names: records whose models lie in `out`.
        out: where `run` left `NAME.safetensors`.
        source: the data, as for `ftwt train`.
        images: how many test images.
    """
    if not names:
        raise FtwtError("pareto: there are no records to time; run an arm first")
    dataset = data.load(source)
    chosen = dataset.test.select(balanced_prefix(dataset.test.labels, images))
    batches = data.Batches(chosen, 1, mean=dataset.mean, std=dataset.std)
    singles = [image for image, _ in batches]
    fast = {name: _fast(out / f"{name}.safetensors", singles[0]) for name in names}
    others = Others()
    spent: dict[str, list[list[float]]] = {name: [[] for _ in singles] for name in names}
    with torch.inference_mode():
        for _ in range(_ROUNDS + 1):
            for name, model in fast.items():
                for place, image in enumerate(singles):
                    begun = time.perf_counter()
                    model(image)
                    spent[name][place].append(1e3 * (time.perf_counter() - begun))
    about = {"machine": machine(), "images": len(singles), "others": others.share()}
    return {
        # The first round warms up.
        name: about | {"ms": statistics.mean(statistics.median(one[1:]) for one in rounds)}
        for name, rounds in spent.items()
    }


def _fast(file: Path, image: Tensor) -> Callable[[Tensor], Any]:
    """How the network would be deployed."""
    model, _ = storage.load(file)
    if isinstance(model, Escalating):
        return runtime.skip(model)
    if not isinstance(model, Gated):
        model = attach(model, Pruning(Fixed({})), example=image).eval()
    return runtime.skip(model)
