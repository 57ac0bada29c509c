"""Whether a traced network is the network that was given, found out by running both.

Both run on the same batch with the same random numbers, forwards and backwards, in training mode
where the network can. What has to be the same: the output, the gradient of each parameter, the
buffers afterwards, how many random numbers were drawn; then the output of eval mode without
gradients. What a forward keeps on its modules the graph does not, so there must be none.

A graph that is in eval mode for good, as its network branches on `self.training`, may lack what the
network answers in training mode beside its output: auxiliary heads. Dropout is off for that
comparison, as these heads draw random numbers, too.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.utils.checkpoint
from torch import Tensor, fx, nn
from torch.nn.modules.dropout import _DropoutNd

from ftwt.errors import FtwtError, first_line
from ftwt.graph import kept
from ftwt.graph.code import compile_graph
from ftwt.graph.kept import Kept
from ftwt.graph.outputs import leaves_of, same_kind
from ftwt.graph.probing import countable
from ftwt.graph.randomness import fixed_seed, generators

# Of the largest value: both sides do the same operations, if on other paths inside of torch.
_TOLERANCE = 1e-3
# How often random numbers are compared before they are said to differ.
_DRAWS = 5

# From a network and copies of the inputs to what it answers.
RunNetwork: TypeAlias = Callable[[nn.Module, Sequence[Tensor]], Any]


@dataclass(frozen=True)
class Mode:
    """How passes are made and which of what they show counts."""

    trains: bool
    # How many of the output's tensors count; None for all.
    outputs: int | None = None
    drops: bool = True

    def set(self, root: nn.Module) -> None:
        """Put a network into this mode."""
        for module in root.modules():
            module.training = self.trains and (self.drops or not isinstance(module, _DropoutNd))


@dataclass(frozen=True)
class ObservedPass:
    """What one pass showed; a gradient is None where none arrived."""

    output: Any
    gradients: dict[str, Tensor | None]
    after: Kept
    # What each module was given, in the order of the calls.
    calls: list[tuple[str, float]]
    # Where the generators of random numbers stood after.
    random: list[Any]


def check_faithful(
    root: nn.Module,
    graph: fx.Graph,
    plain: RunNetwork,
    inputs: Sequence[Tensor],
    others: Sequence[Tensor],
    *,
    frozen: Sequence[str],
    assigned: Mapping[str, str],
) -> None:
    """Compare a network's own forward with its graph; both use `root`, which is left as it was.

    `plain` is the forward. `inputs` are another batch than the graph was made with, and `others`
    one more. `frozen` names modules that stay in eval mode in the graph.

    Raises:
        FtwtError: they differ, with the first difference that was found.
    """
    name = type(root).__name__
    traced = compile_graph(graph)

    def as_traced(own: nn.Module, given: Sequence[Tensor]) -> Any:
        return traced(own, *given)

    modules = {str(node.target) for node in graph.nodes if node.op == "call_module"}
    start = kept.taken(root)
    modes = {module: module.training for module in root.modules()}
    evaluates = Mode(trains=False)
    mode = Mode(trains=True)
    try:
        with countable():
            if frozen:
                seen = _tried(root, plain, inputs, modules, evaluates)
                mode = Mode(True, None if seen is None else len(seen.output), drops=False)
                kept.put_back(root, start)
            first = _tried(root, plain, inputs, modules, mode)
            if first is None:
                mode = evaluates
                kept.put_back(root, start)
                first = _tried(root, plain, inputs, modules, mode)
            if first is None:
                # Its backward pass fails by itself.
                _check_evaluated(root, plain, traced, inputs, start)
                return
            _check_attributes(root, plain, others, start, first, assigned, mode)
            kept.put_back(root, start)
            mode.set(root)
            try:
                second = _pass(root, as_traced, inputs, modules, mode)
            except FtwtError:
                raise
            except Exception as error:
                raise FtwtError(
                    f"attach: {name} runs, but not as traced by torch.fx ({first_line(error)}); "
                    "give the module at fault as leaves=(Module,)"
                ) from error
            found = _difference(first, second, _used(graph) if frozen else None)
            # A layer that is left out now and then may by chance have been there both times.
            if found is None and first.random != second.random:
                found = _draws(root, (plain, as_traced), inputs, start, mode)
            if found is None:
                _check_evaluated(root, plain, traced, inputs, start)
                return
            if _checkpoints(root, plain, inputs, start, mode):
                raise FtwtError(
                    f"attach: {name} {found}: its forward goes through torch.utils.checkpoint, "
                    "which the traced network does not; turn checkpointing off before attach"
                )
            if frozen and mode.trains:
                raise FtwtError(
                    f"attach: {name} {found}: {frozen[0]!r} reads self.training, and tracing "
                    "follows eval mode alone; move what depends on the mode into a module without "
                    "convolutions, or attach(..., check=False) and do not train"
                )
            raise FtwtError(
                f"attach: {name} {found}{_reason(root, plain, inputs, start, first, mode)}"
            )
    finally:
        kept.put_back(root, start)
        for module, training in modes.items():
            module.training = training


def _check_evaluated(
    root: nn.Module,
    plain: RunNetwork,
    traced: Callable[..., Any],
    inputs: Sequence[Tensor],
    start: Kept,
) -> None:
    """Refuse a network that answers something else when evaluated without gradients."""

    def answer(run: RunNetwork) -> list[Any]:
        kept.put_back(root, start)
        Mode(trains=False).set(root)
        with fixed_seed(0), torch.no_grad():
            return leaves_of(run(root, [one.clone() for one in inputs]))

    try:
        first = answer(plain)
    except Exception:
        return
    second = answer(lambda own, given: traced(own, *given))
    if not _same_output(first, second):
        raise FtwtError(
            f"attach: {type(root).__name__} answers something else without gradients in eval mode "
            "than as traced by torch.fx, with them; do not ask for torch.is_grad_enabled() in "
            "forward, or give the module that does as leaves=(Module,)"
        )


def close(one: Tensor, two: Tensor, tolerance: float = _TOLERANCE) -> bool:
    """Whether two tensors are the same but for rounding; without data, whether shapes are."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    if one.is_meta or two.is_meta or not one.numel():
        return True
    if not (one.is_floating_point() or one.is_complex()):
        return bool(torch.equal(one, two))
    known = two.isfinite()
    scale = two[known].abs().max().item() if bool(known.any()) else 0.0
    return bool(torch.allclose(one, two, rtol=0, atol=tolerance * scale, equal_nan=True))


def _tried(
    root: nn.Module, run: RunNetwork, inputs: Sequence[Tensor], modules: set[str], mode: Mode
) -> ObservedPass | None:
    """A pass, or None if the network cannot do one in this mode."""
    mode.set(root)
    try:
        return _pass(root, run, inputs, modules, mode)
    except Exception:
        return None


def _pass(
    root: nn.Module,
    run: RunNetwork,
    inputs: Sequence[Tensor],
    modules: set[str],
    mode: Mode,
    seed: int = 0,
) -> ObservedPass:
    """One pass forwards and backwards."""
    with fixed_seed(seed), _watched(root, modules) as calls, torch.enable_grad():
        output = leaves_of(run(root, [one.clone() for one in inputs]))[: mode.outputs]
        gradients = _gradients(root, output)
        drawn = generators()
    return ObservedPass(_detached(output), gradients, kept.taken(root), calls, drawn)


def _gradients(root: nn.Module, output: Sequence[Any]) -> dict[str, Tensor | None]:
    """Gradients of a sum of all outputs, each weighed by its own number."""
    parts = [
        (one.double() * _weights(one)).sum()
        for one in output
        if isinstance(one, Tensor) and one.is_floating_point() and one.requires_grad
    ]
    named = {name: one for name, one in root.named_parameters() if one.requires_grad}
    if not parts or not named:
        return dict.fromkeys(named)
    before = {name: one.grad for name, one in named.items()}
    for one in named.values():
        one.grad = None
    try:
        # Reentrant checkpoints take no torch.autograd.grad.
        torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
        return {name: one.grad for name, one in named.items()}
    finally:
        for name, one in named.items():
            one.grad = before[name]


def _weights(like: Tensor) -> Tensor:
    count = torch.arange(like.numel(), dtype=torch.float64, device=like.device)
    return count.add(1).cos().view(like.shape)


def _detached(output: Sequence[Any]) -> list[Any]:
    return [one.detach() if isinstance(one, Tensor) else one for one in output]


@contextmanager
def _watched(root: nn.Module, modules: set[str]) -> Iterator[list[tuple[str, float]]]:
    """Note what modules are given."""
    calls: list[tuple[str, float]] = []

    def note(name: str) -> Any:
        def hook(_: nn.Module, given: tuple[Any, ...]) -> None:
            tensors = [one for one in given if isinstance(one, Tensor) and not one.is_meta]
            total = sum(one.detach().double().abs().sum().item() for one in tensors)
            calls.append((name, total))

        return hook

    handles = [
        module.register_forward_pre_hook(note(name))
        for name, module in root.named_modules()
        if name in modules
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _check_attributes(
    root: nn.Module,
    plain: RunNetwork,
    inputs: Sequence[Tensor],
    start: Kept,
    first: ObservedPass,
    assigned: Mapping[str, str],
    mode: Mode,
) -> None:
    """Refuse a forward that leaves something else on its modules each time."""
    if not start.changed(first.after):
        return
    # Once more: what is kept for good, such as a table for one size, stays as it is.
    again = _tried(root, plain, inputs, set(), mode)
    changed = () if again is None else first.after.changed(again.after)
    if not changed:
        return
    module, _, name = changed[0].rpartition(".")
    owner = type(root.get_submodule(module)).__name__
    where = f" at {assigned[name]}" if name in assigned else ""
    raise FtwtError(
        f"attach: {owner} keeps {changed[0]!r} of each pass{where}, which the traced network does "
        "not; let forward return it, count in a buffer, or do without it by attach(..., "
        "check=False)"
    )


def _used(graph: fx.Graph) -> tuple[str, ...]:
    """Paths of the modules and tensors that a graph reads."""
    return tuple(str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr"))


def _difference(
    first: ObservedPass, second: ObservedPass, used: tuple[str, ...] | None
) -> str | None:
    """The first difference between the plain and the traced network, in words.

    `used` are paths that the graph reads: buffers of modules that are not among these nor above
    them are left out, as those of auxiliary heads are; None looks at all buffers.
    """
    if not _same_output(first.output, second.output):
        place = next(
            (one[0] for one, two in zip(first.calls, second.calls, strict=False) if one != two),
            None,
        )
        where = f"; {place!r} is the first module that is given something else" if place else ""
        return f"answers something else when traced by torch.fx{where}"
    for name, gradient in first.gradients.items():
        other = second.gradients[name]
        if (gradient is None) != (other is None):
            has, lacks = ("plain", "traced") if other is None else ("traced", "plain")
            return f"gives {name!r} a gradient in the {has} network, and none in the {lacks} one"
        if gradient is not None and other is not None and not close(other, gradient, 1e-2):
            return f"gives {name!r} another gradient when traced by torch.fx"
    for name, buffer in first.after.buffers.items():
        counts = used is None or _concerns(name, used)
        if counts and not close(second.after.buffers[name], buffer):
            return f"leaves buffer {name!r} as another when traced by torch.fx"
    return None


def _draws(
    root: nn.Module,
    runs: tuple[RunNetwork, RunNetwork],
    inputs: Sequence[Tensor],
    start: Kept,
    mode: Mode,
) -> str | None:
    """What is wrong if two runs draw different random numbers, each time.

    The generators are the process's, so other threads that draw meanwhile make a difference, too,
    but not each time.
    """
    for _ in range(_DRAWS):
        drawn = []
        for run in runs:
            kept.put_back(root, start)
            mode.set(root)
            drawn.append(_pass(root, run, inputs, set(), mode).random)
        if drawn[0] == drawn[1]:
            return None
    return "draws random numbers that it does not when traced by torch.fx"


def _same_output(one: list[Any], two: list[Any]) -> bool:
    return same_kind(one, two) and all(
        close(a, b) for a, b in zip(one, two, strict=True) if isinstance(a, Tensor)
    )


def _concerns(buffer: str, used: Sequence[str]) -> bool:
    """Whether a buffer belongs to a module that the graph calls, or went through."""
    owner = buffer.rpartition(".")[0]
    below = f"{owner}." if owner else ""
    return any(f"{buffer}.".startswith(f"{one}.") or one.startswith(below) for one in used)


def _checkpoints(
    root: nn.Module, plain: RunNetwork, inputs: Sequence[Tensor], start: Kept, mode: Mode
) -> bool:
    """Whether a forward computes parts of itself again for the gradient, as torch offers."""
    files: set[str] = set()
    before = sys.getprofile()
    kept.put_back(root, start)
    sys.setprofile(lambda frame, *_: files.add(frame.f_code.co_filename))
    try:
        _tried(root, plain, inputs, set(), mode)
    finally:
        sys.setprofile(before)
    return torch.utils.checkpoint.__file__ in files


def _reason(
    root: nn.Module,
    plain: RunNetwork,
    inputs: Sequence[Tensor],
    start: Kept,
    first: ObservedPass,
    mode: Mode,
) -> str:
    """What may have made the difference, and what to do."""
    kept.put_back(root, start)
    random = _pass(root, plain, inputs, set(), mode, seed=1).output
    if not all(
        close(a, b) for a, b in zip(random, first.output, strict=True) if torch.is_tensor(a)
    ):
        return (
            "; it draws random numbers that tracing takes for constants: draw them in a module of "
            "torch's own (nn.Dropout), or give the module that draws as leaves=(Module,)"
        )
    return "; give the module where it happens as leaves=(Module,)"
