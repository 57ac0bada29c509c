"""Milliseconds of the demo's networks on this machine, side by side."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from ftwt import gates, runtime
from ftwt.export.engines import RunEngine
from ftwt.gated.attach import attach
from ftwt.gated.escalation import Escalating
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.reports.timing.engines import deployed
from ftwt.reports.timing.measure import interleave, latency
from ftwt.reports.timing.subjects import bound

DENSE, CUT = "dense", "cut to as few filters"
GATES, SHARED = "gates, skipping", "budget for each image, skipping"


class NetworkTime(NamedTuple):
    """Mean milliseconds for one image."""

    network: str
    by: str
    ms: float


def times(
    plain: nn.Module, gated: Gated, shared: Escalating, images: Float[Tensor, "N C H W"]
) -> tuple[tuple[NetworkTime, ...], float | None]:
    """Time the networks dense, cut, with gates and with a shared budget, one image at a time.

    Returns:
        A time for each form that could be made here, and the share of the processors that other
        programs used meanwhile, None where the system does not tell.
    """
    batches = list(images.unsqueeze(1).unbind())
    cut, _ = bound(gated, images)
    runs: dict[tuple[str, str], RunEngine] = {
        **_plain(DENSE, plain.eval(), batches[0]),
        **_plain(CUT, cut.eval(), batches[0]),
        (GATES, "ftwt"): runtime.skip(gated),
        (SHARED, "ftwt"): runtime.skip(shared),
    }
    measured = interleave(runs, batches, len(batches))
    found = (
        NetworkTime(*key, latency(timing, len(batches)).mean)
        for key, timing in measured.times.items()
    )
    return tuple(found), measured.others


def _plain(name: str, network: nn.Module, image: Tensor) -> dict[tuple[str, str], RunEngine]:
    """A network without decisions: in torch, in the engines that are there, in ftwt's kernels."""
    engines, _ = deployed(network, image)
    whole = attach(network, Pruning(gates.Fixed({})), example=image).eval()
    return {
        (name, "torch"): network,
        **{(name, engine): run for engine, run in engines.items()},
        (name, "ftwt"): runtime.skip(whole),
    }
