"""Which modules read `self.training` while they are traced, and calls that read it at run time."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import fx, nn


@contextmanager
def noting_readers(readers: dict[nn.Module, None], running: Callable[[], bool]) -> Iterator[None]:
    """Note each module whose `training` is read, but while the example is `running`.

    Leaves are not traced and do not count.
    """

    def read(module: nn.Module) -> bool:
        if not running():
            readers[module] = None
        return bool(module.__dict__["training"])

    def write(module: nn.Module, value: bool) -> None:
        module.__dict__["training"] = value

    # A property of the class comes before the instance's own attribute; torch.fx patches
    # nn.Module.__call__ for the time of tracing in the same way.
    nn.Module.training = property(read, write)  # type: ignore[assignment]
    try:
        yield
    finally:
        del nn.Module.training


def follow_the_mode(
    root: nn.Module, graph: fx.Graph, readers: dict[nn.Module, None]
) -> set[nn.Module]:
    """Let calls such as F.dropout(x, training=self.training) read the mode when they run."""
    following: set[nn.Module] = set()
    for node in list(graph.nodes):
        place = _training_argument(node)
        if place is None:
            continue
        owner = _reader(root, node, readers)
        if owner is None:
            continue
        name, module = owner
        following.add(module)
        with graph.inserting_before(node):
            mode = graph.get_attr(f"{name}.training" if name else "training")
        if isinstance(place, int):
            node.update_arg(place, mode)
        else:
            node.update_kwarg(place, mode)
    return following


def _training_argument(node: fx.Node) -> int | str | None:
    """Where a call is told that it is not training; True was written so, and stays."""
    if node.op != "call_function" or not callable(node.target):
        return None
    if node.kwargs.get("training") is False:
        return "training"
    try:
        names = list(inspect.signature(node.target).parameters)
    except (ValueError, TypeError):
        return None
    if "training" not in names:
        return None
    place = names.index("training")
    return place if place < len(node.args) and node.args[place] is False else None


def _reader(
    root: nn.Module, node: fx.Node, readers: dict[nn.Module, None]
) -> tuple[str, nn.Module] | None:
    """The innermost module around a node that reads its mode, and its name."""
    for name, _ in reversed(list(node.meta.get("nn_module_stack", {}).values())):
        module = root.get_submodule(name)
        if module in readers:
            return name, module
    return ("", root) if root in readers else None
