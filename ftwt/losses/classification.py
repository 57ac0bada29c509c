"""What every measurement and loss of classification needs: logits, and one class for each input."""

from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

from ftwt.errors import FtwtError


def need_logits(
    called: str, output: Any, otherwise: str = "write a loss that reads trace.output"
) -> Float[Tensor, "B classes"]:
    """A network's output in float32, or a clear error where it is no tensor of logits."""
    logits = isinstance(output, Tensor) and output.dim() == 2 and output.is_floating_point()
    if not logits or output.shape[1] < 2:
        came = _what(output)
        if logits:
            came += ", one number for each input"
        raise FtwtError(
            f"{called}: the network's output is {came}, expected logits (B, classes); "
            "say where they are, task=training.tasks.Classification(logits=lambda out: out[0]), "
            f"wrap the network in a module that returns them, or {otherwise}"
        )
    values: Tensor = output.float()
    return values


def need_scores(called: str, output: Any) -> Float[Tensor, "B classes *space"]:
    """Logits, or maps of them, in float32, or the error that `need_logits` has."""
    maps = isinstance(output, Tensor) and output.dim() > 2 and output.is_floating_point()
    if maps and output.shape[1] > 1:
        scores: Tensor = output.float()
        return scores
    return need_logits(called, output, "compare the outputs yourself")


def need_classes(called: str, labels: Any, batch: int) -> Int[Tensor, "B"]:
    """The labels as int64, or a clear error where they are not one class for each input."""
    whole = isinstance(labels, Tensor) and not labels.is_floating_point()
    if not whole or labels.is_complex() or tuple(labels.shape) != (batch,):
        kind = f" and type {labels.dtype}" if isinstance(labels, Tensor) else ""
        raise FtwtError(
            f"{called}: the labels are {_what(labels)}{kind}, expected the class of each input, "
            f"whole numbers of shape ({batch},); maps of labels, boxes and soft labels need a "
            "measurement of your own"
        )
    classes: Tensor = labels.long()
    return classes


def need_maps(
    called: str, output: Any, labels: Any, *, positions: bool = True
) -> tuple[Float[Tensor, "B classes *space"], Int[Tensor, "B *space"]]:
    """Maps of logits in float32 and of labels as int64, or a clear error where they are not.

    Without `positions` an image may also be one position, (B, classes).
    """
    maps = isinstance(output, Tensor) and output.dim() > 1 + positions
    maps = maps and output.is_floating_point()
    if not maps or output.shape[1] < 2:
        raise FtwtError(
            f"{called}: the network's output is {_what(output)}, expected maps of logits "
            "(B, classes, H, W) with two classes or more; give the task= that the network is for, "
            "which says with logits= where they are"
        )
    wanted = (len(output), *output.shape[2:])
    whole = isinstance(labels, Tensor) and not labels.is_floating_point()
    if not whole or labels.is_complex() or tuple(labels.shape) != wanted:
        kind = f" and type {labels.dtype}" if isinstance(labels, Tensor) else ""
        raise FtwtError(
            f"{called}: the labels are {_what(labels)}{kind}, expected the class of each position, "
            f"whole numbers of shape {wanted}; resize the labels or the output to one size"
        )
    return output.float(), labels.long()


# What label maps hold where there is nothing to tell: torch's ignore_index, and a byte's last.
VOID = (-100, 255)


def right_answers(output: Any, labels: Any) -> Float[Tensor, ""]:
    """How many inputs a classifier puts into their class, on the output's device, in float64.

    Of maps an input counts as the share of its positions that are right; positions labelled -100
    or 255 are left out.

    Args:
        output: what the network returned: logits (B, classes), or (B, classes, *space).
        labels: the class of each input, (B,), or of each position, (B, *space).

    Raises:
        FtwtError: the output is no tensor of logits, or the labels do not fit it.
    """
    mapped = isinstance(output, Tensor) and isinstance(labels, Tensor) and output.dim() > 2
    if not mapped or labels.shape != output[:, 0].shape or labels.is_floating_point():
        inputs: Tensor = which_right(output, labels).sum().double()
        return inputs
    wanted = labels.to(output.device)
    told = known_positions("accuracy", wanted, output.shape[1])
    right = (output.argmax(1) == wanted) & told
    positions = told.flatten(1).sum(1).clamp(min=1)
    shares: Tensor = right.flatten(1).sum(1) / positions.double()
    return shares.sum()


def known_positions(
    called: str, labels: Int[Tensor, "B *space"], classes: int
) -> Bool[Tensor, "B *space"]:
    """Positions that are labelled with a class.

    Raises:
        FtwtError: one has a label that is neither a class nor -100 or 255.
    """
    told = (labels >= 0) & (labels < classes)
    strange = ~told & (labels != VOID[0]) & (labels != VOID[1])
    if strange.any():
        raise FtwtError(
            f"{called}: the label map holds {int(labels[strange][0])}, but the network knows the "
            f"classes 0 to {classes - 1}; label what belongs to none of them 255 or -100"
        )
    return told


def check_labels(called: str, labels: Int[Tensor, "B"], classes: int) -> None:
    """Raise FtwtError unless each image is labelled with a class of the network's."""
    strange = (labels < 0) | (labels >= classes)
    if strange.any():
        raise FtwtError(
            f"{called}: a label is {int(labels[strange][0])}, but the network knows the classes 0 "
            f"to {classes - 1}; give labels of these, or a network with more outputs"
        )


def check_scores(called: str, scores: Float[Tensor, "B *rest"]) -> None:
    """Raise FtwtError where scores are NaN, which is of no class."""
    bad = scores.flatten(1).isnan().any(1)
    if bad.any():
        raise FtwtError(
            f"{called}: the network answers NaN for {int(bad.sum())} of {len(bad)} images; look "
            "for weights or images that are not finite"
        )


def which_right(output: Any, labels: Any) -> Bool[Tensor, "B"]:
    """Which inputs a classifier puts into their class: see `right_answers`."""
    need_logits("accuracy", output, "measure it in a loop of your own")
    classes = need_classes("accuracy", labels, len(output))
    right: Tensor = output.argmax(1) == classes.to(output.device)
    return right


def _what(given: Any) -> str:
    if isinstance(given, Tensor):
        return f"a tensor of shape {tuple(given.shape)}"
    return type(given).__name__
