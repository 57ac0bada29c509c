"""What a saved network answers to one fixed input.

Weights do not say what a network does with them: its strides, activations, constants and buffers
that no file holds. So a file has some numbers of an answer, and `load` compares them.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.anatomy import precision
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.model import Gated
from ftwt.graph import kept
from ftwt.graph.outputs import leaves_of
from ftwt.graph.probing import PROBE_BATCH
from ftwt.graph.randomness import fixed_seed

# Numbers that are kept of an answer.
_NUMBERS = 32
# Of the largest: what other machines and devices make of the same network, at most.
_ROUNDING = {torch.float16: 0.2, torch.bfloat16: 0.2}
_EXACT = 0.05
_IRRATIONAL = 0.6180339887498949


def noted_answers(model: nn.Module) -> list[list[float] | None]:
    """Some numbers of what each setting of a model answers, with every filter on.

    None of a network that does not answer the same each time; nothing of one without gates.
    """
    return [_answer(one) for one in _gated(model)]


def check_answers(model: nn.Module, wanted: Sequence[Sequence[float] | None], source: str) -> None:
    """Compare what a model answers with what it answered when it was saved.

    Raises:
        FtwtError: it answers something else, so it is another network.
    """
    for one, before in zip(_gated(model), wanted, strict=False):
        now = None if before is None else _answer(one)
        if before is None or now is None:
            continue
        gap = _gap(now, before)
        if gap > _rounding(one):
            raise FtwtError(
                f"load: the network for {source} has its weights, but answers something else than "
                f"the one that was saved (by {gap:.0%} for the same input); give network= as it "
                "was: the same strides, activations, constants and buffers that are not saved"
            )


def _gated(model: nn.Module) -> Iterator[Gated]:
    if isinstance(model, Escalating):
        yield from model.gated
    elif isinstance(model, Gated):
        yield model


def _answer(model: Gated) -> list[float] | None:
    try:
        first, second = (_numbers(model, seed) for seed in (0, 1))
    except Exception:
        # It does not take such an input, or holds no numbers.
        return None
    return first if _gap(second, first) < _rounding(model) else None


def _gap(now: Sequence[float], before: Sequence[float]) -> float:
    """The largest difference, as a share of the largest number; no number of what has none."""
    if len(now) != len(before):
        return 1.0
    largest = max(map(abs, before), default=0.0)
    gap = max((abs(one - two) for one, two in zip(now, before, strict=True)), default=0.0)
    return gap / largest if largest else gap


def _rounding(model: Gated) -> float:
    return _ROUNDING.get(precision(model) or torch.float32, _EXACT)


@torch.no_grad()
def _numbers(model: Gated, seed: int) -> list[float]:
    """Of all that it answers, some numbers with the same distance between them."""
    modes = {module: module.training for module in model.modules()}
    before = kept.taken(model)
    try:
        model.eval()
        with fixed_seed(seed):
            output = model.forward_with_masks(lambda *_: None, *_inputs(model))
    finally:
        kept.put_back(model, before)
        for module, training in modes.items():
            module.training = training
    tensors = [one for one in leaves_of(output) if isinstance(one, Tensor)]
    flat = torch.cat([one.double().flatten() for one in tensors if one.is_floating_point()])
    if not bool(flat.isfinite().all()):
        raise ValueError("it answers what is no number")
    step = max(1, len(flat) // _NUMBERS)
    return [float(f"{number:.6g}") for number in flat[::step][:_NUMBERS].tolist()]


def _inputs(model: Gated) -> list[Tensor]:
    """Numbers without a pattern, the same on every machine; zeros where numbers are whole."""
    device, kind = next(model.parameters()).device, precision(model)
    made = []
    for shape, dtype in zip(model.anatomy.expected, model.anatomy.dtypes, strict=True):
        value = torch.zeros(PROBE_BATCH, *shape, dtype=dtype)
        if dtype.is_floating_point:
            places = torch.arange(value.numel(), dtype=torch.float64)
            parts = places.square().mul(_IRRATIONAL).frac()
            value = parts.mul(4).sub(2).view_as(value).to(kind or dtype)
        made.append(value.to(device))
    return made
