"""A program while it is made from a traced graph."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from ftwt.errors import FtwtError
from ftwt.gated.anatomy import Anatomy
from ftwt.gated.model import Gated
from ftwt.gated.shared import shared_of
from ftwt.gated.site_gate import SiteGate
from ftwt.graph import operations
from ftwt.graph.live import All, Live, OfSite, sites_in
from ftwt.graph.probing import PROBE_BATCH
from ftwt.graph.sites import Candidate
from ftwt.runtime.gating import gate_of
from ftwt.runtime.lowering.each import works_on_each
from ftwt.runtime.lowering.lives import simplified
from ftwt.runtime.program import (
    Call,
    ConstantValue,
    GateRows,
    GateStep,
    Method,
    Other,
    Step,
    Value,
    same,
)


class Building:
    """The steps so far, and what each node of the graph has become.

    `strict` keeps views views and copies copies; it matters where operations that torch runs work
    in place. `gates` and `fold` are those of `lower`.
    """

    def __init__(
        self, model: Gated, anatomy: Anatomy, *, strict: bool, gates: bool, fold: bool
    ) -> None:
        self.model, self.anatomy, self.strict = model, anatomy, strict
        self.gates, self.fold = gates, fold
        self.traced = anatomy.traced
        self.steps: list[Step] = []
        self.made: dict[fx.Node, Value | Other | ConstantValue] = {}
        # Where the elements of tensors that were only moved come from.
        self.moved: dict[fx.Node, Any] = {}
        # Nodes that are part of an earlier node's step.
        self.fused: set[fx.Node] = set()
        # What torch's own operations made.
        self.called: set[Value | Other] = set()
        computing = [node for node in self.traced.graph.nodes if self.traced.macs.get(node.name)]
        layers = zip(computing, anatomy.plan.layers, strict=True)
        self.names = {node: layer.name for node, layer in layers}
        self.site_of = {site.output: site.name for site in anatomy.sites}
        # What the gates' shared module answers.
        self.context: Other | None = None
        self._decided: set[str] = set()
        self.entangled = self._entangled()

    def add(self, node: fx.Node, step: Step) -> bool:
        """Let a node become a step; return True."""
        self.steps.append(step)
        if not isinstance(step, GateStep):
            self.made[node] = step.output
        return True

    def decide(self, candidate: Candidate, source: Value) -> None:
        """A site's mask is known from here on; without gates it always was, and none is asked."""
        self._decided.add(candidate.name)
        if self.gates:
            gate = self._gate(candidate)
            self.steps.append(GateStep(candidate.name, source, *gate_of(gate), self.context))

    def decide_rows(self, candidate: Candidate, source: Other) -> None:
        """Mask a site of which each sample has several rows, now that its convolution has run.

        Nothing later relies on such a mask: whose its rows are, only the network knows.
        """
        what = "skip" if self.gates else "cut"
        gate = self._gate(candidate)
        features = self.made[candidate.output]
        if not self.gates or gate.follows or not isinstance(features, Other):
            raise FtwtError(
                f"{what}: {candidate.name!r} works on several rows for each sample, such as "
                "windows or pairs of images; leave it out with attach(where=...)"
            )
        module, _ = gate_of(gate)
        masked = Other(f"{candidate.output.name}_masked")
        name = f"gate of {candidate.name}"
        self.steps.append(
            GateRows(name, candidate.name, source, features, masked, module, self.context)
        )
        self.made[candidate.output] = masked

    def _gate(self, candidate: Candidate) -> SiteGate:
        return next(one for one in self.model.site_gates if one.site.name == candidate.name)

    def share(self, inputs: Sequence[Value | Other]) -> None:
        """Call what the gates share, if they do, with the network's inputs."""
        shared = shared_of(self.model.gates)
        if shared is None or self.context is not None or not self.gates:
            return
        self.context = Other("gates_context")
        name = f"gate of {self.anatomy.sites[0].name}"
        self.steps.append(Call(name, shared, tuple(inputs), {}, self.context))

    def as_is(self, node: fx.Node) -> None:
        """Leave a node to torch."""
        args, keywords = fx.node.map_arg((node.args, node.kwargs), self.argument)
        self.call(node, self.runner(node), args, keywords)

    def call(self, node: fx.Node, run: Callable[..., Any], args: Any, keywords: Any) -> None:
        """Let torch do what a node does."""
        shape = self.batch_shape(node)
        output = Other(node.name) if shape is None else self.value(node)
        changed = self.traced.changed.get(node.name, ())
        name = self.names.get(node, node.name)
        changes = bool(changed) and run is not torch.clone
        if not self.gates and operations.has_twin(node, self.module(node)):
            # It is written as its twin, which makes a tensor of its own.
            changes = changes and bool(self._read_later(node))
        each = node not in self.entangled and works_on_each(node, self.module(node), self.traced)
        shared = node.name in self.traced.probed.shared
        self.steps.append(Call(name, run, args, keywords, output, changes, shared, each))
        self.called.add(output)
        self.made[node] = output
        if changes:
            self._rebind(node)

    def value(self, node: fx.Node, *, masked: bool = False) -> Value:
        """A node's tensor; `masked` if it is a site's output after its mask."""
        shape = self.batch_shape(node)
        assert shape is not None
        if node in self.site_of and not masked:
            return Value(node.name, tuple(shape[1:]), All(shape[1]))
        return Value(node.name, tuple(shape[1:]), self.live(node, shape[1], 1))

    def live(self, node: fx.Node, channels: int, dim: int) -> Live:
        """The live channels of a node's tensor along a dimension, by masks that are decided.

        Others are of sites whose rows are not samples, or come when it is changed in place later:
        it then has the channels of then, and now it has fewer.
        """
        found = simplified(self.anatomy.liveness.channels(node, dim))
        if sites_in(found) <= self._decided:
            return found
        site = self.site_of.get(node) if dim == 1 else None
        return All(channels) if site is None else OfSite(site, channels)

    def batch_shape(self, node: fx.Node) -> torch.Size | None:
        """The shape of a tensor that holds a batch of something, else None."""
        shape = self.traced.shape(node)
        return shape if shape is not None and len(shape) > 1 and shape[0] == PROBE_BATCH else None

    def is_constant(self, node: fx.Node) -> bool:
        """Whether a node depends on nothing but what is known beforehand."""
        inputs = node.all_input_nodes
        return bool(inputs) and all(isinstance(self.made.get(one), ConstantValue) for one in inputs)

    def constant(self, node: fx.Node) -> ConstantValue:
        """What a node that depends on constants alone comes to."""
        values = fx.node.map_arg((node.args, node.kwargs), self.read)
        made: Mapping[fx.Node, Any] = self.made
        args, keywords = fx.node.map_arg((node.args, node.kwargs), made.__getitem__)
        run = self.runner(node)
        return ConstantValue(run(*values[0], **values[1]), None, run, args, keywords)

    def argument(self, node: fx.Node) -> Any:
        """What a call gets in place of a node."""
        made = self.made[node]
        return made.value if self.gates and isinstance(made, ConstantValue) else made

    def read(self, value: Any) -> Any:
        """An argument's value if it is known beforehand; a node where it is not."""
        if isinstance(value, fx.Node):
            made = self.made.get(value)
            return made.value if isinstance(made, ConstantValue) else value
        return value

    def attribute(self, target: str) -> Any:
        """An attribute of the model, by its path."""
        owner: Any = self.model
        for name in target.split("."):
            owner = getattr(owner, name)
        return owner

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls, if it calls one."""
        if node.op != "call_module":
            return None
        return self.model.get_submodule(str(node.target))

    def runner(self, node: fx.Node) -> Callable[..., Any]:
        """What a node does, as a function of its arguments."""
        module = self.module(node)
        if module is not None:
            return module
        if node.op == "call_method":
            return Method(str(node.target))
        assert callable(node.target)
        return node.target

    def _rebind(self, node: fx.Node) -> None:
        """Let what a node changed in place be read, from now on, as it is now."""
        for other in self._read_later(node):
            old = self.made[other]
            self.moved.pop(other, None)
            if isinstance(old, Value):
                new = Value(
                    f"{other.name}_after_{node.name}",
                    old.shape,
                    self.value(other, masked=True).live,
                )
                self.steps.append(Call(new.name, same, (old,), {}, new))
                self.made[other] = new

    def _entangled(self) -> set[fx.Node]:
        """Nodes whose tensors are changed in place and read after that, and what changes them."""
        found: set[fx.Node] = set()
        for node in self.traced.graph.nodes:
            later = self._read_later(node)
            found.update(later, [node] if later else [])
        return found

    def _read_later(self, node: fx.Node) -> list[fx.Node]:
        changed = self.traced.changed.get(node.name, ())
        if not changed:
            return []
        nodes = list(self.traced.graph.nodes)
        after = set(nodes[nodes.index(node) + 1 :])
        return [one for one in nodes if one.name in changed and after & set(one.users)]
