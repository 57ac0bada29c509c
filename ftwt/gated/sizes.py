"""A gated network's anatomy for inputs of other sizes than it was attached with."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.anatomy import Anatomy, Shapes
from ftwt.gated.shared import WithShared, costed
from ftwt.gates.interface import Gate
from ftwt.graph import kept
from ftwt.graph.liveness import Liveness
from ftwt.graph.probing import probe
from ftwt.macs import plan

# Sizes that are remembered.
_MOST_SIZES = 64


def anatomy_for(
    own: Anatomy, network: nn.Module, inputs: Sequence[Tensor], asked: str = "trace"
) -> Anatomy:
    """What `attach` would have found out with these inputs as its example.

    It is found once for each set of shapes, one sample's of every input.

    Args:
        own: found when the network was attached.
        network: with the modules and tensors of the traced one.
        inputs: a batch.
        asked: who wants to know, for the message.

    Raises:
        FtwtError: the network does not take inputs of this size.
    """
    shapes = shapes_of(inputs)
    if shapes == own.expected:
        return own
    found = own.sizes.get(shapes)
    if found is None:
        found = _found(own, network, inputs, asked)
        while len(own.sizes) >= _MOST_SIZES:
            own.sizes.pop(next(iter(own.sizes)), None)
        own.sizes[shapes] = found
    return found


def shapes_of(inputs: Sequence[Tensor]) -> Shapes:
    """The shape of one sample of each input."""
    return tuple([tuple(one.shape[1:]) for one in inputs])


def _found(own: Anatomy, network: nn.Module, inputs: Sequence[Tensor], asked: str) -> Anatomy:
    root = _evaluated(network)
    # A forward may count in a buffer.
    before = kept.taken(root)
    try:
        probed = probe(root, own.traced.graph, inputs)
    except FtwtError:
        raise
    except Exception as error:
        given, expected = (", ".join(map(str, one)) for one in (shapes_of(inputs), own.expected))
        raise FtwtError(
            f"{asked}: the network does not run on samples of shape {given}; it was attached "
            f"with {expected}, give that"
        ) from error
    finally:
        kept.put_back(root, before)
    traced = replace(own.traced, root=root, probed=probed)
    liveness = Liveness(traced, {site.output.name: site.name for site in own.sites})
    return replace(
        own,
        traced=traced,
        liveness=liveness,
        plan=plan(traced, list(own.sites), liveness, _gate(own.plan.gate, network, inputs)),
        expected=shapes_of(inputs),
    )


def _gate(gate: Gate | None, network: nn.Module, inputs: Sequence[Tensor]) -> Gate | None:
    """The gate with what its shared module costs on inputs of this size."""
    if not isinstance(gate, WithShared):
        return gate
    gates = network.get_submodule("gates")
    assert isinstance(gates, nn.ModuleDict)
    return costed(gate.gate, gates, inputs)


def _evaluated(network: nn.Module) -> nn.Module:
    """The network in eval mode, on the very same tensors; the network itself stays as it is."""
    tensors = chain(network.parameters(), network.buffers())
    return copy.deepcopy(network, {id(one): one for one in tensors}).eval()
