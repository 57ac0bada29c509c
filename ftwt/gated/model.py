"""The gated network: a drop-in module that decides, for each sample, which filters to run."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from jaxtyping import Bool
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated import sizes
from ftwt.gated.anatomy import Anatomy
from ftwt.gated.explain import Explanation, explanation_of
from ftwt.gated.operating_points import OperatingPoint, check_thresholds, thresholds_at
from ftwt.gated.passes import (
    HookedPass,
    MaskFunctionPass,
    MaskOf,
    PlainPass,
    RecordedPass,
    SiteHook,
)
from ftwt.gated.pruning import Pruning
from ftwt.gated.shared import shared_of
from ftwt.gated.site_gate import SiteGate
from ftwt.gated.targeting import (
    all_filters_shown,
    dense_targets,
    gradient_targets,
    leaving_no_trace,
)
from ftwt.gated.trace import SiteTrace, Trace
from ftwt.gates.interface import is_oracle
from ftwt.macs import Plan
from ftwt.targets.interface import GradientTarget, Rule

# The task's loss of a trace, a scalar.
TaskLoss: TypeAlias = Callable[[Trace], Tensor]


class Gated(nn.Module):
    """A network with gates. Made by `attach`; called like the plain network.

    The plain network's modules keep their names, so its state dict loads; all gate parameters
    are under `gates.`.
    """

    def __init__(
        self,
        network: nn.Module,
        gates: nn.ModuleDict,
        pruning: Pruning,
        anatomy: Anatomy,
    ) -> None:
        super().__init__()
        # Not named_children() and its like, which leave out what has two names.
        for name, module in network._modules.items():
            self.add_module(name, module)
        for name, parameter in network._parameters.items():
            self.register_parameter(name, parameter)
        for name, buffer in network._buffers.items():
            kept = name not in network._non_persistent_buffers_set
            self.register_buffer(name, buffer, persistent=kept)
        # Tensors that the network holds as plain attributes, and constants of its forward.
        for name, value in vars(network).items():
            if isinstance(value, Tensor):
                self.register_buffer(name, value, persistent=False)
        self.gates = gates
        self.pruning = pruning
        self.anatomy = anatomy
        self._run = anatomy.run
        # In a tuple, so that it is no part of the state dict; its modules are this network's.
        overridden = type(network).train is not nn.Module.train
        self._trains: tuple[nn.Module, ...] = (network,) if overridden else ()
        # In a tuple, so that it is no part of the state dict.
        self._teacher: tuple[Gated, ...] = ()
        self._operating_points: tuple[OperatingPoint, ...] = ()
        # Not train(): a batch norm that was put into eval mode stays there.
        self.training = network.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the plain network would, with the filters that do not run at zero.

        It is called as the plain network is, by place or by name.

        Raises:
            FtwtError: a switch is another than in the example that attach was given.
        """
        inputs = self.bind(args, kwargs)
        passes_on = any(gate.follows or gate.shared is not None for gate in self.site_gates)
        if passes_on or self._asks_oracle_of_dense():
            return self._run(self, self._recorded(inputs, targets=False), *inputs)
        return self._run(self, PlainPass(), *inputs)

    def trace(
        self, *args: Any, targets: bool = True, loss: TaskLoss | None = None, **kwargs: Any
    ) -> Trace:
        """Run the network and return the output with each site's decisions and the cost.

        `targets=False` leaves out the targets, which only training needs. `loss` is the task's loss
        of a trace, whose gradient a `targets.GradientTarget` asks for; it takes a pass more.
        """
        inputs = self.bind(args, kwargs)
        recorded = self._recorded(inputs, targets=targets, loss=loss)
        output = self._run(self, recorded, *inputs)
        return Trace(output, recorded.finish(), inputs, self._plan_for)

    @contextmanager
    def context(self, **values: Any) -> Iterator[None]:
        """Give the gates what is no input of the network, such as a task.

        In `with model.context(task=task):` the module that the gates share is called with these by
        name: in every pass of this model, of its twins at other thresholds, and of
        `runtime.skip(model)`.

        Raises:
            FtwtError: the gates share no module, or it takes no such names.
        """
        shared = shared_of(self.gates)
        if shared is None:
            raise FtwtError(
                f"context: gates of {type(self.pruning.gate).__name__} read their site's input "
                "alone; a gate with prepare(sites) reads a context"
            )
        shared.check(self.anatomy.expected, values)
        before, shared.context = shared.context, values
        try:
            yield
        finally:
            shared.context = before

    def train(self, mode: bool = True) -> "Gated":
        """Set the mode as the plain network does, whose `train` may keep parts in eval mode."""
        super().train(mode)
        for network in self._trains:
            network.train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """All but the compiled function, which pickles do not take."""
        return {name: value for name, value in vars(self).items() if name != "_run"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the function from the anatomy again."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._run = self.anatomy.run

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """The tensors among a call's arguments, in the order of the example's.

        Raises:
            FtwtError: one is missing, or a switch is another than in the example.
        """
        return self.anatomy.traced.arguments.bind(args, kwargs)

    def anatomy_for(self, inputs: Sequence[Tensor], asked: str = "trace") -> Anatomy:
        """What `attach` would have found out with inputs of this size, found once for each size.

        Raises:
            FtwtError: the network does not take them.
        """
        return sizes.anatomy_for(self.anatomy, self, inputs, asked)

    def _plan_for(self, inputs: Sequence[Tensor]) -> Plan:
        return self.anatomy_for(inputs).plan

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

    @property
    def needs_gradients(self) -> bool:
        """Whether targets need the gradient of the task's loss."""
        return any(isinstance(gate.target, GradientTarget) for gate in self.site_gates)

    def dense_targets(self, *inputs: Tensor) -> dict[str, Bool[Tensor, "B C"]]:
        """Targets of each site without any mask; no gradient, no gate runs.

        They come from the teacher's weights under `target_source="teacher"`, else from the present
        ones. Batch norms in training mode then normalise by the statistics of this dense batch, as
        they would in the dense network, and leave their running statistics to the masked pass.
        Dropout draws what it draws in the masked pass after it.
        """
        source = self._target_source(inputs)
        with leaving_no_trace(source, inputs):
            return dense_targets(
                lambda keep: source.forward_with_masks(keep, *inputs), self._rules()
            )

    def _rules(self) -> dict[str, Rule]:
        return {gate.site.name: gate.target for gate in self.site_gates}

    def _target_source(self, inputs: tuple[Tensor, ...]) -> "Gated":
        """The network with the weights that targets come from: a teacher, or this one."""
        if self.pruning.target_source != "teacher":
            return self
        if self.needs_teacher:
            raise FtwtError(
                "trace: targets come from a teacher, and the model has none; call "
                "model.keep_teacher() when the trained dense weights are loaded"
            )
        return self._teacher[0].to(inputs[0].device)

    def _recorded(
        self, inputs: tuple[Tensor, ...], *, targets: bool, loss: TaskLoss | None = None
    ) -> RecordedPass:
        needed = targets or self._asks_oracle_of_dense()
        given = None
        if needed and self.needs_gradients:
            given = self._gradient_targets(inputs, loss)
        elif needed and self.pruning.target_source != "masked":
            given = self.dense_targets(*inputs)
        return RecordedPass(targets=targets, given=given, context=self._context_of(inputs))

    def _context_of(self, inputs: tuple[Tensor, ...]) -> Any:
        """What the gates' shared module answers; None without one."""
        shared = shared_of(self.gates)
        return None if shared is None else shared(*inputs)

    def _gradient_targets(
        self, inputs: tuple[Tensor, ...], loss: TaskLoss | None
    ) -> dict[str, Tensor]:
        """Targets from a pass of its own, with a gradient of the task's loss back to each site."""
        if loss is None:
            raise FtwtError(
                "trace: these targets need the gradient of the task's loss; give it, as in "
                "model.trace(images, loss=lambda trace: entropy(trace, labels)), or leave targets "
                "out with targets=False"
            )
        source = self._target_source(inputs)

        def shown(hook: SiteHook) -> Tensor:
            sites: dict[str, SiteTrace] = {}
            if self.pruning.target_source == "masked":
                watched = HookedPass(hook, context=self._context_of(inputs))
                output, sites = self._run(self, watched, *inputs), watched.finish()
            else:
                output = source.forward_with_masks(all_filters_shown(hook), *inputs)
            return loss(Trace(output, sites, inputs, self._plan_for))

        with leaving_no_trace(source, inputs):
            return gradient_targets(shown, self._rules())

    def _asks_oracle_of_dense(self) -> bool:
        return self.pruning.target_source != "masked" and is_oracle(self.pruning.gate)

    def forward_with_masks(self, decide: MaskOf, *inputs: Tensor) -> Any:
        """Run the network with masks that `decide` gives in place of the gates.

        It is shown each site's name and output (B, C, *space), in running order, and returns a
        mask (B, C), or None to run every filter. Gates are not computed.
        """
        return self._run(self, MaskFunctionPass(decide), *inputs)

    @property
    def thresholds(self) -> dict[str, float]:
        """By site, what a filter's logit has to be above for the filter to run."""
        return {gate.site.name: gate.threshold for gate in self.site_gates}

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """The settings that `ftwt.calibrate` found, by rising reduction."""
        return self._operating_points

    def with_thresholds(
        self, thresholds: Mapping[str, float], points: tuple[OperatingPoint, ...] | None = None
    ) -> "Gated":
        """The same model at other thresholds; it shares all weights with this one."""
        twin = copy.copy(self)
        twin._modules = dict(self._modules)
        twin._operating_points = self._operating_points if points is None else points
        twin.gates = nn.ModuleDict({key: copy.copy(gate) for key, gate in self.gates.items()})
        twin.gates.training = self.gates.training
        twin.move_thresholds(thresholds)
        return twin

    def move_thresholds(self, thresholds: Mapping[str, float]) -> None:
        """Set the thresholds of this model itself, by site."""
        check_thresholds(thresholds, self.sites)
        for gate in self.site_gates:
            gate.threshold = float(thresholds[gate.site.name])

    def at(self, *, reduction: float) -> "Gated":
        """The same model at another share of MACs saved, exact, without training.

        `ftwt.calibrate` finds the thresholds for some reductions on a set of images; between these
        they are interpolated. The answer shares all weights with this model.

        Raises:
            FtwtError: the model was not calibrated, or not for reductions this low or high.
        """
        return self.with_thresholds(thresholds_at(self._operating_points, reduction))

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
        return explanation_of(self.anatomy)

    @property
    def site_gates(self) -> tuple[SiteGate, ...]:
        """The gate of each site, in the order in which they run."""
        return tuple(self.gates.values())  # type: ignore[arg-type]

    def gate_parameters(self) -> list[nn.Parameter]:
        """Parameters of the gates."""
        return list(self.gates.parameters())

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Parameters of the network that was given."""
        gates = {id(parameter) for parameter in self.gates.parameters()}
        return [one for one in self.parameters() if id(one) not in gates]
