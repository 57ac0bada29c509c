"""What is written of a model: a plain network, and inputs that it is tried with."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ftwt.errors import FtwtError, first_line
from ftwt.export.exporting import tensors_of
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.escalation.policy import Policy
from ftwt.gated.known_masks import fixed_masks
from ftwt.gated.model import Gated
from ftwt.slicing import cut

# Images that a network is tried with; some may be dropped for decisions too close to call.
_TRIED = 8
# Logits nearer to a threshold than this, as a share of the largest logit, are decided by rounding.
_CLOSE = 1e-6


@dataclass(frozen=True)
class Subject:
    """A network of plain operators on the CPU, in eval mode.

    `form` says what it is of the model, `inputs` are a batch to try it with, and `sure` tells of
    which samples no decision is so close that rounding can turn it.
    """

    network: nn.Module
    form: str
    inputs: tuple[Tensor, ...]
    sure: Bool[Tensor, "B"]


def subject_of(
    model: nn.Module, example: Tensor | Sequence[Tensor] | None, *, round_to: int
) -> Subject:
    """The network that answers what a model does, without anything of this library.

    Masks that do not depend on the image are cut; others are operators. All settings of an
    escalating model run for each image, and of their answers one is taken.

    Raises:
        FtwtError: the model is in training mode, or a plain network came without an example.
    """
    if any(one.training for one in model.modules()):
        raise FtwtError("export: the model is in training mode; call model.eval() first")
    if any(one.is_meta for one in (*model.parameters(), *model.buffers())):
        raise FtwtError("export: the model is on the meta device, without weights; load some first")
    model = copy.deepcopy(model).cpu().requires_grad_(False)
    inputs = _inputs(model, example)
    with torch.no_grad():
        _try(model, inputs)
        if isinstance(model, Escalating):
            settings = [_plain(one, round_to) for one in model.gated]
            return Subject(
                _Escalation([network for network, _ in settings], model.policy),
                f"{len(settings)} settings, all run, and one's answer taken",
                inputs,
                _sure_of_all(model, inputs),
            )
        if isinstance(model, Gated):
            network, form = _plain(model, round_to)
            return Subject(network, form, inputs, _sure(model, inputs))
    every = torch.ones(len(inputs[0]), dtype=torch.bool)
    return Subject(model, "a plain network", inputs, every)


def _inputs(model: nn.Module, example: Tensor | Sequence[Tensor] | None) -> tuple[Tensor, ...]:
    """Random images of the example's size, the same each time."""
    gated = model.gated[0] if isinstance(model, Escalating) else model
    if example is not None:
        like = (example,) if isinstance(example, Tensor) else tuple(example)
        if not like or not all(isinstance(one, Tensor) and one.dim() for one in like):
            raise FtwtError(
                "export: example holds no tensors (B, ...); give images as the network takes them, "
                "such as example=torch.zeros(1, 3, 32, 32), or a tuple of all its inputs"
            )
        shapes = [(tuple(one.shape[1:]), one.dtype) for one in like]
    elif isinstance(gated, Gated):
        shapes = list(zip(gated.anatomy.expected, gated.anatomy.dtypes, strict=True))
    else:
        raise FtwtError(
            f"export: {type(model).__name__} is a plain network, whose inputs are not known; give "
            "example=images"
        )
    draw = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(_TRIED, *shape, generator=draw, dtype=dtype)
        if dtype.is_floating_point
        else torch.randint(0, 2, (_TRIED, *shape), generator=draw).to(dtype)
        for shape, dtype in shapes
    )


def _try(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """FtwtError unless the network answers these with tensors."""
    shapes = ", ".join(f"{tuple(one.shape)} {one.dtype}" for one in inputs)
    try:
        answered = tensors_of(model(*inputs))
    except FtwtError:
        raise
    except Exception as error:
        # Whatever a network meets in inputs that it was not made for: many types of error.
        raise FtwtError(
            f"export: {type(model).__name__} does not take inputs like the example, {shapes}: "
            f"{first_line(error)}; give example=images that it takes"
        ) from error
    if not answered:
        raise FtwtError(
            f"export: {type(model).__name__} answers without any tensor; give a network that "
            "computes one"
        )


def _plain(model: Gated, round_to: int) -> tuple[nn.Module, str]:
    masks = fixed_masks(model)
    if masks is None:
        return model, "masks as operators"
    return cut(model, masks, round_to=round_to), "cut to its masks"


class _Escalation(nn.Module):
    """Every setting for every sample, and of the answers the first that is sure enough."""

    def __init__(self, settings: Sequence[nn.Module], policy: Policy) -> None:
        super().__init__()
        self.settings = nn.ModuleList(settings)
        self.policy = policy
        self.training = False

    def forward(self, *inputs: Tensor) -> Any:
        """The answers of the settings that each sample would have stopped at."""
        first, *rest = self.settings
        output = first(*inputs)
        going: Tensor | None = None
        for step, setting in enumerate(rest):
            # NaN is never sure.
            unsure = ~(self.policy.signals[step](output) >= self.policy.thresholds[step])
            going = unsure if going is None else going & unsure
            goes = going
            weight = self.policy.weight

            def taken(
                old: Tensor, new: Tensor, goes: Tensor = goes, weight: float = weight
            ) -> Tensor:
                mixed = new if weight == 1 else weight * new + (1 - weight) * old
                return torch.where(goes.view(-1, *[1] * (old.dim() - 1)), mixed, old)

            answer = setting(*self.policy.shown(step + 1, inputs))
            self.policy.check_answer(answer)
            output = tree_map(taken, output, answer)
        return output


def _sure(model: Gated, inputs: tuple[Tensor, ...]) -> Bool[Tensor, "B"]:
    """Samples whose gates decide by more than rounding."""
    sure = torch.ones(len(inputs[0]), dtype=torch.bool)
    for name, site in model.trace(*inputs, targets=False).sites.items():
        if site.logits is not None and len(site.logits) == len(sure):
            far = (site.logits - model.thresholds[name]).abs()
            sure &= (far > _CLOSE * site.logits.abs().amax()).all(1)
    return sure


def _sure_of_all(model: Escalating, inputs: tuple[Tensor, ...]) -> Bool[Tensor, "B"]:
    """Samples that no gate and no signal decides by rounding alone."""
    sure = torch.ones(len(inputs[0]), dtype=torch.bool)
    for setting in model.gated:
        sure &= _sure(setting, inputs)
    trace = model.trace(*inputs)
    for one, threshold in zip(trace.passes, model.thresholds, strict=False):
        if one.sureness is not None:
            sure[one.images] &= (one.sureness - threshold).abs() > _CLOSE
    return sure
