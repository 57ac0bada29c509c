"""A plain network while it is written: a graph of calls, and the modules that they call."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from ftwt.gated.model import Gated
from ftwt.graph import operations
from ftwt.runtime.program import Call, ConstantValue, Conv, Linear, Method
from ftwt.slicing.parts import Filled


class Writer:
    """Nodes and modules so far. `first` is the first input that is a batch of tensors."""

    def __init__(self, model: Gated) -> None:
        self.model = model
        self.graph = fx.Graph()
        self.modules: dict[str, Any] = {}
        self.first: fx.Node | None = None
        self._names: dict[int, str] = {id(one): name for name, one in model.named_modules()}
        self._called = {
            str(node.target)
            for node in model.anatomy.traced.graph.nodes
            if node.op == "call_module"
        }

    def function(self, run: Callable[..., Any], *args: Any) -> fx.Node:
        """Call a function."""
        return self.graph.call_function(run, args)

    def call(self, name: str, module: nn.Module, *inputs: fx.Node) -> fx.Node:
        """Call a new module, under `name` or the next free name."""
        free = self.free(name.replace("@", "_"))
        self.modules[free] = module
        return self.graph.call_module(free, inputs)

    def filled(self, name: str, numbers: Tensor, space: tuple[int, ...]) -> fx.Node:
        """One number for each channel, whatever the input."""
        assert self.first is not None
        return self.call(name, Filled(numbers, space), self.first)

    def run(
        self,
        run: Callable[..., Any],
        step: Call | ConstantValue,
        fill: Callable[[Any], Any],
        name: str,
    ) -> fx.Node:
        """A node that runs what a call does, on what `fill` gives for its arguments."""
        args = fx.node.map_aggregate(step.arguments, fill)
        keywords = dict(fx.node.map_aggregate(dict(step.keywords), fill))
        if isinstance(run, nn.Module):
            made = self.call(name, run)
            made.args, made.kwargs = args, keywords
            return made
        keeps = isinstance(step, Call) and step.changes
        if not keeps and keywords.get("inplace"):
            keywords["inplace"] = False
        if isinstance(run, Method):
            method = run.name
            if not keeps and method.endswith("_") and hasattr(Tensor, method[:-1]):
                method = method[:-1]
            return self.graph.call_method(method, args, keywords)
        if isinstance(run, partial):
            args, keywords = (*run.args, *args), {**run.keywords, **keywords}
            run = run.func
        if not keeps:
            run = operations.OUT_OF_PLACE.get(run, run)
        return self.graph.call_function(run, args, keywords)

    def attribute(self, path: str, value: Tensor) -> fx.Node:
        """A copy of one of the model's own tensors."""
        own = path.split(".")
        inside = any(".".join(own[:depth]) in self._called for depth in range(1, len(own)))
        name = self.free("_".join(own) if inside else path)
        tensor = value.detach().clone()
        parameter = isinstance(value, nn.Parameter)
        self.modules[name] = nn.Parameter(tensor, value.requires_grad) if parameter else tensor
        return self.graph.get_attr(name)

    def mode(self) -> fx.Node:
        """Whether it is training, which the network follows as the whole one does."""
        self.modules["training"] = self.model.training
        return self.graph.get_attr("training")

    def name_of(self, run: Callable[..., Any], otherwise: str) -> str:
        """The name that something called has in the model, if it is a module of it."""
        return self._names.get(id(run), otherwise)

    def layer(self, step: Conv | Linear) -> nn.Module | None:
        """The module that a layer's weights are from, if they are one's."""
        try:
            found = self.model.get_submodule(step.name.partition("@")[0])
        except AttributeError:
            return None
        layer = isinstance(found, (nn.Conv2d, nn.Linear))
        return found if layer and found.weight.shape == step.weight.shape else None

    def free(self, name: str) -> str:
        """The name, or with the next free number."""
        found, count = name, 1
        while found in self.modules:
            count += 1
            found = f"{name}_{count}"
        return found

    def module_of(self, node: fx.Node | None) -> nn.Module | None:
        """The module that a node calls, if it calls one."""
        return self.modules.get(str(node.target)) if node is not None else None

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        one = next(self.model.parameters(), None)
        return one.device if one is not None else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """What the model's weights are of."""
        floats = (one.dtype for one in self.model.parameters() if one.is_floating_point())
        return next(floats, torch.float32)
