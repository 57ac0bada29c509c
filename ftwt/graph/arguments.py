"""What a network is called with: tensors, and switches that the example settles."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError

# One input; all by place; or all by name, with switches among them.
Example: TypeAlias = Tensor | tuple[Tensor, ...] | Mapping[str, Any]

_ANY, _NAMED = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD


@dataclass(frozen=True)
class Arguments:
    """How a network is called.

    `order` are the names of what it takes by place, `more` the name of `*args`. `inputs` are the
    names of the tensors that it was attached with, in the order of the call, and `fixed` is all
    else, for which the graph holds; `switches` are the names of what the example gave of that.
    """

    network: str
    order: tuple[str, ...]
    more: str | None
    inputs: tuple[str, ...]
    fixed: Mapping[str, Any]
    switches: tuple[str, ...]

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """The inputs of a call, in order.

        Raises:
            FtwtError: an input is missing, or a switch is another than in the example.
        """
        if not kwargs and len(args) == len(self.inputs) == len(self.leading):
            return self._tensors(args)
        given = dict(zip(self.order, args, strict=False))
        more = [f"{self.more}_{place}" for place in range(len(args) - len(self.order))]
        given |= dict(zip(more, args[len(self.order) :], strict=True))
        twice = next((name for name in kwargs if name in given), None)
        if twice is not None:
            raise FtwtError(f"{self.network}: {twice!r} is given twice, by place and by name")
        given |= kwargs
        came = [name for name in self.inputs if given.get(name) is not None]
        stray = len(args) - len(self.order) if self.more is None else 0
        if len(came) < len(self.inputs) or stray > 0:
            raise FtwtError(
                f"{self.network}: {len(came) + max(stray, 0)} inputs came, but the network was "
                f"attached with {len(self.inputs)} ({', '.join(self.inputs)}); give as many as "
                "attach was given as example"
            )
        for name in given:
            if name not in self.inputs:
                self._check_switch(name, given[name])
        return self._tensors([given[name] for name in self.inputs])

    def call(self, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What forward is called with: arguments by place, and by name."""
        values = {**self.fixed, **inputs}
        more = [] if self.more is None else [n for n in inputs if n.startswith(f"{self.more}_")]
        args: list[Any] = []
        for name in self.order:
            if name not in values:
                break
            args.append(values.pop(name))
        if len(args) == len(self.order):
            args += [values.pop(name) for name in more]
        return tuple(args), values

    @property
    def by_place(self) -> bool:
        """Whether a tuple of the inputs is all that the network is called with."""
        plain = len(self.inputs) > len(self.order) or self.inputs == self.leading
        return plain and not self.switches

    @property
    def leading(self) -> tuple[str, ...]:
        """The inputs, if they are what comes first by place."""
        first = self.order[: len(self.inputs)]
        return self.inputs if self.inputs == first else ()

    def _tensors(self, values: Sequence[Any]) -> tuple[Tensor, ...]:
        for name, value in zip(self.inputs, values, strict=True):
            if not isinstance(value, Tensor):
                raise FtwtError(
                    f"{self.network}: {name} is a {type(value).__name__}; give a tensor, as in the "
                    "example of attach"
                )
        return tuple(values)

    def _check_switch(self, name: str, value: Any) -> None:
        if name not in self.fixed:
            came = f"{name}={_shown(value)}"
            raise FtwtError(
                f"{self.network}: called with {came}, which the example of attach does not have; "
                f"attach with example={{..., {name!r}: ...}}"
            )
        settled = self.fixed[name]
        same = value is settled or (
            not isinstance(value, Tensor) and not isinstance(settled, Tensor) and value == settled
        )
        if not same:
            raise FtwtError(
                f"{self.network}: called with {name}={_shown(value)}, but attach traced it with "
                f"{name}={_shown(settled)}; attach with "
                f"example={{..., {name!r}: ...}} for that"
            )


def arguments(network: nn.Module, example: Example) -> tuple[Arguments, tuple[Tensor, ...]]:
    """How a network is called with an example, and the example's tensors in order.

    Raises:
        FtwtError: it is no example, or not what the network takes.
    """
    name = type(network).__name__
    parameters = list(inspect.signature(network.forward).parameters.values())
    order = tuple(
        one.name
        for one in parameters
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    )
    more = next((one.name for one in parameters if one.kind is _ANY), None)
    defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
    named: dict[str, Any]
    if isinstance(example, Mapping):
        named = dict(example)
        free = any(one.kind is _NAMED for one in parameters)
        known = [one.name for one in parameters if one.kind not in (_ANY, _NAMED)]
        stray = next((key for key in named if key not in known and not free), None)
        if stray is not None:
            raise FtwtError(
                f"attach: example has {stray!r}, but {name} takes {', '.join(known)}; name its "
                "arguments"
            )
    else:
        by_place = _by_place(example)
        rest = len(by_place) - len(order)
        extra = [f"{more}_{place}" for place in range(rest)] if more is not None else []
        named = dict(zip([*order, *extra], by_place, strict=False))
        if len(by_place) > len(order) + len(extra):
            raise _counted(name, len(by_place), order)
    inputs = [key for key, value in named.items() if isinstance(value, Tensor)]
    # In the order of the call.
    inputs.sort(key=lambda key: order.index(key) if key in order else len(order))
    given = {key: value for key, value in named.items() if key not in inputs}
    fixed = {key: value for key, value in (defaults | given).items() if key not in inputs}
    needed = [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (_ANY, _NAMED)
    ]
    if any(one not in inputs and one not in fixed for one in needed):
        raise _counted(name, len(inputs), order)
    tensors = tuple(named[key] for key in inputs)
    _check(tensors)
    return Arguments(name, order, more, tuple(inputs), fixed, tuple(given)), tensors


def _by_place(example: Any) -> tuple[Tensor, ...]:
    """The example's tensors."""
    examples = example if isinstance(example, tuple) else (example,)
    wrong = [one for one in examples if not isinstance(one, Tensor)]
    if wrong or not examples:
        came = f"is a {type(example).__name__}"
        if isinstance(example, tuple):
            came = f"holds {wrong[0]!r}" if wrong else "is an empty tuple"
        raise FtwtError(
            f"attach: example {came}; give an input of the network, such as "
            "torch.zeros(1, 3, 224, 224), a tuple of its inputs, or a dict of its arguments by name"
        )
    return examples


def _check(examples: Sequence[Tensor]) -> None:
    if not examples:
        raise FtwtError("attach: example holds no tensor; give at least one input of the network")
    for one in examples:
        if one.dim() == 0 or len(one) == 0:
            raise FtwtError(
                f"attach: example has shape {tuple(one.shape)}, which holds no sample; "
                "give at least one, such as torch.zeros(1, 3, 224, 224)"
            )


def _counted(network: str, count: int, order: Sequence[str]) -> FtwtError:
    tensors = "1 tensor" if count == 1 else f"{count} tensors"
    return FtwtError(
        f"attach: example has {tensors}, but {network} takes {len(order)} ({', '.join(order)}); "
        "give a tuple with one tensor for each"
    )


def _shown(value: Any) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
