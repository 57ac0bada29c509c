"""What attach made of a network, for a reader."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import fx, nn

from ftwt.graph import operations

if TYPE_CHECKING:
    from ftwt.gated.anatomy import Anatomy
    from ftwt.graph.tracing import Traced

# Their parameters weigh or replace values, one by one.
_NO_PRODUCTS = (nn.Embedding, nn.LayerNorm, nn.RMSNorm, nn.EmbeddingBag)


@dataclass(frozen=True)
class Explanation:
    """Sites, convolutions without a gate, and what the analysis could not follow."""

    sites: tuple[str, ...]
    # Convolution and why it is no site.
    left_out: tuple[tuple[str, str], ...]
    # Operation without a rule and how often it is called. All channels are live after it.
    unknown: tuple[tuple[str, int], ...]
    # Modules whose `if self.training` was decided when traced, for eval mode.
    frozen: tuple[str, ...]
    # Modules and operations whose MACs torch's counter does not know, such as an LSTM.
    uncounted: tuple[str, ...]
    # Divisions by a feature that masks can make zero.
    divisions: tuple[str, ...]
    # Modules that were traced into and have forward hooks, which do not run any more.
    hooks: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.sites)} sites: {', '.join(self.sites)}"]
        lines += [f"no site: {name} ({reason})" for name, reason in self.left_out]
        return "\n".join([*lines, *self.notes])

    @property
    def notes(self) -> tuple[str, ...]:
        """What the analysis could not follow, one fact a line."""
        lines: list[str] = []
        for operation, times in self.unknown:
            lines += [
                f"unknown operation: {operation}, called {_times(times)}; all channels count as "
                "live after it, which costs MACs but is never wrong"
            ]
        for name in self.frozen:
            lines += [
                f"eval mode for good: {name} reads self.training where tracing cannot follow; "
                "its other branch, such as an auxiliary classifier, never runs"
            ]
        lines += [f"not counted: {name}, whose MACs are unknown" for name in self.uncounted]
        for name in self.divisions:
            lines += [
                f"division by a feature: {name} answers infinity or NaN where masks make the "
                "divisor zero; add a small number to it. All channels count as live after it"
            ]
        for name in self.hooks:
            lines += [
                f"forward hook: {name} was traced into, so its hooks ran once when traced and do "
                "not run any more; register them on the gated network's own modules"
            ]
        return tuple(lines)


def explanation_of(anatomy: "Anatomy") -> Explanation:
    """Report on a gated network's anatomy."""
    chosen = tuple(site.name for site in anatomy.sites)
    left_out = tuple(
        (one.name, one.left_out or "not chosen by where=")
        for one in anatomy.candidates
        if one.name not in chosen
    )
    traced, infinite = anatomy.traced, anatomy.liveness.infinite
    unknown = Counter(anatomy.liveness.unknown.values())
    divisions = [
        node.name
        for node in traced.graph.nodes
        if node.name in infinite and not any(one.name in infinite for one in node.all_input_nodes)
    ]
    return Explanation(
        sites=chosen,
        left_out=left_out,
        unknown=tuple(unknown.items()),
        frozen=traced.frozen,
        uncounted=uncounted(traced),
        divisions=tuple(divisions),
        hooks=tuple(_lost_hooks(traced)),
    )


def uncounted(traced: "Traced") -> tuple[str, ...]:
    """What multiplies, and of which torch's counter saw nothing or not all.

    These are modules that hold matrices, and operations without a count.
    """
    names = (name for node in traced.graph.nodes for name in _uncounted(node, traced))
    return tuple(dict.fromkeys(names))


def _uncounted(node: fx.Node, traced: "Traced") -> Iterator[str]:
    module = traced.module(node)
    name = str(node.target) if module is not None else node.name
    operations = traced.probed.uncounted.get(node.name)
    if module is not None and not traced.macs.get(node.name):
        holds = any(parameter.dim() >= 2 for parameter in module.parameters())
        if holds and not isinstance(module, _NO_PRODUCTS):
            yield name
            return
    if operations is not None:
        yield f"{name} ({', '.join(operations)})"


def _lost_hooks(traced: "Traced") -> Iterator[str]:
    called = {node.target for node in traced.graph.nodes if node.op == "call_module"}
    for name, module in traced.root.named_modules():
        if operations.hooked(module) and name not in called:
            yield name or type(module).__name__


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
