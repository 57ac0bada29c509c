"""What is timed: one network in several forms, each a callable of a batch."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ftwt import gates, runtime
from ftwt.errors import FtwtError, first_line
from ftwt.export.engines import ENGINES, RunEngine
from ftwt.gated.attach import attach
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.graph import calls
from ftwt.graph.live import Evaluator
from ftwt.reports.timing.engines import deployed
from ftwt.runtime import native
from ftwt.slicing import cut

EAGER, FOLDED, COMPILED = "dense, eager", "dense, folded", "dense, compiled"
DENSE = (EAGER, FOLDED, COMPILED, *(f"dense, {name}" for name in ENGINES))
# The own kernels with every filter on, and no gates.
ALONE = "dense, native"
MASKED, BOUND = "masked", "sliced bound"
BOUNDS = (BOUND, f"{BOUND}, torch", *(f"{BOUND}, {name}" for name in ENGINES))
TORCH, NATIVE = "skip, torch", "skip, native"
PLANNED = "skip, planned"
BACKENDS = {TORCH: "torch", NATIVE: "native"}


@dataclass(frozen=True)
class Subjects:
    """Callables by name, in the order of a table, and why others are not there."""

    runs: Mapping[str, RunEngine]
    missing: Mapping[str, str]


def dense(network: nn.Module, model: Gated, batch: Tensor) -> Subjects:
    """The plain network with the model's weights: eager, batch norms folded, that compiled.

    The weights of a narrow network do not fit; the plain one keeps its own then.
    """
    plain = copy.deepcopy(network).eval()
    weights = {name: one for name, one in model.state_dict().items() if name in plain.state_dict()}
    whole = model
    if any(weights[name].shape != one.shape for name, one in plain.state_dict().items()):
        whole = attach(plain, Pruning(gates.Fixed({})), example=batch[:1]).eval()
    else:
        plain.load_state_dict(weights)
    folded = plain_network(whole)
    runs: dict[str, RunEngine] = {EAGER: plain, FOLDED: folded}
    missing: dict[str, str] = {}
    compiled = torch.compile(copy.deepcopy(folded))
    try:
        with torch.inference_mode():
            compiled(batch)
        runs[COMPILED] = compiled
    except Exception as error:
        # No C++ compiler, or one that torch cannot use: many types of error, all with a reason.
        missing[COMPILED] = f"torch.compile does not work here: {first_line(error)}"
    _deploy("dense", folded, batch, runs, missing)
    _kernels(ALONE, plain, batch, runs, missing)
    return Subjects(runs, missing)


def bounds(network: nn.Module, batch: Tensor) -> Subjects:
    """The network cut beforehand, without gates: by the own kernels, by torch and by the engines.

    The first is what skipping could reach at best, as the same kernels run it. Without the library
    that is torch.
    """
    runs: dict[str, RunEngine] = {}
    missing: dict[str, str] = {}
    _kernels(BOUND, network, batch, runs, missing)
    runs.setdefault(BOUND, network)
    runs[f"{BOUND}, torch"] = network
    _deploy(BOUND, network, batch, runs, missing)
    return Subjects(runs, missing)


def _deploy(
    form: str,
    network: nn.Module,
    batch: Tensor,
    runs: dict[str, RunEngine],
    missing: dict[str, str],
) -> None:
    """Add the network as each engine runs it."""
    found, why = deployed(network, batch)
    runs |= {f"{form}, {name}": run for name, run in found.items()}
    missing |= {f"{form}, {name}": reason for name, reason in why.items()}


def _kernels(
    form: str,
    network: nn.Module,
    batch: Tensor,
    runs: dict[str, RunEngine],
    missing: dict[str, str],
) -> None:
    """Add a plain network as the own kernels run it: gates that cost nothing keep every filter."""
    if (reason := native.missing()) is not None:
        missing[form] = f"there are no native kernels: {reason}"
        return
    try:
        model = attach(network, Pruning(gates.Fixed({})), example=batch[:1]).eval()
        runs[form] = runtime.skip(model, backend="native")
    except FtwtError as error:
        missing[form] = str(error)


def skipping(model: Gated | Escalating, batch: Tensor) -> Subjects:
    """The skipping runtime: each back end for every step that it takes, and by its plan."""
    runs: dict[str, RunEngine] = {}
    missing: dict[str, str] = {}
    for name, backend in BACKENDS.items():
        if backend == "native" and (reason := native.missing()) is not None:
            missing[name] = f"there are no native kernels: {reason}"
            continue
        try:
            runs[name] = runtime.skip(model, backend=backend)
        except FtwtError as error:
            missing[name] = str(error)
    runs[PLANNED] = runtime.skip(model, calibrate=batch)
    return Subjects(runs, missing)


def layers(skipping: Subjects, batch: int, peak: float | None) -> list[dict[str, Any]]:
    """The steps of the planned form: milliseconds for a batch, MACs of an image, and their rate.

    `gmacs` is in 10^9 MACs a second, `share_of_peak` what that is of `peak`.
    """
    planned = skipping.runs[PLANNED]
    assert isinstance(planned, runtime.Skipping)
    rows = []
    for row in planned.explain(batch).rows:
        rate = batch * row.macs / row.ms / 1e6 if row.macs and row.ms else None
        share = rate / peak if rate is not None and peak else None
        rows.append({**asdict(row), "gmacs": rate, "share_of_peak": share})
    return rows


def bound(
    model: Gated, images: Float[Tensor, "B C H W"], *, round_to: int | None = None
) -> tuple[nn.Module, int]:
    """The plain network cut to the masks of the most ordinary image, and that image's MACs.

    Ordinary is the one whose MACs are nearest to the mean. It has as many channels in each layer,
    chosen beforehand, and no gates.
    """
    with torch.no_grad():
        trace = model.trace(images, targets=False)
    macs = trace.macs.double()
    typical = int((macs - macs.mean()).abs().argmin())
    masks = {name: mask[typical] for name, mask in trace.masks.items()}
    # By default exactly these: numbered anew through sums, layers would keep more of them.
    return cut(model, nested(model, masks), round_to=round_to), int(trace.macs[typical])


def nested(model: Gated, masks: Mapping[str, Bool[Tensor, "C"]]) -> dict[str, Bool[Tensor, "C"]]:
    """As many channels, those of a depthwise site among its live inputs while there are enough.

    A narrow network has no depthwise filter without an input; in a gated one such filters answer
    a constant.
    """
    rows = {name: mask[None] for name, mask in masks.items()}
    for site in model.anatomy.sites:
        module, source = site.module, calls.source_of(site.convolution)
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


def plain_network(model: Gated, *, fold: bool = True) -> nn.Module:
    """The plain network with the model's weights, in eval mode; `fold` as for `cut`."""
    every = {
        gate.site.name: torch.ones(gate.site.out_channels, dtype=torch.bool)
        for gate in model.site_gates
    }
    return cut(model, every, fold=fold).eval()
