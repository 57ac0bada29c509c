"""The networks that are timed, as the engines run them that one would deploy with."""

import torch
from torch import Tensor, nn

from ftwt.errors import first_line
from ftwt.export.engines import ENGINES, NEAR, RunEngine
from ftwt.export.exporting import EXTRA, onnx_of, tensors_of


def deployed(network: nn.Module, batch: Tensor) -> tuple[dict[str, RunEngine], dict[str, str]]:
    """The network in each engine by name, with torch's number of threads; and why others are not.

    Args:
        network: in eval mode, on the CPU; one tensor in.
        batch: what is given is always of this shape.
    """
    runs: dict[str, RunEngine] = {}
    missing: dict[str, str] = {}
    exported: bytes | None = None
    for name, prepare in ENGINES.items():
        try:
            exported = exported or onnx_of(network, (batch,), any_batch=False)
            run = prepare(exported, torch.get_num_threads())
            with torch.inference_mode():
                wanted, got = tensors_of(network(batch)), tensors_of(run(batch))
            if not all(map(_near, got, wanted)):
                missing[name] = "answers something else than torch"
            else:
                runs[name] = run
        except ImportError as error:
            missing[name] = f"{error.name or error} is not installed: {EXTRA}"
        except Exception as error:
            # Operators that the exporter or the engine does not know: many types of error.
            missing[name] = f"does not take this network: {first_line(error)}"
    return runs, missing


def _near(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= NEAR * other.abs().max())
