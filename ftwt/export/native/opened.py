"""A written file, opened by the library itself: what a C program does, from Python."""

import ctypes
import weakref
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ftwt.errors import FtwtError
from ftwt.runtime.native import structs
from ftwt.runtime.native.binding import load_library, missing


class Opened:
    """A network in its file.

    Raises:
        FtwtError: the file is none, or the library is not there.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        library = load_library()
        if library is None:
            raise FtwtError(f"export: the native library is missing: {missing()}")
        self._calls = library.calls
        for name in ("ftwt_open", "ftwt_shape", "ftwt_at", "ftwt_run"):
            getattr(self._calls, name).restype = ctypes.c_char_p
        handle = ctypes.c_void_p()
        _check(self._calls.ftwt_open(str(path).encode(), threads, ctypes.byref(handle)))
        self._handle = handle
        close = self._calls.ftwt_close
        close.restype = None
        weakref.finalize(self, close, handle)
        self.sizes = structs.CSizes()
        _check(self._calls.ftwt_shape(handle, ctypes.byref(self.sizes)))

    def at(self, reduction: float) -> None:
        """Save this share of MACs from now on."""
        _check(self._calls.ftwt_at(self._handle, ctypes.c_double(reduction)))

    def run(
        self, images: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B *answer"], Int[Tensor, "B"]]:
        """Answers, and the MACs that each image took."""
        images = images.contiguous()
        shape = (*images.shape, *(1,) * (4 - images.dim()))
        answers = torch.empty(len(images), *self.sizes.output)
        macs = torch.empty(len(images), dtype=torch.int64)
        _check(
            self._calls.ftwt_run(
                self._handle,
                ctypes.c_void_p(images.data_ptr()),
                (ctypes.c_int32 * 4)(*shape),
                ctypes.c_void_p(answers.data_ptr()),
                ctypes.c_void_p(macs.data_ptr()),
            )
        )
        return answers, macs


def _check(wrong: bytes | None) -> None:
    if wrong is not None:
        raise FtwtError(wrong.decode())
