"""Gates that start open: before training every filter runs."""

from torch import nn

from ftwt.errors import check_within


def check_open(gate: str, logit: float | None) -> None:
    """Raise FtwtError unless a gate's first logit is positive and finite, or None."""
    if logit is not None:
        mend = "give the logit that every filter starts with, such as 2.0, or None for a random one"
        check_within(gate, "open", logit, "(0, inf)", mend)


def start_open(last: nn.Linear, logit: float | None) -> None:
    """Let a gate's last layer answer `logit` to every input, unless it is None."""
    if logit is not None:
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, logit)
