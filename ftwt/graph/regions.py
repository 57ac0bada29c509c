"""Stretches of a forward without gradient or under autocast, which torch.fx does not see.

Each node that was made in one says so in its `meta`; the graph's code gets the `with` back.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import fx

_META = "ftwt_region"
_STATEMENT = re.compile(r"    (\w+)(?: : [^=]+)? = ")


@dataclass(frozen=True)
class NoGrad:
    """`torch.no_grad()`; also `torch.inference_mode()`, from whose tensors no gate could learn."""

    def entered(self) -> Any:
        """The context manager."""
        return torch.no_grad()

    def __str__(self) -> str:
        return "torch.no_grad()"


@dataclass(frozen=True)
class Autocast:
    """`torch.autocast(...)`, also where it is switched off."""

    device: str
    dtype: torch.dtype
    enabled: bool
    cache: bool

    def entered(self) -> Any:
        """The context manager."""
        return torch.autocast(self.device, self.dtype, self.enabled, self.cache)

    def __str__(self) -> str:
        return f"torch.autocast({self.device!r}, {self.dtype}, {self.enabled}, {self.cache})"


# From the outside to the inside.
Region: TypeAlias = tuple[NoGrad | Autocast, ...]


def region_of(node: fx.Node) -> Region:
    """The region that a node runs in; () is what the caller has."""
    region: Region = node.meta.get(_META, ())
    return region


def note(node: fx.Node, region: Region) -> None:
    """Say in which region a node runs."""
    node.meta[_META] = region


def with_gradient(region: Region) -> Region:
    """The same, with the caller's gradient mode."""
    return tuple(one for one in region if not isinstance(one, NoGrad))


def casts(node: fx.Node, device: str) -> bool:
    """Whether a node on a device runs under autocast, in another precision than its weights'."""
    inner = [one for one in region_of(node) if isinstance(one, Autocast) and one.device == device]
    return bool(inner) and inner[-1].enabled


@contextmanager
def entered(region: Region) -> Iterator[None]:
    """Run in a region."""
    with ExitStack() as stack:
        for one in region:
            stack.enter_context(one.entered())
        yield


class Regions:
    """The region that is open while a network is traced, with gradients on outside of it."""

    def __init__(self) -> None:
        self._autocasts: list[Autocast] = []

    @property
    def open(self) -> Region:
        """The region of what is traced now."""
        off: Region = () if torch.is_grad_enabled() else (NoGrad(),)
        return (*off, *self._autocasts)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note autocast, which leaves no trace where it is switched off."""
        enter, leave = torch.autocast.__enter__, torch.autocast.__exit__

        def entering(context: torch.autocast) -> Any:
            self._autocasts.append(
                Autocast(
                    context.device,
                    context.fast_dtype,
                    context._enabled,
                    context._cache_enabled,
                )
            )
            return enter(context)  # type: ignore[no-untyped-call]

        def leaving(context: torch.autocast, *error: Any) -> Any:
            self._autocasts.pop()
            return leave(context, *error)

        # Also of what decorates a function, and of torch.cuda's and torch.cpu's own classes.
        torch.autocast.__enter__ = entering  # type: ignore[method-assign]
        torch.autocast.__exit__ = leaving  # type: ignore[method-assign]
        try:
            yield
        finally:
            torch.autocast.__enter__ = enter  # type: ignore[method-assign]
            torch.autocast.__exit__ = leave  # type: ignore[method-assign]


def written(graph: fx.Graph, source: str) -> str:
    """The source of a graph's function, one statement for each node, with its regions."""
    nodes = {node.name: node for node in graph.nodes}
    lines: list[str] = []
    open_now: Region = ()
    for line in source.splitlines():
        found = _STATEMENT.match(line)
        node = nodes.get(found[1]) if found is not None else None
        if node is not None:
            region = region_of(node)
            shared = 0
            while region[: shared + 1] == open_now[: shared + 1] and shared < len(region):
                shared += 1
            for depth in range(shared, len(region)):
                lines.append(f"{'    ' * (depth + 1)}with {region[depth]}:")
            open_now = region
        elif line.strip().startswith("return"):
            open_now = ()
        lines.append("    " * len(open_now) + line if line.strip() else line)
    return "\n".join(lines)
