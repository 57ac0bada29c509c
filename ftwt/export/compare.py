"""Whether what was written answers as the network does."""

from collections.abc import Callable
from typing import Any

import torch

from ftwt.errors import FtwtError, first_line
from ftwt.export.engines import NEAR
from ftwt.export.exporting import NOT_FINITE, finite, tensors_of
from ftwt.export.subject import Subject


def compared(who: str, run: Callable[..., Any], subject: Subject, hint: str) -> str:
    """Say in one line how near the answers are, for two sizes of batch.

    Samples that a gate decides by less than rounding are not compared.

    Raises:
        FtwtError: they are not near, or the network cannot be run.
    """
    largest, samples = 0.0, int(subject.sure.sum())
    for size in (len(subject.sure), 1):
        inputs = tuple(one[:size] for one in subject.inputs)
        sure = subject.sure[:size]
        with torch.no_grad():
            wanted = tensors_of(subject.network(*inputs))
            if not finite(wanted):
                raise FtwtError(NOT_FINITE)
            try:
                got = tensors_of(run(*inputs))
            except Exception as error:
                # Engines meet what they do not know only now: many types of error.
                raise FtwtError(
                    f"export: {who} does not run this network on a batch of {size}: "
                    f"{first_line(error)}; {hint}"
                ) from error
        if [one.shape for one in got] != [one.shape for one in wanted]:
            raise FtwtError(
                f"export: {who} answers a batch of {size} with {[tuple(o.shape) for o in got]}, "
                f"the network with {[tuple(one.shape) for one in wanted]}; {hint}"
            )
        for one, other in zip(got, wanted, strict=True):
            far = (one.double() - other.double()).abs()[sure].flatten()
            scale = other.double().abs().max().clamp(min=1e-12)
            largest = max(largest, float(far.max() / scale)) if len(far) else largest
            if len(far) and not float(far.max()) <= NEAR * float(scale):
                raise FtwtError(
                    f"export: {who} answers something else than the network, by "
                    f"{largest:.1e} of the largest output; nothing was written; {hint}"
                )
    if not samples:
        return f"{who} runs it, but gates decide every random image tried by less than rounding"
    return f"{who} answers the same, within {largest:.0e} of the largest output ({samples} samples)"
