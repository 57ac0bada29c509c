"""The gated network: a drop-in module that decides, for each sample, which filters to run."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from ftwt import calls, dial
from ftwt.errors import FtwtError
from ftwt.explain import Explanation, explain
from ftwt.gates.estimators import Hard
from ftwt.gates.interface import Estimator, Gate, SiteShape
from ftwt.gates.pooled_linear import PooledLinear
from ftwt.gates.untrained import Oracle
from ftwt.liveness import Liveness
from ftwt.macs import Plan
from ftwt.sites import Candidate
from ftwt.targets.heatmap_mass import HeatmapMass
from ftwt.targets.interface import Target
from ftwt.targets.per_site import PerSite
from ftwt.trace import SiteTrace, Trace
from ftwt.tracing import Traced

Coupling = Literal["decoupled", "joint"]


@dataclass(frozen=True)
class Pruning:
    """How a network is gated: the gate, the target it learns, and how both are coupled.

    `coupling="decoupled"`: gates read a detached input, so the gate loss trains gates only.
    "joint": it also reaches the backbone. With `gates.Hard()` the task's loss never reaches a gate.
    """

    gate: Gate = field(default_factory=PooledLinear)
    target: Target | PerSite = field(default_factory=lambda: HeatmapMass(0.9))
    coupling: Coupling = "decoupled"
    estimator: Estimator = field(default_factory=Hard)

    def __post_init__(self) -> None:
        if self.coupling not in ("decoupled", "joint"):
            raise FtwtError(
                f"Pruning: coupling={self.coupling!r} is unknown; use 'decoupled' or 'joint'"
            )


class Recorder:
    """Collects what the sites of one pass decide."""

    def __init__(self, *, targets: bool) -> None:
        self.targets = targets
        self.sites: dict[str, SiteTrace] = {}


# From a site's name and output to the mask of its filters, (B, C); None runs them all.
Decide = Callable[[str, Tensor], Tensor | None]


@dataclass(frozen=True)
class Decided:
    """Stands in for all gates in one pass."""

    decide: Decide


class SiteGate(nn.Module):
    """One site's gate: masks the site's output, and notes what it decided if asked to.

    A filter runs where its logit is above `threshold`.
    """

    def __init__(self, site: SiteShape, pruning: Pruning) -> None:
        super().__init__()
        self.site = site
        self.pruning = pruning
        self.gate = pruning.gate.build(site)
        rule = pruning.target
        self.target: Target = rule.of(site.name) if isinstance(rule, PerSite) else rule
        self.threshold = 0.0

    def forward(
        self,
        inputs: Float[Tensor, "B C_in *space_in"],
        features: Float[Tensor, "B C *space"],
        recorder: Recorder | Decided | None,
    ) -> Float[Tensor, "B C *space"]:
        """Return the features with the filters that do not run at zero."""
        if isinstance(recorder, Decided):
            mask = recorder.decide(self.site.name, features)
            return features if mask is None else _masked(features, mask)
        pruning = self.pruning
        target, logits = None, None
        oracle = isinstance(pruning.gate, Oracle)
        if oracle or (recorder is not None and recorder.targets):
            target = self.target(features.detach())
        if oracle:
            assert target is not None
            weight = target.to(features.dtype)
        else:
            logits = self.gate(inputs.detach() if pruning.coupling == "decoupled" else inputs)
            weight = pruning.estimator(logits - self.threshold if self.threshold else logits)
        if recorder is not None:
            recorder.sites[self.site.name] = SiteTrace(weight > 0, weight, logits, target)
        return _masked(features, weight)


def _masked(features: Tensor, weight: Tensor) -> Tensor:
    space = (1,) * (features.dim() - 2)
    return features * weight.to(features.dtype).view(*weight.shape, *space)


@dataclass(frozen=True)
class Anatomy:
    """What attach found out about a network; it never changes, so copies of a model share it."""

    traced: Traced
    sites: tuple[Candidate, ...]
    candidates: tuple[Candidate, ...]
    liveness: Liveness
    plan: Plan
    expected: tuple[tuple[int, ...], ...]

    def __deepcopy__(self, memo: Mapping[int, Any]) -> "Anatomy":
        return self


class Gated(nn.Module):
    """A network with gates. Made by `attach`; called like the plain network.

    The plain network's modules keep their names, so its state dict loads; all gate parameters
    are under `gates.`.
    """

    def __init__(
        self,
        network: nn.Module,
        gates: nn.ModuleDict,
        run: Callable[..., Any],
        pruning: Pruning,
        anatomy: Anatomy,
    ) -> None:
        super().__init__()
        for name, module in network.named_children():
            self.add_module(name, module)
        for name, parameter in network.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in network.named_buffers(recurse=False):
            kept = name not in network._non_persistent_buffers_set
            self.register_buffer(name, buffer, persistent=kept)
        # Tensors that the network holds as plain attributes, and constants of its forward.
        for name, value in vars(network).items():
            if isinstance(value, Tensor):
                self.register_buffer(name, value, persistent=False)
        self.gates = gates
        self.pruning = pruning
        self.anatomy = anatomy
        self._run = run
        self._knots: tuple[dial.Knot, ...] = ()
        # Not train(): a batch norm that was put into eval mode stays there.
        self.training = network.training

    def forward(self, *inputs: Tensor) -> Any:
        """Return what the plain network would, with the filters that do not run at zero."""
        return self._run(self, None, *inputs)

    def trace(self, *inputs: Tensor, targets: bool = True) -> Trace:
        """Run the network and return the output with each site's decisions and the cost.

        `targets=False` leaves out the targets, which only training needs.
        """
        recorder = Recorder(targets=targets)
        output = self._run(self, recorder, *inputs)
        return Trace(
            output=output,
            sites=recorder.sites,
            plan=self.anatomy.plan,
            expected=self.anatomy.expected[0],
            came=tuple(inputs[0].shape[1:]),
        )

    def decided(self, decide: Decide, *inputs: Tensor) -> Any:
        """Run the network with masks that `decide` gives in place of the gates.

        It is shown each site's name and output (B, C, *space), in running order, and returns a
        mask (B, C), or None to run every filter. Gates are not computed.
        """
        return self._run(self, Decided(decide), *inputs)

    @property
    def thresholds(self) -> dict[str, float]:
        """By site, what a filter's logit has to be above for the filter to run."""
        return {gate.site.name: gate.threshold for gate in self._site_gates()}

    @property
    def knots(self) -> tuple[dial.Knot, ...]:
        """The settings that `ftwt.calibrate` found, by rising reduction."""
        return self._knots

    def with_thresholds(
        self, thresholds: Mapping[str, float], knots: tuple[dial.Knot, ...] | None = None
    ) -> "Gated":
        """The same model at other thresholds; it shares all weights with this one."""
        dial.check(thresholds, self.sites)
        twin = copy.copy(self)
        twin._modules = dict(self._modules)
        twin._knots = self._knots if knots is None else knots
        twin.gates = nn.ModuleDict()
        for key, gate in self.gates.items():
            moved = copy.copy(gate)
            assert isinstance(moved, SiteGate)
            moved.threshold = float(thresholds[moved.site.name])
            twin.gates[key] = moved
        twin.gates.training = self.gates.training
        return twin

    def at(self, *, reduction: float) -> "Gated":
        """The same model at another share of MACs saved, exact, without training.

        `ftwt.calibrate` finds the thresholds for some reductions on a set of images; between these
        they are interpolated. The answer shares all weights with this model.

        Raises:
            FtwtError: the model was not calibrated, or not for reductions this low or high.
        """
        return self.with_thresholds(dial.thresholds_at(self._knots, reduction))

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites, in the order in which they run."""
        return tuple(site.name for site in self.anatomy.sites)

    @property
    def dense_macs(self) -> int:
        """MACs of the plain network for one sample."""
        return self.anatomy.plan.dense_macs

    @property
    def gate_macs(self) -> int:
        """MACs of all gates for one sample with every channel live."""
        return self.anatomy.plan.gate_macs

    def explain(self) -> Explanation:
        """Sites, convolutions that are left out and why, and what the analysis does not know.

        The answer prints as text, one fact a line.
        """
        return explain(self.anatomy)

    def _site_gates(self) -> list[SiteGate]:
        return [gate for gate in self.gates.values() if isinstance(gate, SiteGate)]

    def gate_parameters(self) -> list[nn.Parameter]:
        """Parameters of the gates."""
        return list(self.gates.parameters())

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Parameters of the network that was given."""
        gates = {id(parameter) for parameter in self.gates.parameters()}
        return [one for one in self.parameters() if id(one) not in gates]


def compile_graph(graph: fx.Graph) -> Callable[..., Any]:
    """The function that a graph's code defines; its first argument is the module."""
    code = graph.python_code("self")
    scope = dict(code.globals)
    exec(compile(code.src, "<ftwt gated network>", "exec"), scope)
    run: Callable[..., Any] = scope["forward"]
    return run


def insert_gates(traced: Traced, sites: list[Candidate]) -> fx.Graph:
    """A copy of the graph in which each site's output passes through its gate."""
    graph = fx.Graph()
    new_nodes: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(traced.graph, new_nodes)
    graph.output(output)
    first = next(iter(graph.nodes))
    with graph.inserting_before(first):
        recorder = graph.placeholder("ftwt_recorder")
    for site in sites:
        # What the convolution reads now: masked already, if it comes from an earlier site.
        source = calls.source(new_nodes[site.convolution])
        features = new_nodes[site.output]
        with graph.inserting_after(features):
            masked = graph.call_module(
                f"gates.{site.key}", (source, features, recorder), type_expr=torch.Tensor
            )
        for user in [user for user in features.users if user is not masked]:
            user.replace_input_with(features, masked)
    graph.lint()
    return graph
