"""The gates of all sites, and what they share."""

import copy
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ftwt.errors import FtwtError
from ftwt.gated.pruning import Pruning
from ftwt.gated.site_gate import SiteGate, site_gates
from ftwt.gates.interface import Gate, SharesModule
from ftwt.graph.liveness import Liveness
from ftwt.graph.sites import Candidate, SiteShape, shape_of
from ftwt.graph.tracing import Traced


class Shared(nn.Module):
    """What the gates of all sites share: called once a pass, with the network's inputs.

    The first site's gate holds it. `context` are keyword arguments beside the inputs.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.context: Mapping[str, Any] = {}

    def forward(self, *inputs: Tensor) -> Any:
        """Return what every site's gate is given beside its own input."""
        if not torch.compiler.is_compiling():
            self.check(inputs, self.context)
        return self.module(*inputs, **self.context)

    def check(self, inputs: Sequence[Any], context: Mapping[str, Any]) -> None:
        """Raise FtwtError unless the module takes these."""
        try:
            inspect.signature(self.module.forward).bind(*inputs, **context)
        except TypeError as error:
            given = f"{len(inputs)} inputs" + "".join(f" and {name}=" for name in context)
            raise FtwtError(
                f"gates: {type(self.module).__name__}, which all sites share, does not take "
                f"{given} ({error}); give what it asks for in `with model.context(name=value):`"
            ) from None


def gates_for(
    sites: Sequence[Candidate], traced: Traced, liveness: Liveness, pruning: Pruning
) -> nn.ModuleDict:
    """A new gate for each site, by its key; the first holds what all of them share."""
    gates = site_gates(sites, traced, liveness, pruning)
    if isinstance(pruning.gate, SharesModule):
        module = pruning.gate.prepare(tuple(shape_of(site, traced) for site in sites))
        if not isinstance(module, nn.Module):
            raise FtwtError(
                f"gates: {type(pruning.gate).__name__}.prepare(sites) answers a "
                f"{type(module).__name__}; let it return a torch.nn.Module"
            )
        next(iter(gates.values())).shared = Shared(module)
    return gates


def shared_of(gates: nn.ModuleDict) -> Shared | None:
    """What the gates share, if they do."""
    for gate in gates.values():
        if isinstance(gate, SiteGate) and isinstance(gate.shared, Shared):
            return gate.shared
    return None


@dataclass(frozen=True)
class WithShared:
    """A gate's cost with that of the shared module, which stands with the first site's gate."""

    gate: Gate
    first: str
    shared_macs: int

    def build(self, site: SiteShape) -> nn.Module:
        """The gate's own."""
        return self.gate.build(site)

    def macs(self, live: Shaped[Tensor, "B"], site: SiteShape) -> Shaped[Tensor, "B"]:
        """MACs of the gate, and at the first site of what all share."""
        own = self.gate.macs(live, site)
        return own + self.shared_macs if site.name == self.first else own


def samples(shapes: Iterable[Sequence[int]], dtypes: Iterable[torch.dtype]) -> list[Tensor]:
    """One sample of zeros for each input."""
    pairs = zip(shapes, dtypes, strict=True)
    return [torch.zeros(1, *shape, dtype=dtype) for shape, dtype in pairs]


def costed(gate: Gate, gates: nn.ModuleDict, inputs: Sequence[Tensor]) -> Gate:
    """The gate with the cost of what its sites share, for one sample of these inputs.

    Raises:
        FtwtError: the shared module does not run on them without a context.
    """
    shared = shared_of(gates)
    if shared is None:
        return gate
    first = next(name.site.name for name in gates.values() if isinstance(name, SiteGate))
    module = copy.deepcopy(shared).eval()
    device = next((one.device for one in module.parameters()), inputs[0].device)
    zeros = [torch.zeros_like(one[:1], device=device) for one in inputs]
    # A context belongs to other images: what counts is the cost without one.
    module.context = {}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*zeros)
    return WithShared(gate, first, counter.get_total_flops() // 2)
