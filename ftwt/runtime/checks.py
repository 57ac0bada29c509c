"""What `skip` and what it returns take, in one clear line each."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.model import Gated


def check_model(model: object) -> None:
    """Refuse what has no gates or is not ready to be evaluated."""
    if not isinstance(model, Gated):
        hint = "attach gates first: ftwt.attach(network, ftwt.Pruning(), example=...)"
        kind = type(model).__name__
        if isinstance(model, nn.Module):
            raise FtwtError(f"skip: {kind} has no gates, so nothing can be skipped; {hint}")
        raise FtwtError(f"skip: model is a {kind}, expected a gated network; {hint}")
    training = next((name for name, one in model.named_modules() if one.training), None)
    if training is not None:
        where = f"{training!r} is" if training else "the model is"
        raise FtwtError(
            f"skip: {where} in training mode, but skipping is for evaluation alone; "
            "call model.eval() first"
        )


def check_inputs(model: Gated, inputs: Sequence[Any]) -> None:
    """Refuse inputs that the network does not take; its own errors would come late and unclear."""
    if model.training:
        raise FtwtError(
            "skip: the model was put into training mode; call model.eval(), and skip(model) again "
            "if its weights have changed"
        )
    expected = model.anatomy.expected
    if len(inputs) != len(expected):
        raise FtwtError(
            f"skip: {len(inputs)} inputs came, but the network was attached with {len(expected)}; "
            "give as many as attach was given as example"
        )
    like = next((one for one in model.parameters() if one.is_floating_point()), None)
    for value, shape, example in zip(inputs, expected, model.anatomy.dtypes, strict=True):
        _check(value, shape, like)
        _check_precision(value, example, like, model.anatomy.computes)
    sizes = {len(one) for one in inputs}
    if len(sizes) > 1:
        raise FtwtError(f"skip: inputs are batches of {sorted(sizes)}; give batches of one size")


def _check(value: Any, shape: tuple[int, ...], like: Tensor | None) -> None:
    wanted = f"(B, {', '.join(map(str, shape))})"
    if not isinstance(value, Tensor):
        raise FtwtError(f"skip: input is a {type(value).__name__}; give a tensor {wanted}")
    came = tuple(value.shape)
    # Of images the channels are fixed; how many words there are is the network's own affair.
    if value.dim() != len(shape) + 1 or (len(shape) == 3 and came[1:2] != shape[:1]):
        raise FtwtError(
            f"skip: input has shape {came}, but the network takes {wanted}; give a batch of that "
            "many channels"
        )
    if not all(came):
        raise FtwtError(f"skip: input has shape {came}, with nothing in it; give at least 1 sample")
    if like is None:
        return
    if value.device != like.device:
        raise FtwtError(
            f"skip: input is on {value.device}, but the network is on {like.device}; move one of "
            "them with .to(device), the network before skip(model)"
        )


def _check_precision(
    value: Tensor, example: torch.dtype, like: Tensor | None, computed: torch.dtype | None
) -> None:
    """Take the network's own precision, and what its example had while that fits."""
    if like is None or value.dtype == like.dtype:
        return
    taken = example == value.dtype and (computed == like.dtype or not value.is_floating_point())
    # Numbers of words and classes may be of any width.
    numbers = not (value.is_floating_point() or example.is_floating_point) and value.dim() < 4
    if not (taken or numbers):
        wanted = _name(like.dtype if example.is_floating_point else example)
        raise FtwtError(
            f"skip: input is {_name(value.dtype)}, but the network "
            f"{'computes in' if example.is_floating_point else 'was attached with'} {wanted}; "
            f"convert it with .to(torch.{wanted})"
        )


def _name(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")
