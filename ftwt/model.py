"""The gated network: a drop-in module that decides, for each sample, which filters to run."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
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
TargetSource = Literal["masked", "dense", "teacher"]


@dataclass(frozen=True)
class Pruning:
    """How a network is gated: the gate, the target it learns, and how both are coupled.

    `coupling="decoupled"`: gates read a detached input, so the gate loss trains gates only.
    "joint": it also reaches the backbone. With `gates.Hard()` the task's loss never reaches a gate.

    `target_source="masked"`: targets come from features of the pass itself, as in FTWT, which
    earlier masks have changed, so that what is masked makes further targets smaller. "dense": from
    the present weights without any mask. "teacher": from the weights that training started with,
    without any mask, so that targets never move and the cost is what an oracle says beforehand.
    Both take one more pass without gradient for each batch (`Gated.dense_targets`).
    """

    gate: Gate = field(default_factory=PooledLinear)
    target: Target | PerSite = field(default_factory=lambda: HeatmapMass(0.9))
    coupling: Coupling = "decoupled"
    estimator: Estimator = field(default_factory=Hard)
    target_source: TargetSource = "masked"

    def __post_init__(self) -> None:
        kinds = (("gate", Gate), ("target", Target | PerSite), ("estimator", Estimator))
        for name, kind in kinds:
            part = getattr(self, name)
            # A class has its instances' methods, too, so the protocol would take it.
            if isinstance(part, type):
                raise FtwtError(
                    f"Pruning: {name} is the class {part.__name__}; give an instance, "
                    f"{part.__name__}(...)"
                )
            if not isinstance(part, kind):
                raise FtwtError(
                    f"Pruning: {name}={part!r} is no {name}; give an instance, such as "
                    f"{name}={getattr(Pruning(), name)!r}"
                )
        if self.coupling not in ("decoupled", "joint"):
            raise FtwtError(
                f"Pruning: coupling={self.coupling!r} is unknown; use 'decoupled' or 'joint'"
            )
        if self.target_source not in ("masked", "dense", "teacher"):
            raise FtwtError(
                f"Pruning: target_source={self.target_source!r} is unknown; "
                "use 'masked', 'dense' or 'teacher'"
            )


class Recorder:
    """Collects what the sites of one pass decide."""

    def __init__(self, *, targets: bool, given: Mapping[str, Tensor] | None = None) -> None:
        self.targets = targets
        self.given = given
        self.sites: dict[str, SiteTrace] = {}

    def target(self, site: str, rule: Target, features: Tensor) -> Tensor:
        """The target of a site: given, or by the rule."""
        return rule(features.detach()) if self.given is None else self.given[site]


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
        if recorder is None and oracle:
            target = self.target(features.detach())
        elif recorder is not None and (oracle or recorder.targets):
            target = recorder.target(self.site.name, self.target, features)
        if oracle:
            assert target is not None
            weight = target.to(features.dtype)
        else:
            logits = self.gate(inputs.detach() if pruning.coupling == "decoupled" else inputs)
            shifted = logits - self.threshold if self.threshold else logits
            weight = pruning.estimator(shifted, training=self.training)
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
        # In a tuple, so that it is no part of the state dict.
        self._teacher: tuple[Gated, ...] = ()
        self._knots: tuple[dial.Knot, ...] = ()
        # Not train(): a batch norm that was put into eval mode stays there.
        self.training = network.training

    def forward(self, *inputs: Tensor) -> Any:
        """Return what the plain network would, with the filters that do not run at zero."""
        if self._asks_oracle_of_dense():
            return self._run(self, self._recorder(inputs, targets=False), *inputs)
        return self._run(self, None, *inputs)

    def trace(self, *inputs: Tensor, targets: bool = True) -> Trace:
        """Run the network and return the output with each site's decisions and the cost.

        `targets=False` leaves out the targets, which only training needs.
        """
        recorder = self._recorder(inputs, targets=targets)
        output = self._run(self, recorder, *inputs)
        return Trace(
            output=output,
            sites=recorder.sites,
            plan=self.anatomy.plan,
            expected=self.anatomy.expected[0],
            inputs=inputs,
        )

    def keep_teacher(self) -> None:
        """Keep a frozen copy of the present weights for `target_source="teacher"`.

        Call it when the trained dense weights are loaded; `training.start` does. The copy stays in
        eval mode and out of the state dict.
        """
        self._teacher = ()
        self._teacher = (copy.deepcopy(self).eval().requires_grad_(False),)

    @property
    def needs_teacher(self) -> bool:
        """Whether targets come from a teacher, and there is none yet."""
        return self.pruning.target_source == "teacher" and not self._teacher

    def dense_targets(self, *inputs: Tensor) -> dict[str, Bool[Tensor, "B C"]]:
        """Targets of each site without any mask; no gradient, no gate runs.

        They come from the teacher's weights under `target_source="teacher"`, else from the present
        ones. Batch norms in training mode then normalise by the statistics of this dense batch, as
        they would in the dense network, and leave their running statistics to the masked pass.
        Dropout draws what it draws in the masked pass after it.
        """
        found: dict[str, Tensor] = {}
        rules = {gate.site.name: gate.target for gate in self._site_gates()}

        def keep(site: str, features: Tensor) -> None:
            found[site] = rules[site](features)

        source = self._kept_teacher(inputs) if self.pruning.target_source == "teacher" else self
        devices = {one.device for one in inputs if one.is_cuda}
        with torch.no_grad(), _borrowed_batch_norms(source), torch.random.fork_rng(list(devices)):
            source.decided(keep, *inputs)
        # Weights that autocast converted without gradient must not serve the pass that trains.
        torch.clear_autocast_cache()
        return found

    def _kept_teacher(self, inputs: tuple[Tensor, ...]) -> "Gated":
        if self.needs_teacher:
            raise FtwtError(
                "trace: targets come from a teacher, and the model has none; call "
                "model.keep_teacher() when the trained dense weights are loaded"
            )
        return self._teacher[0].to(inputs[0].device)

    def _recorder(self, inputs: tuple[Tensor, ...], *, targets: bool) -> Recorder:
        needed = targets or self._asks_oracle_of_dense()
        if not needed or self.pruning.target_source == "masked":
            return Recorder(targets=targets)
        return Recorder(targets=targets, given=self.dense_targets(*inputs))

    def _asks_oracle_of_dense(self) -> bool:
        return self.pruning.target_source != "masked" and isinstance(self.pruning.gate, Oracle)

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


@contextmanager
def _borrowed_batch_norms(model: nn.Module) -> Iterator[None]:
    """Batch norms in training mode use a batch's statistics and keep nothing of them."""
    norms = [
        one
        for one in model.modules()
        if isinstance(one, nn.modules.batchnorm._BatchNorm)
        and one.training
        and one.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


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
