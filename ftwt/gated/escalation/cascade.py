"""One batch through several settings: who answers what, and how answers are put together."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ftwt.errors import FtwtError
from ftwt.gated.escalation.policy import Policy
from ftwt.graph.arguments import Arguments

Ran = TypeVar("Ran")
# Of a setting's place, its answer to so many samples: see `Policy.unsure`.
Unsure: TypeAlias = Callable[[int, Any, int], tuple[Int[Tensor, "n"], Float[Tensor, "n"] | None]]


class Asked(NamedTuple, Generic[Ran]):
    """One setting's part of a batch: the places of its n samples, and what running it gave.

    `sureness` is of what these samples would be answered with; None for the last setting, and where
    it is not told.
    """

    images: Int[Tensor, "n"]
    ran: Ran
    sureness: Float[Tensor, "n"] | None


class CascadeAnswers(NamedTuple, Generic[Ran]):
    """The answer to a batch, and who was asked; settings that no sample reached are left out."""

    output: Any
    asked: tuple[Asked[Ran], ...]


def cascade(
    runs: Sequence[Callable[..., Ran]],
    output_of: Callable[[Ran], Any],
    policy: Policy,
    inputs: tuple[Tensor, ...],
    unsure: Unsure | None = None,
) -> CascadeAnswers[Ran]:
    """Ask the first setting for all samples, and each next one for those that are still unsure.

    Args:
        runs: the settings, as functions of the inputs (B, ...).
        output_of: what the network answers, in what a run gives.
        policy: who goes on.
        inputs: one tensor (B, ...) for each input.
        unsure: tells what `policy.unsure` does, which is asked unless this is given.
    """
    tell = policy.unsure if unsure is None else unsure
    if not inputs or not all(isinstance(one, Tensor) and one.dim() for one in inputs):
        raise FtwtError("escalate: give the inputs as tensors, with the batch as first dimension")
    # Not len(), which takes its time on tensors.
    count = inputs[0].shape[0]
    images = torch.arange(count, device=inputs[0].device)
    asked: list[Asked[Ran]] = []
    output: Any = None
    for step, run in enumerate(runs):
        ran = run(*policy.shown(step, inputs))
        answer = output_of(ran)
        if step == 0:
            output = own = answer
        else:
            output, own = put(output, images, answer, policy)
        if step == len(runs) - 1:
            asked.append(Asked(images, ran, None))
            break
        goes_on, sureness = tell(step, own, count)
        asked.append(Asked(images, ran, sureness))
        going = goes_on.shape[0]
        if going == 0:
            break
        # All of them is no copy.
        if going < count:
            count, images = going, images[goes_on.to(images.device)]
            inputs = tuple(one[goes_on.to(one.device)] for one in inputs)
    return CascadeAnswers(output, tuple(asked))


def by_inputs(run: Callable[..., Ran], arguments: Arguments) -> Callable[..., Ran]:
    """A function of a network's arguments as one of its inputs, in the order of the example's."""
    if arguments.leading:
        return run
    return lambda *inputs: run(**dict(zip(arguments.inputs, inputs, strict=True)))


def put(old: Any, images: Int[Tensor, "n"], new: Any, policy: Policy) -> tuple[Any, Any]:
    """The whole answer with some samples' answers renewed, and these samples' answers."""
    policy.check_answer(new)
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        return _renewed(old, new, images, policy.weight)
    held, form = tree_flatten(old)
    came, other = tree_flatten(new)
    if form != other:
        raise FtwtError(
            f"escalate: one setting answers with a {type(old).__name__}, a later one with a "
            f"{type(new).__name__} that is built otherwise; give settings of one kind of network"
        )
    both = [_renewed(*pair, images, policy.weight) for pair in zip(held, came, strict=True)]
    wholes, owns = [whole for whole, _ in both], [own for _, own in both]
    return tree_unflatten(wholes, form), tree_unflatten(owns, form)


def _renewed(old: Any, new: Any, images: Tensor, weight: float) -> tuple[Any, Any]:
    if not isinstance(old, Tensor) or not isinstance(new, Tensor):
        raise FtwtError(
            f"escalate: the answer holds a {type(new).__name__}, which cannot be told apart by "
            "sample; let the network answer with tensors (B, ...)"
        )
    if old.shape[1:] != new.shape[1:] or old.dtype != new.dtype or len(new) != len(images):
        raise FtwtError(
            f"escalate: one setting answers with {old.dtype} {tuple(old.shape)}, a later one, for "
            f"{len(images)} samples, with {new.dtype} {tuple(new.shape)}; give settings of one "
            "task, with a tensor (B, ...) of the same shape and type"
        )
    if weight < 1 and new.is_floating_point():
        new = weight * new + (1 - weight) * old[images]
    if len(images) == len(old):
        return new, new
    return old.index_copy(0, images.to(old.device), new), new
