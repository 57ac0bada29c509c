"""ONNX: one file, for batches of any size, that engines run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ftwt.errors import FtwtError, first_line
from ftwt.export.compare import compared
from ftwt.export.engines import ENGINES
from ftwt.export.exported import Exported
from ftwt.export.exporting import EXTRA, onnx_of
from ftwt.export.subject import Subject
from ftwt.io.files import write_atomically

# What `export` needs; the others are asked where they are installed.
_NEEDED = "onnxruntime"
_TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def write_onnx(subject: Subject, path: Path) -> Exported:
    """Write a network as one ONNX file, after engines have answered as torch does.

    Raises:
        FtwtError: onnx or ONNX Runtime is not installed, ONNX has no operator for something in the
            network, or an engine answers otherwise.
    """
    try:
        exported = onnx_of(subject.network, subject.inputs, any_batch=True)
        engines = _engines(exported)
    except ImportError as error:
        raise FtwtError(
            f"export: ONNX needs {error.name or error}, which is not installed: {EXTRA}"
        ) from error
    checks = [
        compared(_TITLES[name], run, subject, "format='torch' writes the same network for torch")
        for name, run in engines.items()
    ]
    write_atomically(path, exported)
    return Exported(
        path, "onnx", {path.name: len(exported)}, f"{subject.form}; {'; '.join(checks)}"
    )


def _engines(exported: bytes) -> dict[str, Callable[..., Any]]:
    """The engines that are installed, with the network loaded."""
    found: dict[str, Callable[..., Any]] = {}
    for name, prepare in ENGINES.items():
        try:
            found[name] = prepare(exported, torch.get_num_threads())
        except ImportError:
            if name == _NEEDED:
                raise
        except Exception as error:
            # Operators that the engine does not know: many types of error.
            raise FtwtError(
                f"export: {_TITLES[name]} does not take this network: {first_line(error)}"
            ) from error
    return found
