"""What the backbones share: checks of their arguments, and He initialisation."""

import math

from torch import nn

from ftwt.errors import FtwtError


def check_width(called: str, width: float) -> None:
    """Refuse a width multiplier that leaves no channels, or is no number."""
    is_number = isinstance(width, int | float) and not isinstance(width, bool)
    if not is_number or not math.isfinite(width) or width <= 0:
        raise FtwtError(
            f"{called}: width={width!r}, expected a finite number above 0; "
            "pass a channel multiplier, for example width=0.5 for half the channels"
        )


def he_init(network: nn.Module) -> None:
    """Initialise in place: He et al. 2015 (arXiv 1502.01852, eq. 10) for convolutions.

    The fan is that of the inputs: PyTorch's fan of the outputs ignores groups, which would start a
    depthwise convolution sqrt(C) too small. The classifier has no ReLU after it, so its gain is 1.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="linear")
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
