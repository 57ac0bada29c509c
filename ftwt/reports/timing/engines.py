"""ONNX Runtime and OpenVINO: the engines that one would deploy a network with on a CPU."""

import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

Run: TypeAlias = Callable[[Tensor], Any]

# How much an engine's answers may differ from torch's, of the largest; all compute in float32.
_NEAR = 1e-3
EXTRA = "pip install 'ftwt[engines]'"


def deployed(network: nn.Module, batch: Tensor) -> tuple[dict[str, Run], dict[str, str]]:
    """The network in each engine by name, with torch's number of threads; and why others are not.

    Args:
        network: in eval mode, on the CPU; one tensor in, one tensor out.
        batch: what is given is always of this shape.
    """
    runs: dict[str, Run] = {}
    missing: dict[str, str] = {}
    exported: bytes | None = None
    for name, prepare in ENGINES.items():
        try:
            exported = exported or onnx_of(network, batch)
            run = prepare(exported, torch.get_num_threads())
            with torch.inference_mode():
                wanted, got = network(batch), run(batch)
            if (got - wanted).abs().max() > _NEAR * wanted.abs().max():
                missing[name] = "answers something else than torch"
            else:
                runs[name] = run
        except ImportError as error:
            missing[name] = f"{error.name or error} is not installed: {EXTRA}"
        except Exception as error:
            # Operators that the exporter or the engine does not know: many types of error.
            lines = str(error).strip().splitlines() or [type(error).__name__]
            missing[name] = f"does not take this network: {lines[0]}"
    return runs, missing


def onnx_of(network: nn.Module, batch: Tensor) -> bytes:
    """The network in ONNX's format, for batches of this shape."""
    import onnx  # noqa: F401 - the exporter needs it, and says so less clearly

    # The exporter warns of itself, and of shapes that it takes for constants, as they are here.
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network, (batch,), path, dynamo=False, input_names=["x"], opset_version=17
        )
        return path.read_bytes()


def _onnxruntime(exported: bytes, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    return lambda batch: torch.from_numpy(session.run(None, {"x": batch.numpy()})[0])


@cache
def _openvino_core() -> Any:
    """The one core of this process.

    Each core has the signals of its thread handled on a stack of its own and puts the stack before
    it back when it ends. Ending in another order than they began, two leave a stack that is no
    longer mapped, and the next signal, such as that a child has ended, kills the process.
    """
    import openvino

    return openvino.Core()


def _openvino(exported: bytes, threads: int) -> Run:

    # Processors with bfloat16 would compute in that unless told otherwise.
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = _openvino_core()
    request = core.compile_model(core.read_model(exported), "CPU", settings).create_infer_request()
    # The engine writes every answer into the same memory.
    return lambda batch: torch.from_numpy(np.array(request.infer([batch.numpy()])[0]))


ENGINES: Mapping[str, Callable[[bytes, int], Run]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
