"""How sure answers are, told by the compiled library in a fraction of the time."""

import ctypes

import torch
from jaxtyping import Int
from torch import Tensor

from ftwt.gated.escalation.signals import Confidence, Entropy, Margin, Signal, Temperature
from ftwt.runtime.native import structs
from ftwt.runtime.native.binding import load_library

_KINDS = {Margin: "margin", Confidence: "confidence", Entropy: "entropy"}
# Making a tensor takes longer than the rest.
_NONE = torch.empty(0, dtype=torch.int64)


def signal_struct(signal: Signal) -> structs.CSignal | None:
    """A signal as the library knows it; None for one that it does not have."""
    temperature = 1.0
    while isinstance(signal, Temperature):
        temperature, signal = temperature * signal.value, signal.signal
    kind = _KINDS.get(type(signal))
    if kind is None:
        return None
    return structs.CSignal(kind=structs.SIGNALS[kind], temperature=temperature)


def unsure(signal: structs.CSignal, threshold: float, answers: Tensor) -> Int[Tensor, "n"] | None:
    """The places of the answers (B, C, *space) that are less sure than that, in ascending order.

    None if there is no library, if they are not what it takes, and if one of them is NaN.
    """
    library = load_library()
    if library is None or type(answers) is not Tensor or answers.dim() < 2:
        return None
    samples, channels, *space = answers.shape
    fits = answers.dtype is torch.float32 and answers.device.type == "cpu" and channels > 1
    if not fits or not answers.is_contiguous():
        return None
    places = (ctypes.c_int64 * samples)()
    positions = answers.numel() // (samples * channels) if space and samples else 1
    count = library.calls.ftwt_unsure(
        signal,
        threshold,
        answers.data_ptr(),
        samples,
        channels,
        positions,
        places,
    )
    if count == 0:
        return _NONE
    return None if count < 0 else torch.frombuffer(places, dtype=torch.int64, count=count)
