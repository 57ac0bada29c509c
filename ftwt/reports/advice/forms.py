"""The network whole, with fixed masks and with gates: what is looked at, and what is timed."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from ftwt import gates, runtime
from ftwt.budget.static import inner_sites, mean_scores, uniform_masks
from ftwt.errors import FtwtError
from ftwt.export.engines import RunEngine
from ftwt.gated.attach import attach
from ftwt.gated.known_masks import fixed_masks
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.reports.timing.calibration import randomize_to_reduction
from ftwt.reports.timing.engines import deployed
from ftwt.reports.timing.measure import interleave
from ftwt.slicing import cut
from ftwt.training.inspection import Loader

_ROUNDS = 7
WHOLE = "whole"
# Images that are timed; the others set the gates.
TIMED = 8


@dataclass(frozen=True)
class FormTime:
    """Milliseconds for one image, and what ran it."""

    ms: float
    by: str


def with_fixed_masks(
    plain: nn.Module, loader: Loader, example: Tensor, share: float
) -> Gated | str:
    """The network with the same filters for all images, at a share of its MACs; or why not."""
    sites = inner_sites(plain, example)
    every = attach(plain, Pruning(gates.Fixed({})), example=example, where=sites)
    try:
        masks = uniform_masks(every, mean_scores(every, loader), share * every.dense_macs)
    except FtwtError as error:
        return str(error)
    return attach(plain, Pruning(masks), example=example, where=sites).eval()


def with_gates(plain: nn.Module, gate: gates.Gate, images: Tensor, reduction: float) -> Gated | str:
    """The network with untrained gates that save so much, other filters for each image."""
    model = attach(plain, Pruning(gate), example=images[:1]).eval()
    try:
        randomize_to_reduction(model, images[TIMED:], reduction)
    except FtwtError as error:
        return str(error)
    return model


def timed(
    plain: nn.Module, models: dict[str, Gated], images: Float[Tensor, "N C H W"]
) -> dict[str, FormTime]:
    """The network as it is (`WHOLE`), and others, one image at a time, each by its fastest form.

    Networks with fixed masks are cut and given to the engines too; gates run in this library.
    """
    batches = list(images[:TIMED].unsqueeze(1).unbind())
    every = attach(plain, Pruning(gates.Fixed({})), example=batches[0]).eval()
    forms: dict[str, dict[str, RunEngine]] = {WHOLE: _deployed(every, batches[0])}
    for name, model in models.items():
        own: dict[str, RunEngine] = {"skipping": runtime.skip(model)}
        same_for_all = fixed_masks(model) is not None
        forms[name] = own | (_deployed(model, batches[0]) if same_for_all else {})
    runs = {(name, by): run for name, found in forms.items() for by, run in found.items()}
    times, _, _ = interleave(runs, batches, _ROUNDS)
    best: dict[str, FormTime] = {}
    for (name, by), timing in times.items():
        if name not in best or timing.ms < best[name].ms:
            best[name] = FormTime(timing.ms, by)
    return best


def _deployed(model: Gated, batch: Tensor) -> dict[str, RunEngine]:
    """A network whose masks are fixed, cut: in torch, in this library's kernels, in engines."""
    masks = fixed_masks(model)
    assert masks is not None
    small = cut(model, masks).eval()
    engines, _ = deployed(small, batch)
    lone = attach(small, Pruning(gates.Fixed({})), example=batch).eval()
    return {"torch": small, "this library's kernels": runtime.skip(lone), **engines}
