"""The escalating network: a drop-in module that spends more on images that it is unsure of."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from ftwt.errors import FtwtError
from ftwt.gated.escalation.cascade import by_inputs, cascade
from ftwt.gated.escalation.policy import Policy
from ftwt.gated.escalation.settings import check_settings
from ftwt.gated.escalation.trace import EscalationTrace, SettingPass
from ftwt.gated.model import Gated
from ftwt.gated.operating_points import OperatingPoint, thresholds_at
from ftwt.gated.trace import Trace


class Escalating(nn.Module):
    """Settings of rising cost behind one door. Made by `escalate`; called like the plain network.

    Each image is answered by the first setting; where that is unsure, again by the next.
    """

    def __init__(
        self,
        settings: Sequence[Gated],
        policy: Policy,
        points: tuple[OperatingPoint, ...] = (),
        *,
        whole: int | None = None,
    ) -> None:
        super().__init__()
        if len(settings) != len(policy.signals) + 1 or len(settings) < 2:
            raise FtwtError(
                f"escalate: {len(settings)} settings, and signals for {len(policy.signals) + 1}; "
                "give two settings or more, and a signal for each but the last"
            )
        check_settings(settings)
        self.settings = nn.ModuleList(settings)
        self.policy = policy
        self._operating_points = points
        self._whole = whole
        self.training = any(one.training for one in settings)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return each image's answer, from the first setting that is sure enough."""
        inputs = self.gated[0].bind(args, kwargs)
        runs = [by_inputs(one, one.anatomy.traced.arguments) for one in self.gated]
        return cascade(runs, _same, self.policy, inputs).output

    def trace(self, *args: Any, targets: bool = False, **kwargs: Any) -> EscalationTrace:
        """Run and return the output with who answered, the masks and the cost of all passes."""
        inputs = self.gated[0].bind(args, kwargs)
        runs = [
            by_inputs(partial(one.trace, targets=targets), one.anatomy.traced.arguments)
            for one in self.gated
        ]
        answers = cascade(runs, _output, self.policy, inputs)
        passes = tuple(SettingPass(one.images, one.ran, one.sureness) for one in answers.asked)
        plans = (one.anatomy_for(inputs).plan for one in self.gated)
        largest = max(one.dense_macs for one in plans)
        return EscalationTrace(answers.output, passes, round(largest * self._widening))

    @property
    def gated(self) -> tuple[Gated, ...]:
        """The settings, the cheapest first."""
        return tuple(one for one in self.settings if isinstance(one, Gated))

    @property
    def dense_macs(self) -> int:
        """MACs of the plain network for one sample.

        Every reduction of this model is a share of it: what `escalate` was given, or those of the
        largest setting.
        """
        return self._largest if self._whole is None else self._whole

    @property
    def whole(self) -> int | None:
        """MACs of the plain network where no setting is as large; None where one is."""
        return self._whole

    @property
    def _largest(self) -> int:
        return max(one.dense_macs for one in self.gated)

    @property
    def _widening(self) -> float:
        """How much larger than the largest setting the plain network is, at any size of input."""
        return self.dense_macs / self._largest

    @property
    def thresholds(self) -> tuple[float, ...]:
        """After each setting but the last: an image goes on where it is less sure than this."""
        return self.policy.thresholds

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """What `ftwt.calibrate` found, by rising reduction; thresholds by the setting's place."""
        return self._operating_points

    def with_thresholds(
        self, thresholds: Sequence[float], points: tuple[OperatingPoint, ...] | None = None
    ) -> "Escalating":
        """The same settings at other thresholds, one for each setting but the last.

        Raises:
            FtwtError: another number of them, or one that the signal cannot reach.
        """
        return self.with_policy(
            replace(self.policy, thresholds=thresholds),  # type: ignore[arg-type]
            self._operating_points if points is None else points,
        )

    def with_policy(self, policy: Policy, points: tuple[OperatingPoint, ...] = ()) -> "Escalating":
        """The same settings under another policy; what was calibrated for this one is gone."""
        twin = copy.copy(self)
        twin._modules = dict(self._modules)
        twin.policy, twin._operating_points = policy, points
        return twin

    def at(self, *, reduction: float) -> "Escalating":
        """The same settings at another share of MACs saved, on average over images.

        Raises:
            FtwtError: the model was not calibrated, or not for reductions this low or high.
        """
        found = thresholds_at(self._operating_points, reduction)
        return self.with_thresholds([found[str(place)] for place in range(len(self.thresholds))])


def _same(output: Any) -> Any:
    return output


def _output(trace: Trace) -> Any:
    return trace.output
