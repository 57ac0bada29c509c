"""How to train, as a value."""

from dataclasses import dataclass

from ftwt.errors import FtwtError, check_choice, check_whole, check_within
from ftwt.io.registry import register
from ftwt.training.optimizers import Optimizer, check_optimizer
from ftwt.training.phases import Phase
from ftwt.training.precision import Amp


@register
@dataclass(frozen=True)
class Settings:
    """How to train: phases, optimizers, and switches of the loop.

    Attributes:
        phases: stretches of epochs, one after the other.
        backbone: the backbone's optimizer.
        gates: the gates' optimizer; a plain network has none.
        amp: "bf16": forward passes in bfloat16; "fp16": in float16 with a scaled loss (needs a
            GPU); masks, losses and MACs stay in float32 and integers. None: float32 throughout.
            "auto": bfloat16 where the device is fast at it, else float32.
        channels_last: memory format of weights and images.
        compile: run steps through `torch.compile`.
        accumulate: batches whose gradients make one step.
        clip_norm: largest norm of all gradients together.
        ema: decay in a step of an exponential moving average of the weights; the average is then
            what is validated and kept. Batch norms' statistics are the network's own.
        norm_momentum: least momentum of batch norms while training; where a network's own is
            smaller, its statistics lag behind epochs of few steps, and validation with them.
        seed: of order and augmentation.

    Raises:
        FtwtError: a value is out of its range.
    """

    phases: tuple[Phase, ...]
    backbone: Optimizer
    gates: Optimizer | None = None
    amp: Amp | None = None
    channels_last: bool = False
    compile: bool = False
    accumulate: int = 1
    clip_norm: float | None = None
    ema: float | None = None
    norm_momentum: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.phases:
            raise FtwtError("Settings: no phases; give at least one training.Phase(name, epochs)")
        check_optimizer("Settings: backbone", self.backbone)
        if self.gates is not None:
            check_optimizer("Settings: gates", self.gates)
        if self.compile and any(phase.operating_points for phase in self.phases):
            raise FtwtError(
                "Settings: compile=True would compile again for each reduction of a phase with "
                "operating points; leave out compile"
            )
        check_choice("Settings", "amp", self.amp, ("auto", "bf16", "fp16", None))
        check_whole("Settings", "accumulate", self.accumulate)
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise FtwtError(f"Settings: clip_norm={self.clip_norm!r}; give a norm above 0, or None")
        if self.ema is not None:
            mend = "give a decay such as 0.999, or None"
            check_within("Settings", "ema", self.ema, "(0, 1)", mend)
        if self.norm_momentum is not None:
            mend = "give a momentum such as 0.1, or None"
            check_within("Settings", "norm_momentum", self.norm_momentum, "(0, 1]", mend)
