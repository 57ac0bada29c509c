"""Settings: gated networks that answer the same inputs at different cost."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx

from ftwt.errors import FtwtError
from ftwt.gated.known_masks import fixed_masks, table_of
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.gated.shared import costed, gates_for, samples
from ftwt.gates.interface import Gate
from ftwt.gates.untrained import Fixed


def with_gate(model: Gated, gate: Gate) -> Gated:
    """The same network under other gates, new ones; it shares the backbone's weights with `model`.

    So one set of weights makes several settings: `with_gate(model, gates.Fixed(masks))`.
    """
    return with_pruning(model, Pruning(gate=gate, target=model.pruning.target))


def with_pruning(model: Gated, pruning: Pruning) -> Gated:
    """The same network gated otherwise, with gates of its own; it shares all other weights."""
    twin = model.with_thresholds(dict.fromkeys(model.sites, 0.0), ())
    twin.pruning = pruning
    own = model.anatomy
    twin.gates = gates_for(own.sites, own.traced, own.liveness, pruning)
    twin.gates.train(model.training)
    # Costs at other sizes are counted anew: they were those of the other gates.
    examples = samples(own.expected, own.dtypes)
    plan = replace(own.plan, gate=costed(pruning.gate, twin.gates, examples))
    twin.anatomy = replace(own, plan=plan, sizes={})
    device = next((one.device for one in model.parameters()), torch.device("cpu"))
    twin.gates.to(device)
    return twin


def every_filter(model: Gated) -> Gated:
    """The network with every filter on and no gates to pay for; it shares its weights."""
    return with_gate(model, Fixed({}))


def check_settings(settings: Sequence[Gated]) -> None:
    """Raise FtwtError unless these can answer for each other, the cheaper ones first."""
    for place, setting in enumerate(settings):
        _check_alone(place, setting)
    for place, (low, high) in enumerate(pairwise(settings)):
        if low.anatomy.expected != high.anatomy.expected:
            raise FtwtError(
                f"escalate: setting {place} takes samples of shapes {low.anatomy.expected}, the "
                f"next one {high.anatomy.expected}; attach all with one example"
            )
        ours, theirs = _answer(low), _answer(high)
        if ours != theirs:
            raise FtwtError(
                f"escalate: setting {place} answers with {ours}, the next one with {theirs}; give "
                "settings of one task, with outputs of the same shape"
            )
        _check_order(place, low, high)


def _check_alone(place: int, setting: Gated) -> None:
    if any(one is not None and len(one) > 1 for one in map(table_of, setting.site_gates)):
        gate = type(setting.pruning.gate).__name__
        raise FtwtError(
            f"escalate: the masks of setting {place} ({gate}) go by the place in "
            "the batch, which another setting's samples do not keep; give one mask for each site "
            "to gates.Fixed, or gates that look at the image"
        )


def _check_order(place: int, low: Gated, high: Gated) -> None:
    first, second = fixed_masks(low), fixed_masks(high)
    if first is not None and second is not None:
        ours, theirs = cost_of(low, first), cost_of(high, second)
        if ours >= theirs:
            raise FtwtError(
                f"escalate: setting {place} costs {ours:,} MACs, the next one {theirs:,}; give "
                "settings in order of rising cost"
            )
    pairs = zip(low.site_gates, high.site_gates, strict=False)
    if all(one.gate is other.gate for one, other in pairs):
        ours_at, theirs_at = low.thresholds, high.thresholds
        if all(theirs_at[name] >= ours_at[name] for name in ours_at):
            raise FtwtError(
                f"escalate: setting {place} is the next one's model at thresholds as low or lower, "
                "so that the next one does not cost more; give settings in order of rising cost"
            )


def cost_of(model: Gated, masks: dict[str, Tensor]) -> int:
    """Exact MACs of a sample whose masks are these, (C,) each."""
    return int(model.anatomy.plan.total({name: mask[None] for name, mask in masks.items()}))


def _answer(model: Gated) -> Any:
    """The output's structure, with a sample's shape in place of each tensor."""
    traced = model.anatomy.traced
    output = next(node for node in traced.graph.nodes if node.op == "output")

    def shape(node: fx.Node) -> Any:
        found = traced.shape(node)
        return None if found is None else tuple(found[1:])

    return fx.node.map_arg(output.args[0], shape)
