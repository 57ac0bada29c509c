"""Blocks as people write them. Each is made from a width and keeps it: (B, C, H, W) -> the same.

A failing network is written out with the source of its blocks, so each stands by itself.
"""

from tests.fuzz.branches import (
    Basic,
    C2f,
    Dense,
    Hourglass,
    Plain,
    PreActivation,
    Pyramid,
    Res2,
    Sppf,
    UNet,
)
from tests.fuzz.scaled import (
    Attention,
    Blur,
    Cbam,
    ConvNeXt,
    Ghost,
    Inverted,
    LowRank,
    SelfAttention,
    Shuffle,
    Squeeze,
    SqueezeLinear,
)
from tests.fuzz.written import (
    Across,
    Checked,
    Dropped,
    Frozen,
    Grouped,
    InPlace,
    Maxout,
    NormAct,
    Response,
    Rows,
    Scaled,
    Shared,
    Shuffled,
    Weighted,
    Windows,
)

BLOCKS = (
    Plain, Basic, PreActivation, Dense, C2f, Sppf, Res2, UNet, Hourglass, Pyramid, Squeeze,
    SqueezeLinear, Cbam, ConvNeXt, Inverted, Shuffle, Ghost, Blur, LowRank, Attention,
    SelfAttention, NormAct, Weighted, Shared, Grouped, Rows, Shuffled, Windows, Response, Across,
    Maxout, Checked, Frozen, Dropped, Scaled, InPlace,
)  # fmt: skip
