"""The network in ONNX's format, as bytes."""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ftwt.errors import FtwtError, first_line

EXTRA = "pip install 'ftwt[engines]'"
NOT_FINITE = (
    "export: the network answers random images with NaN or infinity, so that nothing can be "
    "compared; look for weights that are not finite"
)
# The newest that the exporter of every supported torch writes.
_OPSET = 17


class Flat(nn.Module):
    """A network that answers with its tensors in a row, however it holds them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = network.training

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """All tensors of the answer."""
        return tensors_of(self.network(*inputs))


def finite(answer: Sequence[Tensor]) -> bool:
    """Whether nothing in an answer is NaN or infinite."""
    return all(bool(one.isfinite().all()) for one in answer)


def tensors_of(answer: Any) -> tuple[Tensor, ...]:
    """The tensors in a network's answer, in order."""
    return tuple(one for one in tree_leaves(answer) if isinstance(one, Tensor))


def onnx_of(network: nn.Module, inputs: Sequence[Tensor], *, any_batch: bool) -> bytes:
    """The network in ONNX's format.

    Inputs are called x, or x0, x1, ..., outputs y, or y0, y1, ...

    Args:
        network: in eval mode, on the CPU.
        inputs: what it is traced with.
        any_batch: for batches of any size, else of the one given.

    Raises:
        ImportError: onnx is not installed.
        FtwtError: ONNX cannot hold the network.
    """
    import onnx  # noqa: F401 - the exporter needs it, and says so less clearly

    flat = Flat(network).eval()
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        torch.no_grad(),
        _without_graphs(),
    ):
        # The exporter warns of itself, and of sizes that it takes for constants, as they are here.
        warnings.simplefilter("ignore")
        ins, outs = tensor_names("x", len(inputs)), tensor_names("y", len(flat(*inputs)))
        path = Path(folder) / "network.onnx"
        try:
            torch.onnx.export(
                flat, tuple(inputs), path, dynamo=False, opset_version=_OPSET,
                input_names=ins, output_names=outs,
                dynamic_axes={name: {0: "batch"} for name in (*ins, *outs)} if any_batch else None,
            )  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as error:
            # What torch adds is for its own developers.
            reason = first_line(error).partition(" Please feel free")[0]
            reason = reason.partition(" [Caused by")[0].strip().rstrip(".")
            raise FtwtError(
                f"export: ONNX cannot hold this network: {reason}; format='torch' may write it"
            ) from error
        return path.read_bytes()


@contextmanager
def _without_graphs() -> Iterator[None]:
    """Keep torch from printing its whole graph where it has no operator for something.

    It prints from C++, past Python's standard output. Its switch is no use: each export of torch
    turns it on.
    """
    calls: Any = torch._C
    log = calls._jit_onnx_log
    calls._jit_onnx_log = lambda *said: None
    try:
        yield
    finally:
        calls._jit_onnx_log = log


def tensor_names(stem: str, count: int) -> list[str]:
    """Names of inputs or outputs: the stem, with a number if there are several."""
    return [stem] if count == 1 else [f"{stem}{place}" for place in range(count)]
