"""An escalating network at run time: each setting skips by itself, images go on in turn."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ftwt.gated.escalation.cascade import CascadeAnswers, by_inputs, cascade
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.escalation.policy import Policy
from ftwt.runtime.audit import Audit
from ftwt.runtime.native.sureness import signal_struct, unsure
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
        self._decides = _Decides(model.policy)
        self._runs = tuple(
            by_inputs(one, one.model.anatomy.traced.arguments) for one in self.settings
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the escalating network would, called in the same way, without gradients."""
        return self._cascade(self.settings[0].model.bind(args, kwargs)).output

    def _cascade(self, inputs: tuple[Tensor, ...]) -> CascadeAnswers[Any]:
        policy = self.model.policy
        if self._decides.policy is not policy:
            self._decides = _Decides(policy)
        with torch.no_grad():
            return cascade(self._runs, _same, policy, inputs, self._decides)

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
        asked = self._cascade(inputs).asked
        executed, counted, answered = (
            torch.zeros(len(inputs[0]), dtype=torch.int64) for _ in range(3)
        )
        audits = []
        for place, (one, skipping) in enumerate(zip(asked, self.settings, strict=False)):
            own = tuple(each[one.images.to(each.device)] for each in inputs)
            audit = skipping.audit(*self.model.policy.shown(place, own))
            images = one.images.cpu()
            executed[images] += audit.macs
            counted[images] += audit.counted_macs
            answered[images] = place
            audits.append(audit)
        return EscalationAudit(executed, counted, answered, tuple(audits))


class _Decides:
    """Says who goes on, by the compiled library where that knows the signal and the answer."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._signals = [signal_struct(one) for one in policy.signals]

    def __call__(
        self, step: int, answer: Any, images: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"] | None]:
        """See `Policy.unsure`, which is asked where the library does not know, or finds a NaN."""
        signal = self._signals[step]
        if signal is not None and isinstance(answer, Tensor) and len(answer) == images:
            places = unsure(signal, self.policy.thresholds[step], answer)
            if places is not None:
                return places, None
        return self.policy.unsure(step, answer, images)


def _same(output: Any) -> Any:
    return output
