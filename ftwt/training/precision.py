"""Which precision forward passes have on a device."""

from functools import cache
from typing import Literal

import torch

Half = Literal["bf16", "fp16"]
Amp = Literal["auto"] | Half


def resolve(amp: Amp | None, device: torch.device) -> Half | None:
    """What "auto" is on a device: bf16 where that is fast, else None, float32."""
    if amp == "auto":
        return "bf16" if _has_fast_bf16(device.type) else None
    return amp


def is_slow(amp: Amp | None, device: torch.device) -> bool:
    """Whether a device takes longer in that precision than in float32."""
    return amp == "bf16" and not _has_fast_bf16(device.type)


@cache
def _has_fast_bf16(kind: str) -> bool:
    """On CPUs without it, torch convolves in bfloat16 by plain loops, ten and more times slower."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return False
