"""An escalating network at run time: each setting skips by itself, images go on in turn."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ftwt.gated.escalation.cascade import cascade
from ftwt.gated.escalation.model import Escalating
from ftwt.runtime.audit import Audit
from ftwt.runtime.skipping import Skipping


@dataclass(frozen=True)
class EscalationAudit:
    """MACs of each image of a batch, over all its passes: executed, and as `trace` counts them.

    `passes` has the audit of each setting that ran, for the images that it ran for.
    """

    macs: Int[Tensor, "B"]
    counted_macs: Int[Tensor, "B"]
    answered: Int[Tensor, "B"]
    passes: tuple[Audit, ...]

    @property
    def differing(self) -> tuple[str, ...]:
        """Layers and gates that did not execute what was counted, by setting."""
        return tuple(
            f"setting {place}: {name}"
            for place, one in enumerate(self.passes)
            for name in one.differing
        )


class SkippingEscalation:
    """An escalating network that runs only what is asked for; called like the network itself.

    Each setting runs by itself. A later one gets only the images that go on, as a smaller batch.
    """

    def __init__(self, model: Escalating, settings: Sequence[Skipping]) -> None:
        self.model = model
        self.settings = tuple(settings)

    def __call__(self, *inputs: Tensor) -> Any:
        """Return what the escalating network would, to rounding, without gradients."""
        with torch.no_grad():
            return cascade(self.settings, _same, self.model.policy, inputs).output

    def at(self, *, reduction: float) -> "SkippingEscalation":
        """The same network at another mean share of MACs saved; it shares what is prepared.

        Raises:
            FtwtError: the model was not calibrated, or not for reductions this low or high.
        """
        twin = copy.copy(self)
        twin.model = self.model.at(reduction=reduction)
        return twin

    def calibrate(self, *inputs: Tensor) -> None:
        """Measure all back ends on a batch, for each setting: see `Skipping.calibrate`."""
        for one in self.settings:
            one.calibrate(*inputs)

    def audit(self, *inputs: Tensor) -> EscalationAudit:
        """Run a batch and report the MACs that were really executed, by image."""
        with torch.no_grad():
            asked = cascade(self.settings, _same, self.model.policy, inputs).asked
        executed, counted, answered = (
            torch.zeros(len(inputs[0]), dtype=torch.int64) for _ in range(3)
        )
        audits = []
        for place, (one, skipping) in enumerate(zip(asked, self.settings, strict=False)):
            own = [each[one.images.to(each.device)] for each in inputs]
            audit = skipping.audit(*own)
            images = one.images.cpu()
            executed[images] += audit.macs
            counted[images] += audit.counted_macs
            answered[images] = place
            audits.append(audit)
        return EscalationAudit(executed, counted, answered, tuple(audits))


def _same(output: Any) -> Any:
    return output
