"""Learning from what a dense network answers."""

import copy
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ftwt.errors import FtwtError, check_within
from ftwt.losses.classification import need_logits
from ftwt.losses.interface import Loss, Named, Objective, TracedPass, add, add_to, scaled


@runtime_checkable
class LearnsFromTeacher(Protocol):
    """A loss with a teacher: trainings give it the dense network that they start from."""

    @property
    def teacher(self) -> nn.Module | None:
        """The network that it learns from, if it has one yet."""
        ...

    def taught_by(self, network: nn.Module) -> Loss:
        """The same loss with this teacher."""
        ...


@dataclass(frozen=True)
class Distillation:
    """Divergence of the network's softened answer from that of a dense teacher.

    weight * T^2 * mean over the batch of KL(softmax(teacher / T) || softmax(output / T)), with
    T the temperature (Hinton et al., "Distilling the knowledge in a neural network",
    arXiv 1503.02531, section 2; T^2 keeps the gradient's size when T changes). The teacher sees
    the same augmented images.

    The teacher is copied as it is now, and the copy stays in eval mode, without gradient and out of
    every state dict. With None the trainings of this library (`Pipeline`, recipes, the command
    line) teach with the plain network that they start from; in a loop of your own give one, or
    call `with_teacher`.
    """

    teacher: nn.Module | None = field(default=None, repr=False)
    temperature: float = 4.0
    weight: float = 0.5

    __add__, __radd__ = add, add_to
    __mul__ = __rmul__ = scaled

    def __post_init__(self) -> None:
        for name, usual in (("temperature", 4.0), ("weight", 0.5)):
            mend = f"give a positive number, for example {usual}"
            check_within("Distillation", name, getattr(self, name), "(0, inf)", mend)
        if self.teacher is not None:
            if not isinstance(self.teacher, nn.Module):
                raise FtwtError(
                    f"Distillation: teacher is a {type(self.teacher).__name__}; "
                    "give the trained dense network, a torch.nn.Module"
                )
            frozen = copy.deepcopy(self.teacher).eval().requires_grad_(False)
            object.__setattr__(self, "teacher", frozen)

    def __call__(self, trace: TracedPass, labels: Any = None) -> Float[Tensor, ""]:
        """Return the loss in nats; labels are not used."""
        answer = need_logits("Distillation", trace.output)
        soft = self._ask(trace)
        if soft.shape != answer.shape:
            raise FtwtError(
                f"Distillation: the teacher answers {tuple(soft.shape)}, the network "
                f"{tuple(answer.shape)}; give a teacher with the same classes"
            )
        divergence = F.kl_div(
            (answer / self.temperature).log_softmax(1),
            (soft / self.temperature).log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )
        return self.weight * self.temperature**2 * divergence

    def taught_by(self, network: nn.Module) -> "Distillation":
        """The same loss with a copy of `network` as the teacher."""
        return replace(self, teacher=network)

    def _ask(self, trace: TracedPass) -> Float[Tensor, "B classes"]:
        if self.teacher is None:
            raise FtwtError(
                "Distillation: there is no teacher; give the trained dense network, "
                "Distillation(network)"
            )
        inputs, output = trace.inputs, trace.output
        self.teacher.to(inputs[0].device)
        # As precise as the network itself was run.
        half = output.dtype in (torch.bfloat16, torch.float16)
        kind = torch.autocast(inputs[0].device.type, output.dtype if half else None, enabled=half)
        with torch.no_grad(), kind:
            return need_logits("Distillation", self.teacher(*inputs))


def with_teacher(objective: Objective, network: nn.Module | None) -> Objective:
    """The objective with `network` as the teacher of each loss that wants one and has none.

    Raises:
        FtwtError: there is one, and no network.
    """
    return Objective(tuple((weight, _taught(loss, network)) for weight, loss in objective.terms))


def _taught(loss: Loss, network: nn.Module | None) -> Loss:
    if isinstance(loss, Named):
        return replace(loss, loss=_taught(loss.loss, network))
    if not isinstance(loss, LearnsFromTeacher) or loss.teacher is not None:
        return loss
    if network is None:
        raise FtwtError(
            "train: distillation learns from the dense network that training starts from, and "
            "there is none; give it as init (--init RUN), a run of the plain network"
        )
    return loss.taught_by(network)
