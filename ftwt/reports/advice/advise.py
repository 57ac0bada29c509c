"""`advise`: from a few passes and some timings to what each way would gain."""

from collections.abc import Callable, Mapping

import torch

from ftwt import targets
from ftwt.budget import EstimateRow, estimate
from ftwt.errors import FtwtError, check_within
from ftwt.gated.model import Gated
from ftwt.reports.advice import forms
from ftwt.reports.advice.found import Advice, OracleSetting, Way
from ftwt.reports.advice.looking import look
from ftwt.reports.timing.subjects import plain_network
from ftwt.tables import percent
from ftwt.training.evaluation import evaluate
from ftwt.training.inspection import Loader, first
from ftwt.training.recipes.recipe import Escalation

# Masses that one pass tries; a trained network differs from a perfect gate by more than a step.
_MASSES = (*(round(0.3 + 0.02 * step, 2) for step in range(35)), 1.0)
# Reductions that are shown beside the one that was asked for.
_SHOWN = (0.2, 0.35, 0.5, 0.65, 0.8)
# Images that gates are set on for timing: half to set them, half to look.
_SET = 64
# Fewer leave none to set gates on beside those that are timed.
_LEAST = 2 * forms.TIMED
# What answers again where a budget leaves no room for the whole network: timed, but no way itself.
_WIDER = "wider"


def advise(
    model: Gated,
    loader: Loader,
    *,
    reduction: float = 0.5,
    say: Callable[[str], None] = lambda text: None,
) -> Advice:
    """Look at a network with every filter on, and tell what ways to save MACs would gain.

    Args:
        model: the network with the gates in question, which need no training: what they would
            cost is counted.
        loader: gives (images, labels), can be iterated again and again; some hundreds of images
            that the network was not trained on.
        reduction: share of the MACs to save, gates and second passes counted.
        say: is told what is being done, once nothing was found to refuse.

    Raises:
        FtwtError: the reduction is outside (0, 1), or the loader gives fewer than 16 images.
    """
    mend = "give the share of MACs to save, for example 0.5"
    check_within("advise", "reduction", reduction, "(0, 1)", mend)
    found = estimate(model, loader, [targets.HeatmapMass(mass) for mass in _MASSES])
    if found.images < _LEAST:
        raise FtwtError(
            f"advise: {found.images} images say too little; give {_LEAST} or more, better some "
            "hundreds, that the network was not trained on"
        )
    say(f"looking at {found.images} images, then timing what each way would make of the network")
    by_mass = dict(zip(_MASSES, found.rows, strict=True))
    row = by_mass[_nearest(by_mass, reduction)]
    seen = look(model, loader, row.rule)
    shares = Escalation().shares(reduction)
    may_go_on = (1 - reduction - shares[0]) / shares[1]
    shown = dict.fromkeys(_nearest(by_mass, at) for at in _SHOWN)
    return Advice(
        images=found.images,
        asked=reduction,
        dense_macs=model.dense_macs,
        gate_macs=model.gate_macs,
        dense_accuracy=found.dense_accuracy,
        depends=seen.depends,
        unsure=seen.unsure,
        may_go_on=may_go_on,
        sure_accuracy=seen.accuracy_of_surest(1 - may_go_on),
        ways=_ways(model, loader, row, found.dense_accuracy, reduction, shares, may_go_on),
        settings=tuple(
            OracleSetting(mass, by_mass[mass].reduction_exact, by_mass[mass].reduction_with_gates)
            for mass in shown
        ),
    )


def _nearest(rows: Mapping[float, EstimateRow], reduction: float) -> float:
    """The mass that saves nearest to what was asked."""
    return min(rows, key=lambda mass: abs(rows[mass].reduction_with_gates - reduction))


def _ways(
    model: Gated,
    loader: Loader,
    row: EstimateRow,
    dense_accuracy: float,
    reduction: float,
    shares: tuple[float, float],
    goes_on: float,
) -> tuple[Way, ...]:
    plain = plain_network(model, fold=False)
    images = torch.cat([batch for batch, _ in first(loader, _SET + forms.TIMED, "advise")])
    example = images[:1]
    made = {
        "fixed masks": forms.with_fixed_masks(plain, loader, example, 1 - reduction),
        "gates": forms.with_gates(plain, model.pruning.gate, images, reduction),
        "a budget for each image": forms.with_fixed_masks(plain, loader, example, shares[0]),
    }
    if shares[1] < 1:
        made[_WIDER] = forms.with_fixed_masks(plain, loader, example, shares[1])
    why = {name: one for name, one in made.items() if isinstance(one, str)}
    models = {name: one for name, one in made.items() if isinstance(one, Gated)}
    times = forms.timed(plain, models, images)
    whole = times[forms.WHOLE]
    again = times.get(_WIDER, whole)
    ways = [Way("as it is", 0.0, dense_accuracy, whole.ms, whole.by)]
    for name, form in models.items():
        time = times[name]
        match name:
            case "fixed masks":
                tried = evaluate(form, loader)
                ways.append(Way(name, tried.reduction_exact, tried.accuracy, time.ms, time.by))
            case "gates":
                applied = estimate(model, loader, [row.rule], sequential=True).rows[0].applied
                assert applied is not None
                saved = row.reduction_with_gates
                note = f"perfect ones, mass {row.amount('mass'):g}"
                ways.append(Way(name, saved, applied.accuracy, time.ms, time.by, note))
            case "a budget for each image":
                ms = time.ms + goes_on * again.ms
                kind = "a wider" if shares[1] < 1 else "the whole"
                again_for = percent(0, " %")(goes_on)
                note = f"a narrow network for all images, {kind} one again for {again_for}"
                ways.append(Way(name, reduction, None, ms, f"{time.by}, {again.by}", note))
    why.pop(_WIDER, None)
    return (*ways, *(Way(name, None, None, None, "", reason) for name, reason in why.items()))
