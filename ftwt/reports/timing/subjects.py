"""What is timed: one network in several forms, each a callable of a batch."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ftwt import runtime
from ftwt.errors import FtwtError
from ftwt.gated.model import Gated
from ftwt.graph import calls
from ftwt.graph.live import Evaluator
from ftwt.runtime import native
from ftwt.slicing import cut

Run: TypeAlias = Callable[[Tensor], Any]

EAGER, FOLDED, COMPILED = "dense, eager", "dense, folded", "dense, compiled"
DENSE = (EAGER, FOLDED, COMPILED)
MASKED, BOUND = "masked", "sliced bound"
TORCH, NATIVE = "skip, torch", "skip, native"
PLANNED = "skip, planned"
BACKENDS = {TORCH: "torch", NATIVE: "native"}


@dataclass(frozen=True)
class Subjects:
    """Callables by name, in the order of a table, and why others are not there."""

    runs: Mapping[str, Run]
    missing: Mapping[str, str]


def dense(network: nn.Module, model: Gated, batch: Tensor) -> Subjects:
    """The plain network with the model's weights: eager, batch norms folded, that compiled."""
    weights = {
        name: one for name, one in model.state_dict().items() if not name.startswith("gates.")
    }
    plain = copy.deepcopy(network).eval()
    plain.load_state_dict(weights)
    folded = cut(
        model, {name: torch.ones(w, dtype=torch.bool) for name, w in widths(model).items()}
    )
    runs: dict[str, Run] = {EAGER: plain, FOLDED: folded}
    missing: dict[str, str] = {}
    compiled = torch.compile(copy.deepcopy(folded))
    try:
        with torch.inference_mode():
            compiled(batch)
        runs[COMPILED] = compiled
    except Exception as error:
        # No C++ compiler, or one that torch cannot use: many types of error, all with a reason.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        missing[COMPILED] = f"torch.compile does not work here: {lines[0]}"
    return Subjects(runs, missing)


def skipping(model: Gated, batch: Tensor) -> Subjects:
    """The skipping runtime: each back end for every step that it takes, and by its plan."""
    runs: dict[str, Run] = {}
    missing: dict[str, str] = {}
    for name, backend in BACKENDS.items():
        if backend == "native" and not native.available():
            missing[name] = "the native library is not built in this installation"
            continue
        try:
            runs[name] = runtime.skip(model, backend=backend)
        except FtwtError as error:
            missing[name] = str(error)
    runs[PLANNED] = runtime.skip(model, calibrate=batch)
    return Subjects(runs, missing)


def layers(skipping: Subjects, batch: int) -> list[dict[str, Any]]:
    """The steps of the planned form, with milliseconds for a batch and MACs of an image."""
    planned = skipping.runs[PLANNED]
    assert isinstance(planned, runtime.Skipping)
    return [asdict(row) for row in planned.explain(batch).rows]


def bound(model: Gated, images: Float[Tensor, "B C H W"]) -> tuple[nn.Module, int]:
    """The plain network cut to the masks of the most ordinary image, and that image's MACs.

    Ordinary is the one whose MACs are nearest to the mean. It is what skipping could reach at
    best: as many channels in each layer, chosen beforehand, without gates.
    """
    with torch.no_grad():
        trace = model.trace(images, targets=False)
    macs = trace.macs.double()
    typical = int((macs - macs.mean()).abs().argmin())
    masks = {name: mask[typical] for name, mask in trace.masks.items()}
    return cut(model, nested(model, masks)), int(trace.macs[typical])


def nested(model: Gated, masks: Mapping[str, Bool[Tensor, "C"]]) -> dict[str, Bool[Tensor, "C"]]:
    """As many channels, those of a depthwise site among its live inputs while there are enough.

    A narrow network has no depthwise filter without an input; in a gated one such filters answer
    a constant.
    """
    rows = {name: mask[None] for name, mask in masks.items()}
    for site in model.anatomy.sites:
        module, source = site.module, calls.source(site.convolution)
        assert source is not None
        width = rows[site.name].shape[1]
        if not isinstance(module, nn.Conv2d) or not module.groups == module.in_channels == width:
            continue
        live = Evaluator(rows, rows[site.name])(model.anatomy.liveness.channels(source))[0]
        mask = rows[site.name][0]
        # Running and live, then live, then running: stable, so that it is the same every time.
        rank = torch.argsort((2 * live + mask).double(), descending=True, stable=True)
        chosen = torch.zeros_like(mask)
        chosen[rank[: int(mask.sum())]] = True
        rows[site.name] = chosen[None]
    return {name: row[0] for name, row in rows.items()}


def widths(model: Gated) -> dict[str, int]:
    """Filters of each site."""
    shapes = (model.anatomy.traced.shape(site.output) for site in model.anatomy.sites)
    return {
        name: shape[1] for name, shape in zip(model.sites, shapes, strict=True) if shape is not None
    }
