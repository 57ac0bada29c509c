"""ONNX Runtime and OpenVINO: the engines that one would deploy a network with on a CPU."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ftwt.export.exporting import tensor_names

# From a network's inputs to its answer: a tensor, or a list of several.
RunEngine: TypeAlias = Callable[..., Any]

# How much an engine's answers may differ from torch's, of the largest; all compute in float32.
NEAR = 1e-3
# The only level of ONNX Runtime's log that is let through.
_FATAL = 4


def _onnxruntime(exported: bytes, threads: int) -> RunEngine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # What it logs is raised, too.
    options.log_severity_level = _FATAL
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])

    read = {one.name for one in session.get_inputs()}

    def run(*inputs: Tensor) -> Any:
        answers = session.run(None, _given(inputs, read))
        return _answer([torch.from_numpy(one) for one in answers])

    return run


@cache
def _openvino_core() -> Any:
    """The one core of this process.

    Each core has the signals of its thread handled on a stack of its own and puts the stack before
    it back when it ends. Ending in another order than they began, two leave a stack that is no
    longer mapped, and the next signal, such as that a child has ended, kills the process.
    """
    import openvino

    return openvino.Core()


def _openvino(exported: bytes, threads: int) -> RunEngine:
    # Processors with bfloat16 would compute in that unless told otherwise.
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = _openvino_core()
    model = core.compile_model(core.read_model(exported), "CPU", settings)
    request = model.create_infer_request()
    read = {one.get_any_name() for one in model.inputs}

    def run(*inputs: Tensor) -> Any:
        answers = request.infer(_given(inputs, read))
        # The engine writes every answer into the same memory.
        return _answer([torch.from_numpy(np.array(answers[i])) for i in range(len(answers))])

    return run


def _given(inputs: Sequence[Tensor], read: Collection[str]) -> dict[str, Any]:
    """The inputs by name; exporters leave out one that the answer does not depend on."""
    named = zip(tensor_names("x", len(inputs)), inputs, strict=True)
    return {name: one.numpy() for name, one in named if name in read}


def _answer(tensors: list[Tensor]) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors


ENGINES: Mapping[str, Callable[[bytes, int], RunEngine]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
