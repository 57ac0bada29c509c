"""Gates that start open: before training every filter runs."""

import math

from torch import nn

from ftwt.errors import FtwtError


def check_open(gate: str, logit: float | None) -> None:
    """Raise FtwtError unless a gate's first logit is positive and finite, or None."""
    if logit is not None and not 0 < logit < math.inf:
        raise FtwtError(
            f"{gate}: open={logit!r}; give the positive logit that every filter starts with, "
            "for example 2.0, or None to start at random"
        )


def start_open(last: nn.Linear, logit: float | None) -> None:
    """Let a gate's last layer answer `logit` to every input, unless it is None."""
    if logit is not None:
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, logit)
