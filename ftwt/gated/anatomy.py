"""What is known of a network before any image is seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import nn

from ftwt.gates.interface import Gate
from ftwt.graph.arguments import Arguments
from ftwt.graph.code import compile_graph
from ftwt.graph.insertion import insert_gates
from ftwt.graph.liveness import Liveness
from ftwt.graph.sites import Candidate, candidates
from ftwt.graph.tracing import Traced, retraced
from ftwt.macs import Plan, plan

# The shape of one sample of each input.
Shapes: TypeAlias = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Anatomy:
    """What attach found out about a network; it never changes, so copies of a model share it."""

    traced: Traced
    sites: tuple[Candidate, ...]
    candidates: tuple[Candidate, ...]
    liveness: Liveness
    plan: Plan
    expected: Shapes
    # Precision of each input of the example, and of the weights at that moment.
    dtypes: tuple[torch.dtype, ...]
    computes: torch.dtype | None
    # The same for inputs of other sizes, as they came: see `ftwt.gated.sizes`.
    sizes: dict[Shapes, "Anatomy"] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def run(self) -> Callable[..., Any]:
        """The network with its gates, as a function of the model, a pass and the inputs."""
        return compile_graph(insert_gates(self.traced, list(self.sites)))

    def __deepcopy__(self, memo: Mapping[int, Any]) -> "Anatomy":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle holds the network that was traced, to be traced again: graphs hold functions."""
        traced = self.traced
        names = [site.name for site in self.sites]
        inputs = (self.expected, self.dtypes)
        return _again, (traced.root, traced.arguments, inputs, traced.leaves, names, self.plan.gate)


def found_out(
    traced: Traced, found: Sequence[Candidate], sites: Sequence[Candidate], gate: Gate
) -> Anatomy:
    """The anatomy of a traced network with these sites of the convolutions found in it."""
    liveness = Liveness(traced, {site.output.name: site.name for site in sites})
    return Anatomy(
        traced=traced,
        sites=tuple(sites),
        candidates=tuple(found),
        liveness=liveness,
        plan=plan(traced, list(sites), liveness, gate),
        expected=traced.expected,
        dtypes=traced.dtypes,
        computes=precision(traced.root),
    )


def precision(network: nn.Module) -> torch.dtype | None:
    """What a network's weights are in; None if it has none of floating point."""
    return next((one.dtype for one in network.parameters() if one.is_floating_point()), None)


def _again(
    root: nn.Module,
    arguments: Arguments,
    inputs: tuple[Shapes, tuple[torch.dtype, ...]],
    leaves: tuple[type[nn.Module], ...],
    names: Sequence[str],
    gate: Gate,
) -> Anatomy:
    device = next((one.device for one in root.parameters()), None)
    examples = [
        torch.zeros(1, *shape, dtype=kind, device=device)
        for shape, kind in zip(*inputs, strict=True)
    ]
    # They get the same names again.
    for name in [name for name in vars(root) if name.startswith("_tensor_constant")]:
        delattr(root, name)
    traced = retraced(root, arguments, examples, leaves, check=False)
    found = candidates(traced)
    return found_out(traced, found, [one for one in found if one.name in names], gate)
