"""`narrow`: from a gated network to a smaller gated one, without some of its filters."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.attach import attach
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.gates.interface import ChoosesGate, Gate, SharesModule, is_oracle
from ftwt.gates.narrowed import Narrowed, NarrowedGate, Part, can_shed
from ftwt.gates.untrained import Fixed
from ftwt.graph import calls, operations
from ftwt.graph.sites import Candidate, shape_of
from ftwt.graph.tracing import Traced
from ftwt.io.registry import finished_by
from ftwt.slicing.closure import closed
from ftwt.slicing.cut import cut_with_order


def narrow(
    model: Gated, kept: Mapping[str, Bool[Tensor, "C"]], *, round_to: int | None = 1
) -> Gated:
    """Return an ordinary, smaller network with gates, without the filters that `kept` leaves out.

    It answers what `model` does wherever `model` runs none of the filters left out, and has sites,
    training mode and thresholds in common with it; what `ftwt.calibrate` found is not taken along,
    as reductions are now those of a smaller network. Some filters stay although they are left out,
    with their gates: where a layer cannot be cut alone, and where another side of a sum needs the
    channel, so that the operations are those of the whole network; see `ftwt.slicing.closure`.

    Args:
        model: a gated network, not narrowed before.
        kept: by site, the filters to keep (C_out,).
        round_to: keep more filters until each site has a multiple of this, or all of them. None
            keeps no filter for a sum's sake; see `ftwt.slicing.cut`.

    Raises:
        FtwtError: `round_to` is below 1, a mask is missing or of the wrong width; gates that are
            told by the target (Oracle); or a layer cannot be cut.

    Example:
        >>> import ftwt
        >>> model = ftwt.attach(ftwt.backbones.resnet8(), ftwt.Pruning(),
        ...                     example=torch.zeros(1, 3, 32, 32)).eval()
        >>> kept = {site: torch.arange(gate.site.out_channels) % 4 > 0
        ...         for site, gate in zip(model.sites, model.site_gates)}
        >>> narrow(model, kept).get_submodule("layer1.0.conv1")
        Conv2d(12, 12, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
    """
    gate = model.pruning.gate
    if isinstance(gate, Narrowed):
        raise FtwtError(
            "narrow: filters were removed from this network before; start from the whole one"
        )
    if is_oracle(gate):
        raise FtwtError("narrow: an oracle has no gates to keep; attach gates that predict")
    if isinstance(gate, SharesModule):
        raise FtwtError(
            f"narrow: gates of {type(gate).__name__} share a module, which may need every filter; "
            "attach gates that read their own site alone"
        )
    small, parts = _cut(model, closed(model, kept, round_to), gate)
    made = _attach(small, model, replace(model.pruning, gate=Narrowed(parts)))
    for old, new in zip(model.site_gates, made.site_gates, strict=True):
        assert isinstance(new.gate, NarrowedGate)
        new.gate.take(old.gate)
    return made.with_thresholds(model.thresholds).train(model.training)


def renarrow(model: Gated, pruning: Pruning) -> Gated:
    """Make the narrowed network of `pruning` again, from a whole one; its weights mean nothing."""
    narrowed = pruning.gate
    assert isinstance(narrowed, Narrowed)
    kept = {}
    for name, part in narrowed.parts.items():
        kept[name] = torch.zeros(part.out_channels, dtype=torch.bool)
        kept[name][torch.tensor(part.outputs)] = True
    small, parts = _cut(model, kept, Fixed({}))
    for name, part in parts.items():
        if part.inputs != narrowed.parts[name].inputs:
            raise FtwtError(
                f"narrow: the inputs of {name!r} come in another order than in the file, so its "
                "weights would be mixed up; load it with the version that wrote it"
            )
    return _attach(small, model, pruning)


finished_by(Narrowed, renarrow)


def _cut(model: Gated, kept: Mapping[str, Tensor], gate: Gate) -> tuple[nn.Module, dict[str, Part]]:
    emitted = cut_with_order(model, kept, fold=False, round_to=None)
    times = Counter(one.module for one in model.anatomy.candidates if one.module is not None)
    parts = {}
    for site, held in zip(model.anatomy.sites, model.site_gates, strict=True):
        if site.module is not None and times[site.module] > 1:
            raise FtwtError(
                f"narrow: {site.name!r} is a layer that is called more than once, so its calls "
                "share their filters; leave it alone with where="
            )
        shape = shape_of(site, model.anatomy.traced)
        shares = emitted.shares.get(site.name, ())
        whole = len(shares) == 1 and len(shares[0].outputs) == int(kept[site.name].sum())
        if not whole:
            raise FtwtError(
                f"narrow: {site.name!r} does not stay one convolution without these filters; keep "
                "all filters of the layers before it"
            )
        chosen = gate.chosen(shape) if isinstance(gate, ChoosesGate) else gate
        left = shares[0].inputs, shares[0].outputs
        parts[site.name] = Part(
            chosen, *shape[1:4], *left, sheds=can_shed(held.gate), depthwise=shape.depthwise
        )
    return emitted.network, parts


def _attach(small: nn.Module, model: Gated, pruning: Pruning) -> Gated:
    device = next((one.device for one in model.parameters()), torch.device("cpu"))
    example = tuple(torch.zeros(1, *shape, device=device) for shape in model.anatomy.expected)
    # What was not looked into for the whole network is not for the smaller one.
    traced = model.anatomy.traced
    modules = (traced.module(node) for node in traced.graph.nodes)
    leaves = tuple({type(one) for one in modules if one is not None})
    made = attach(small, pruning, example=example, where=list(model.sites), leaves=leaves)
    for old, new in zip(model.anatomy.sites, made.anatomy.sites, strict=True):
        if _length(old, traced) != _length(new, made.anatomy.traced):
            raise FtwtError(
                f"narrow: {old.name!r} and its norm and activation cannot be cut together; write "
                "them as modules of torch.nn, or leave the layer alone with where="
            )
    return made


def _length(site: Candidate, traced: Traced) -> int:
    """Operations of a site that do something."""
    node, count = site.output, 1
    while node is not site.convolution:
        count += not operations.is_a(traced.module(node), (nn.Identity,))
        source = calls.source_of(node)
        assert source is not None
        node = source
    return count
