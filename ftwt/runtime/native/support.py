"""Which steps the native back end can run."""

from torch import Tensor, float32

from ftwt.gates.forms import AffineForm, TableForm, form_of
from ftwt.gates.interface import follows_input
from ftwt.runtime import program
from ftwt.runtime.native import structs
from ftwt.runtime.native.binding import available, constant
from ftwt.runtime.program import Step, Value


def supports(step: Step) -> bool:
    """Whether a segment can hold this step: float32 on the CPU, no space or two dimensions of it.

    A gate can be inside if its module tells its form (`gates.AffineForm`) or follows its input.
    False for every step where the library is not there.
    """
    if not available():
        return False
    match step:
        case program.GateStep():
            return _usable(step.source) and _gate(step)
        case program.Conv():
            space = step.weight.dim() == 4 and len(step.source.shape) == len(step.output.shape) == 3
            few = step.weight.shape[2:].numel() <= constant("MOST_TAPS")
            fits = space and few and _pool(step.pool, step.output)
            return fits and _plain(step.weight, step.bias)
        case program.Linear():
            flat = len(step.output.shape) == 1 and _usable(step.source)
            return flat and _plain(step.weight, step.bias)
        case program.Affine():
            return _usable(step.source) and _plain(step.scale, step.shift)
        case program.Add():
            return all(_usable(one) and one.shape == step.output.shape for one in step.sources)
        case program.Multiply():
            return _usable(*step.sources) and _product(step) is not None
        case program.Concat():
            return _usable(*step.sources)
        case program.Pick():
            plain = step.stride == (1, 1) or len(step.source.shape) == 3
            return plain and _usable(step.source)
        case program.Pooling():
            window = len(step.source.shape) == 3 and len(step.output.shape) == 3
            fits = step.pool is None or (window and _pool(step.pool, step.output))
            return fits and _usable(step.source)
        case program.Activate() | program.MaskStep():
            return _usable(step.source)
        case _:
            return False


def product_sources(step: program.Multiply) -> tuple[Value, Value]:
    """The factors of a product, that of one position last."""
    sources = _product(step)
    assert sources is not None, "supports() said so"
    return sources


def _product(step: program.Multiply) -> tuple[Value, Value] | None:
    one, two = step.sources
    for large, small in ((one, two), (two, one)):
        single = len(small.shape) == len(large.shape) and small.shape[1:].count(1) == len(
            small.shape[1:]
        )
        channels = small.shape[0] == large.shape[0]
        if large.shape == step.output.shape and (
            small.shape == large.shape or (single and channels)
        ):
            return large, small
    return None


def _usable(*values: Value) -> bool:
    return all(len(value.shape) in (1, 3) for value in values)


def _plain(*tensors: Tensor) -> bool:
    return all(tensor.dtype == float32 and tensor.device.type == "cpu" for tensor in tensors)


def _pool(pool: program.Pool | None, output: Value) -> bool:
    """Whether a window's row of inputs, padded, has room."""
    if pool is None:
        return True
    return (output.shape[2] - 1) * pool.stride[1] + pool.kernel[1] <= constant("POOL_ROW")


def _gate(step: program.GateStep) -> bool:
    if follows_input(step.module):
        return step.source.shape[0] == step.out_channels
    match form_of(step.module):
        case AffineForm() as form:
            known = form.pool in structs.POOL_CODES and form.normalize in structs.NORMALIZER_CODES
            return known and _plain(form.weight, form.bias, *(form.hidden or ()))
        case TableForm(logits):
            return logits.device.type == "cpu"
        case _:
            return False
