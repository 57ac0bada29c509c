"""`torch.export`: one file that torch runs without the code of the network, or of this library."""

import io
import warnings
from pathlib import Path

import torch
from torch.export import Dim

from ftwt.errors import FtwtError, first_line
from ftwt.export.compare import compared
from ftwt.export.exported import Exported
from ftwt.export.subject import Subject
from ftwt.io.files import write_atomically


def write_program(subject: Subject, path: Path) -> Exported:
    """Write a network as torch's program, after it was read and has answered the same.

    Raises:
        FtwtError: torch cannot trace the network, or its program answers otherwise.
    """
    batch = Dim("batch", min=1)
    signature = tuple({0: batch} for _ in subject.inputs)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(
                _Called(subject.network), subject.inputs, dynamic_shapes=(signature,)
            )
            held = io.BytesIO()
            torch.export.save(program, held)
            run = torch.export.load(io.BytesIO(held.getvalue())).module()
        except Exception as error:
            # Whatever tracing meets in a network: many types of error.
            raise FtwtError(
                f"export: torch.export does not take this network: {first_line(error)}"
            ) from error
    check = compared("torch.export", run, subject, "format='onnx' writes the same network")
    write_atomically(path, held.getvalue())
    return Exported(path, "torch", {path.name: len(held.getvalue())}, f"{subject.form}; {check}")


class _Called(torch.nn.Module):
    """A network called by place, whatever its own signature."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = False

    def forward(self, *inputs: torch.Tensor) -> object:
        """What the network answers."""
        return self.network(*inputs)
