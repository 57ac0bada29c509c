"""Removing for good the filters that never ran over a set of images."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ftwt.gated.model import Gated
from ftwt.gated.within import held_in, with_part
from ftwt.losses.classification import check_scores, need_scores, right_answers
from ftwt.slicing.narrow import narrow
from ftwt.training.activity import Activity, activity
from ftwt.training.evaluation import evaluating
from ftwt.training.inspection import Loader, first
from ftwt.training.step import observe
from ftwt.training.tasks import LABELLED, Detection, Regression, Task
from ftwt.training.tasks.batches import moved


@dataclass(frozen=True)
class Removal:
    """A gated network whole, and without the filters that never ran.

    `filters` counts those of the sites, `parameters` the network's without its gates. MACs are
    exact, for one sample with every filter running and without gates.
    """

    filters: int
    filters_left: int
    parameters: int
    parameters_left: int
    macs: int
    macs_left: int

    def to_json(self) -> dict[str, Any]:
        """All fields as plain numbers."""
        return asdict(self)


@dataclass(frozen=True)
class Agreement:
    """How near two networks' answers are over a set of images.

    `largest_difference` is that of two outputs, as a share of the largest output; `same_class`
    counts the images that both put into one class, None where answers are no classes.
    """

    images: int
    same_class: float | None
    largest_difference: float

    def to_json(self) -> dict[str, Any]:
        """All fields as plain numbers."""
        return asdict(self)


class Slim(NamedTuple):
    """A smaller gated network, what was removed for it, and how it agrees with the whole one.

    Where the network holds a gated one, removal and agreement are that one's.
    """

    model: nn.Module
    removal: Removal
    agreement: Agreement


def slim(
    model: nn.Module,
    loader: Loader,
    *,
    limit: int | None = None,
    round_to: int = 1,
    task: Task = LABELLED,
) -> Slim:
    """Remove for good the filters that run for none of a loader's images.

    The answer is an ordinary network with narrower layers, and gates over what is left. Over these
    images it runs the same filters and answers the same, which a second pass measures; over others
    it lacks what the whole network might have run. Use many images, and none to be tested on.

    Args:
        model: a network with gates that predict, or one that holds such a one; it is left as it
            is.
        loader: gives what the task takes, usually images and labels, twice over.
        limit: use at most so many images.
        round_to: leave more filters until each layer has a multiple of this, such as 8, or all.
        task: what the network is for.

    Raises:
        FtwtError: the network has no gates or cannot be cut, as `ftwt.slicing.narrow` says, the
            loader is empty, or `limit` or `round_to` is below 1.

    Example:
        >>> small, removal, agreement = slim(model, loader)
        >>> ftwt.save(small, "slim.safetensors", card)
    """
    seen = activity(model, loader, limit=limit, task=task)
    held = held_in(model)
    assert held is not None
    part, removal = without_never(held[1], seen, round_to=round_to)
    small = with_part(model, held[0], lambda whole: part)
    return Slim(small, removal, agreement(model, small, loader, limit=limit, task=task))


def without_never(
    model: Gated, seen: Activity, *, round_to: int | None = 1
) -> tuple[Gated, Removal]:
    """Remove from a gated network what never ran while `seen` was measured.

    `round_to` as for `ftwt.slicing.narrow`: None removes all of it, also what a sum still needs.

    Raises:
        FtwtError: the network cannot be cut, as `ftwt.slicing.narrow` says.
    """
    kept = {site.name: torch.tensor(site.share_of_images_by_filter) > 0 for site in seen.sites}
    small = narrow(model, kept, round_to=round_to)
    return small, Removal(
        filters=_filters(model),
        filters_left=_filters(small),
        parameters=sum(one.numel() for one in model.backbone_parameters()),
        parameters_left=sum(one.numel() for one in small.backbone_parameters()),
        macs=model.dense_macs,
        macs_left=small.dense_macs,
    )


def agreement(
    one: nn.Module,
    other: nn.Module,
    loader: Loader,
    *,
    limit: int | None = None,
    task: Task = LABELLED,
) -> Agreement:
    """Compare two gated networks' answers in one pass over a loader.

    They are class scores (B, classes), or maps of them (B, classes, *space), of which an image
    counts as the share of its positions that are of the same class; or numbers (B, ...). Boxes are
    chosen by a hair's breadth: of detectors it is what their gated part answers.
    """
    scores = not isinstance(task, (Regression, Detection))
    device = next(one.parameters()).device
    images, same, difference, largest = 0, 0.0, 0.0, 0.0
    with evaluating(one), evaluating(other):
        for batch, _ in first(loader, limit, "agreement", task):
            inputs = moved(batch, device)
            answers = [_answers(net, inputs, task) for net in (one, other)]
            if scores:
                (left,), (right,) = answers
                same += float(right_answers(left, right.argmax(1)))
            images += len(batch)
            for left, right in zip(*answers, strict=True):
                check_scores("agreement", left)
                check_scores("agreement", right)
                difference = max(difference, (left - right).abs().max().item())
                largest = max(largest, left.abs().max().item())
    share = difference / largest if largest else difference
    return Agreement(images, same if scores else None, share)


def _answers(network: nn.Module, inputs: Any, task: Task) -> list[Tensor]:
    """What is compared of a network's answer to a batch."""
    if isinstance(task, Detection):
        part = observe(network, inputs, task=task, targets=False, whole=False).output
        return [one for one in tree_leaves(part) if isinstance(one, Tensor)]
    answer = task.answer(task.ask(network, inputs, None))
    return [answer if isinstance(task, Regression) else need_scores("agreement", answer)]


def _filters(model: Gated) -> int:
    return sum(layer.site.out_channels for layer in model.anatomy.plan.layers if layer.site)
