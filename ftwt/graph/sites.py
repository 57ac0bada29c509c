"""Finding sites: each convolution with the batch norm and activation that follow it."""

import difflib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from torch import fx, nn

from ftwt.errors import FtwtError, listed
from ftwt.graph import calls, operations
from ftwt.graph.operations import Role
from ftwt.graph.tracing import Traced

# By name and module (None for a functional convolution), or the names themselves.
SiteFilter: TypeAlias = Callable[[str, nn.Module | None], bool] | Collection[str]


class SiteShape(NamedTuple):
    """The site that a gate is built for; `macs` are its convolution's for one sample, dense.

    A `depthwise` convolution has one filter for each channel that it is given.
    """

    name: str
    in_channels: int
    out_channels: int
    macs: int
    depthwise: bool = False


@runtime_checkable
class NamesSites(Protocol):
    """A component with settings for single sites: a stray name would be left out without a word."""

    @property
    def named_sites(self) -> Collection[str]:
        """The sites that it names."""
        ...


@dataclass(frozen=True)
class Candidate:
    """A convolution that could be a site, and why the default leaves it out if it does."""

    name: str
    convolution: fx.Node
    output: fx.Node
    module: nn.Module | None
    left_out: str | None

    @property
    def key(self) -> str:
        """The name without dots, which a module's name cannot contain."""
        return self.name.replace(".", "-")


def is_convolution(node: fx.Node, traced: Traced) -> bool:
    """Whether a node is a 2-d convolution of a batch, which its one dimension more tells."""
    source = calls.source_of(node)
    shape = traced.shape(source) if source is not None else None
    found = operations.table_row(node, traced.module(node))
    role = found.role if found is not None else None
    return role is Role.CONVOLUTION and shape is not None and len(shape) == 4


def candidates(traced: Traced) -> list[Candidate]:
    """All convolutions of a graph, in the order in which they run."""
    found: list[Candidate] = []
    uses: dict[str, int] = {}
    convolutions = [node for node in traced.graph.nodes if is_convolution(node, traced)]
    for node in convolutions:
        base = site_name(node, traced)
        uses[base] = uses.get(base, 0) + 1
        # A module that is called twice is two sites, each with its own gate.
        name = base if uses[base] == 1 else f"{base}@{uses[base]}"
        output = _site_output(node, traced)
        reason = _left_out(node, output, traced, frozenset(convolutions))
        found.append(Candidate(name, node, output, traced.module(node), reason))
    return found


def site_name(node: fx.Node, traced: Traced) -> str:
    """The module that a node calls, or the convolution module whose forward it is from."""
    if node.op == "call_module":
        return str(node.target)
    inside = list(node.meta.get("nn_module_stack", {}).values())
    if inside and isinstance(traced.root.get_submodule(inside[-1][0]), nn.Conv2d):
        return str(inside[-1][0])
    return node.name


def choose(found: list[Candidate], where: SiteFilter | None, network: str) -> list[Candidate]:
    """The candidates that become sites.

    Raises:
        FtwtError: none is chosen, a name is unknown, or the network has no convolution.
    """
    if not found:
        raise FtwtError(
            f"attach: {network} has no 2-d convolution, so there is nothing to gate; "
            "give a convolutional network"
        )
    if where is None:
        chosen = [one for one in found if one.left_out is None]
        hint = "give where=lambda name, module: ... that picks some of"
    else:
        if callable(where):
            chosen = [one for one in found if where(one.name, one.module)]
        else:
            _check_names(where, found, network)
            chosen = [one for one in found if one.name in where]
        hint = "where= matched nothing; the candidates are"
    if not chosen:
        raise FtwtError(f"attach: no site in {network}; {hint} {_candidates(found)}")
    return chosen


def _check_names(names: Collection[str], found: list[Candidate], network: str) -> None:
    if isinstance(names, str):
        raise FtwtError(f"attach: where={names!r} is one string; give a list of names")
    known = [one.name for one in found]
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known)
            hint = f"did you mean {', '.join(nearest)}?" if nearest else "the candidates are"
            rest = "" if nearest else f" {_candidates(found)}"
            raise FtwtError(f"attach: {network} has no convolution {name!r}; {hint}{rest}")


def _candidates(found: list[Candidate]) -> str:
    return listed([one.name for one in found], most=40)


def shape_of(site: Candidate, traced: Traced) -> SiteShape:
    """Channels into and out of a site, and what its convolution costs."""
    source = calls.source_of(site.convolution)
    inputs = traced.shape(source) if source is not None else None
    outputs = traced.shape(site.output)
    assert inputs is not None
    assert outputs is not None
    macs = traced.macs[site.convolution.name]
    conv = site.module
    depthwise = (
        isinstance(conv, nn.Conv2d) and 1 < conv.groups == conv.in_channels == conv.out_channels
    )
    return SiteShape(site.name, inputs[1], outputs[1], macs, depthwise)


def _site_output(node: fx.Node, traced: Traced) -> fx.Node:
    """The last node of convolution, optional batch norm, optional activation."""
    last = node
    following = _only_user(last, traced)
    if following is not None and _is_batch_norm(following, traced):
        last = following
        following = _only_user(last, traced)
    if following is not None and operations.is_activation(following, traced.module(following)):
        last = following
    return last


def _is_batch_norm(node: fx.Node, traced: Traced) -> bool:
    """Whether a node is a batch norm; a library's own kind may have an activation inside."""
    source, module = calls.source_of(node), traced.module(node)
    if node.op == "call_function":
        return operations.operation_of(node, None).role is Role.BATCH_NORM
    if source is None or not isinstance(module, operations.BATCH_NORMS):
        return False
    return traced.shape(node) == traced.shape(source)


def _only_user(node: fx.Node, traced: Traced) -> fx.Node | None:
    """The one operation that reads a node, past modules that do nothing."""
    users = list(node.users)
    if len(users) != 1 or calls.source_of(users[0]) is not node:
        return None
    if _does_nothing(users[0], traced):
        return _only_user(users[0], traced)
    return users[0]


def _does_nothing(node: fx.Node, traced: Traced) -> bool:
    return operations.is_a(traced.module(node), (nn.Identity,))


def _left_out(
    node: fx.Node, output: fx.Node, traced: Traced, convolutions: frozenset[fx.Node]
) -> str | None:
    shape = traced.shape(output)
    if shape is None or shape[1] < 2:
        return "has a single filter"
    if traced.probed.rows.get(node.name) is None:
        return "works on rows that are not the samples'"
    if all(side == 1 for side in shape[2:]):
        return "works on a 1x1 map, where a gate costs as much as it saves"
    if not any(_computes(later, traced) for later in _descendants(output)):
        return "makes the network's output"
    if _is_shortcut(node, output, traced, convolutions):
        return "is the shortcut of a residual block"
    return None


def _computes(node: fx.Node, traced: Traced) -> bool:
    return traced.macs.get(node.name, 0) > 0


def _is_shortcut(
    node: fx.Node, output: fx.Node, traced: Traced, convolutions: frozenset[fx.Node]
) -> bool:
    """Whether the site's output is added to a deeper branch that starts at the same tensor."""
    source = calls.source_of(node)
    if source is None:
        return False
    passed = [output]
    # Modules that do nothing are looked through: users may come after them.
    for one in passed:
        passed += [user for user in one.users if _does_nothing(user, traced)]
    users = [user for one in passed for user in one.users]
    sums = [
        user
        for user in users
        if operations.kind_of(user, traced.module(user)) is operations.Kind.UNION
    ]
    if not sums:
        return False
    depths = _depths(source, convolutions)
    # A stem is added too, as the identity of the first block, but the branch starts at it.
    mine = {*passed, *_descendants(output)}
    branches = [one for user in sums for one in calls.operands(user) if isinstance(one, fx.Node)]
    return any(one not in mine and depths.get(one, 0) > 1 for one in branches)


def _depths(source: fx.Node, convolutions: frozenset[fx.Node]) -> dict[fx.Node, int]:
    """Convolutions on the longest way from `source` to each node that depends on it."""
    depths = {source: 0}
    node = source.next
    # The graph's list of nodes is in running order, and ends at its root.
    while node.op != "root":
        before = [depths[one] for one in node.all_input_nodes if one in depths]
        if before:
            depths[node] = max(before) + (node in convolutions)
        node = node.next
    return depths


def _descendants(node: fx.Node) -> Iterator[fx.Node]:
    seen: set[fx.Node] = set()
    waiting = list(node.users)
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            yield one
            waiting.extend(one.users)
