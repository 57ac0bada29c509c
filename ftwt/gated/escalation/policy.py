"""When an answer is taken and when it is asked for again, as a value."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ftwt.errors import FtwtError, check_within
from ftwt.gated.escalation.signals import Confidence, Entropy, Margin, Signal, Temperature


@dataclass(frozen=True)
class Policy:
    """After each setting but the last: the signal that is asked, and what it has to reach.

    An image goes on where the signal is below the threshold. `weight` is the share of the later
    answer in what images that went on are answered with; the rest is the answer from before. With
    `mirror` every second setting sees images from the other side, left for right, so that what is
    put together errs less alike; it is for images of things that look as well from there, and for
    answers about whole images.
    """

    signals: tuple[Signal, ...]
    thresholds: tuple[float, ...]
    weight: float = 1.0
    mirror: bool = False

    def __post_init__(self) -> None:
        for signal in self.signals:
            # A class is callable, too.
            if isinstance(signal, type) or not callable(signal):
                raise FtwtError(
                    f"escalate: by={signal!r} is no signal; give an instance such as "
                    "ftwt.escalation.Margin(), or a function of the output"
                )
        mend = "give the later answer's share, 1 for that answer alone"
        check_within("escalate", "weight", self.weight, "(0, 1]", mend)
        if isinstance(self.thresholds, dict):
            raise FtwtError(
                f"escalate: thresholds are named {', '.join(list(self.thresholds)[:3])}: those of "
                f"another model's gates; give {len(self.signals)}, one for each setting but the "
                "last"
            )
        object.__setattr__(self, "thresholds", tuple(float(one) for one in self.thresholds))
        if len(self.thresholds) != len(self.signals):
            raise FtwtError(
                f"escalate: {len(self.thresholds)} thresholds for {len(self.signals) + 1} "
                f"settings, so they are another model's; give {len(self.signals)}, one for each "
                "setting but the last"
            )
        for signal, threshold in zip(self.signals, self.thresholds, strict=True):
            if math.isnan(threshold) or (_is_share(signal) and not 0 <= threshold <= 1):
                raise FtwtError(
                    f"escalate: the threshold {threshold!r} is none for {signal!r}, which lies in "
                    "[0, 1]; let ftwt.calibrate find it"
                )

    def shown(self, step: int, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What a setting sees of the inputs: images (B, C, H, W), or these left for right.

        Raises:
            FtwtError: none of the inputs is of images, which could be mirrored.
        """
        if not self.mirror or step % 2 == 0:
            return inputs
        if not any(one.dim() == 4 for one in inputs):
            raise FtwtError(
                f"escalate: mirror=True with inputs {', '.join(map(_shape, inputs))}; it is for "
                "images (B, C, H, W)"
            )
        return tuple(one.flip(3) if one.dim() == 4 else one for one in inputs)

    def check_answer(self, answer: Any) -> None:
        """Refuse answers about places of an image where some see it mirrored.

        Raises:
            FtwtError: a tensor of the answer has more than two dimensions.
        """
        wrong = [one for one in tree_leaves(answer) if isinstance(one, Tensor) and one.dim() > 2]
        if self.mirror and wrong:
            raise FtwtError(
                f"escalate: mirror=True, and the network answers with {_shape(wrong[0])}; it is "
                "for answers about whole images, (B,) or (B, K): leave mirror out"
            )

    def unsure(
        self, step: int, output: Any, images: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "B"] | None]:
        """Places of the samples that the next setting has to answer, and how sure each answer is.

        Raises:
            FtwtError: the signal does not give one number for each sample, or NaN.
        """
        sureness = self.sureness(step, output, images)
        return self.goes_on(step, sureness), sureness

    def sureness(self, step: int, output: Any, images: int) -> Float[Tensor, "B"]:
        """How sure the answers of a setting are.

        Raises:
            FtwtError: the signal does not give one number for each sample.
        """
        signal = self.signals[step]
        found = signal(output)
        if not isinstance(found, Tensor) or tuple(found.shape) != (images,):
            came = (
                f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else repr(found)[:60]
            )
            raise FtwtError(
                f"escalate: {signal!r} gives {came} for {images} samples; give a signal that "
                "returns one number for each, larger is surer"
            )
        return found

    def goes_on(self, step: int, sureness: Float[Tensor, "B"]) -> Int[Tensor, "n"]:
        """Places of the samples that the next setting has to answer.

        Raises:
            FtwtError: the signal is NaN somewhere.
        """
        sure = sureness >= self.thresholds[step]
        # One look for the commonest case; NaN is never sure, so it does not pass here.
        if bool(sure.all()):
            return sureness.new_empty(0, dtype=torch.long)
        check_numbers(step, sureness)
        return (~sure).nonzero().view(-1)


def check_numbers(step: int, sureness: Float[Tensor, "B"]) -> None:
    """Raise FtwtError if a signal is NaN, which is neither sure nor unsure."""
    if bool(sureness.isnan().any()):
        raise FtwtError(
            f"escalate: the answer of setting {step} is not sure nor unsure but NaN for "
            f"{int(sureness.isnan().sum())} of {len(sureness)} samples; look for weights or "
            "inputs that are not finite"
        )


def _shape(one: Tensor) -> str:
    return str(tuple(one.shape))


def _is_share(signal: Signal) -> bool:
    inner = signal.signal if isinstance(signal, Temperature) else signal
    return isinstance(inner, (Margin, Confidence, Entropy))
