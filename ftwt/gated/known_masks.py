"""Masks that are the same for every input, and so are known before any comes."""

from jaxtyping import Bool, Float
from torch import Tensor

from ftwt.gated.model import Gated
from ftwt.gated.site_gate import SiteGate
from ftwt.gates.forms import TableForm, form_of
from ftwt.gates.interface import compares_with_zero


def known_masks(model: Gated) -> dict[str, Bool[Tensor, "C"]]:
    """The masks that are the same for every input, at the present thresholds, by site.

    A site whose estimator does more than compare logits with zero has none.
    """
    tables = {gate: table_of(gate) for gate in model.site_gates if compares(gate)}
    return {
        gate.site.name: mask_of(logits[0].detach(), gate.threshold)
        for gate, logits in tables.items()
        if logits is not None and len(logits) == 1
    }


def fixed_masks(model: Gated) -> dict[str, Bool[Tensor, "C"]] | None:
    """The masks of all sites if all are the same for every input; else None."""
    found = known_masks(model)
    return found if len(found) == len(model.sites) else None


def mask_of(logits: Tensor, threshold: float) -> Tensor:
    """Which filters run. A logit that is no number lets one run, so that the output shows it."""
    return ~(logits <= threshold)


def compares(gate: SiteGate) -> bool:
    """Whether a mask is, in eval mode, where the logit is above the threshold."""
    return compares_with_zero(gate.pruning.estimator)


def table_of(gate: SiteGate) -> Float[Tensor, "rows C"] | None:
    """A site's logits if they depend on no input: one row for all samples, or rows in turn."""
    form = form_of(gate.gate)
    return form.logits if isinstance(form, TableForm) else None
