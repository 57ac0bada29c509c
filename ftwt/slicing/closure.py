"""Which filters have to stay so that a cut network has the same sites as the whole one."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ftwt.gated.model import Gated
from ftwt.graph import calls
from ftwt.graph.live import (
    All,
    Concatenation,
    Evaluator,
    Intersection,
    Live,
    OfSite,
    Reorder,
    Union,
)
from ftwt.graph.sites import Candidate
from ftwt.runtime.lowering import lower
from ftwt.runtime.numbering import alive, check_round_to, spread_sets
from ftwt.runtime.program import Call, Conv, Program
from ftwt.slicing.cut import check_masks


def closed(
    model: Gated, kept: Mapping[str, Bool[Tensor, "C"]], round_to: int | None = 1
) -> dict[str, Bool[Tensor, "C"]]:
    """Return `kept` with the filters added that a cut into one convolution a site needs.

    Every site keeps a filter and a live input. A depthwise convolution keeps the filters of its
    live inputs, as its gate reads these, and the inputs of its filters; any other grouped
    convolution, whose groups would come out uneven, is left whole. Sites whose outputs meet in a
    sum keep the same filters, and each a multiple of `round_to` or all, unless that is None.
    """
    if round_to is not None:
        check_round_to("narrow", round_to)
    found = {name: row[0].clone() for name, row in check_masks(model, kept).items()}
    program = lower(model, model.anatomy, gates=False, fold=False)
    while True:
        before = sum(int(mask.sum()) for mask in found.values())
        rows = {name: mask[None] for name, mask in found.items()}
        live = Evaluator(rows, next(iter(rows.values())))
        for site in model.anatomy.sites:
            _mend(model, site, found, live)
        for name, mask in _meeting(program, live, round_to).items():
            found[name] |= mask
        if sum(int(mask.sum()) for mask in found.values()) == before:
            return found


def _meeting(program: Program, live: Evaluator, round_to: int | None) -> dict[str, Tensor]:
    """By site, the filters that have to stay because of what its output meets."""
    in_place = any(isinstance(step, Call) and step.changes for step in program.steps)
    if round_to is None or in_place:
        return {}
    kept = alive(program, live)
    spread_sets(program, kept, round_to)
    sites = [step for step in program.steps if isinstance(step, Conv) and step.site is not None]
    return {str(step.site): kept[step.output].to(step.weight.device) for step in sites}


def _mend(model: Gated, site: Candidate, found: dict[str, Tensor], live: Evaluator) -> None:
    """Add what one site lacks, as far as `live`, the state before, tells."""
    own = found[site.name]
    if not own.any():
        own[0] = True
    source = calls.source_of(site.convolution)
    if source is None or site.convolution.op != "call_module":
        return
    conv = model.get_submodule(str(site.convolution.target))
    if not isinstance(conv, nn.Conv2d):
        return
    channels = model.anatomy.liveness.channels(source)
    given = live(channels)[0]
    if conv.groups == 1:
        missing = [] if given.any() else range(len(given))
        any(_revive(channels, one, found) for one in missing)
        return
    if conv.groups == conv.in_channels == conv.out_channels:
        own |= given
    else:
        own[:] = True
    wanted = own if len(own) == len(given) else torch.ones_like(given)
    for one in (wanted & ~given).nonzero().flatten().tolist():
        _revive(channels, one, found)


def _revive(live: Live, channel: int, found: dict[str, Tensor]) -> bool:
    """Keep a filter more so that a channel is live; says whether there is such a filter."""
    match live:
        case All():
            return True
        case OfSite():
            found[live.site][channel] = True
            return True
        case Union():
            return any(_revive(part, channel, found) for part in live.parts)
        case Intersection():
            revived = [_revive(part, channel, found) for part in live.parts]
            return all(revived)
        case Concatenation():
            for part in live.parts:
                if channel < part.width:
                    return _revive(part, channel, found)
                channel -= part.width
            raise AssertionError("no such channel")
        case Reorder():
            place = live.index[channel]
            return place > 0 and _revive(live.source, place - 1, found)
