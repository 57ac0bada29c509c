"""`skip`: from a network that chooses to one that runs only what was chosen."""

from collections.abc import Mapping
from typing import Any, overload

from torch import Tensor

from ftwt.errors import FtwtError
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.model import Gated
from ftwt.runtime.checks import check_model
from ftwt.runtime.escalating import SkippingEscalation
from ftwt.runtime.placement import Placement
from ftwt.runtime.skipping import Skipping


@overload
def skip(
    model: Gated,
    *,
    calibrate: Tensor | tuple[Tensor, ...] | None = ...,
    plan: Placement | Mapping[str, Any] | None = ...,
    backend: str | None = ...,
) -> Skipping: ...


@overload
def skip(
    model: Escalating,
    *,
    calibrate: Tensor | tuple[Tensor, ...] | None = ...,
    backend: str | None = ...,
) -> SkippingEscalation: ...


def skip(
    model: Gated | Escalating,
    *,
    calibrate: Tensor | tuple[Tensor, ...] | None = None,
    plan: Placement | Mapping[str, Any] | None = None,
    backend: str | None = None,
) -> Skipping | SkippingEscalation:
    """Return `model`, in eval mode, as a function that executes only what its masks ask for.

    By default every step that the native back end knows runs there, and the rest in torch. Of an
    escalating network each setting runs so. Where masks are the same for every input, what they
    leave out is left out beforehand, unless the back end computes everything anyway.

    Args:
        model: gated by `attach`, or escalating, in eval mode. Its weights are copied at this
            moment, as batch norms are folded into them: call `skip` again after training.
            Thresholds of gates are read at every call.
        calibrate: a batch (a tuple of tensors for several inputs) on which all back ends are
            measured; each step then runs where the whole is fastest, if that is clearly faster
            than what runs without measurement.
        plan: of a gated network: what was measured before, `Skipping.plan` or its JSON.
        backend: "native", "native-direct", "torch", "dense", "channels-last" or one of your
            own (see `runtime.register`), for every step that it takes.

    Raises:
        FtwtError: no gated model, training mode, a gate that cannot run beforehand, or a plan of
            another model.
    """
    if isinstance(model, Escalating):
        if plan is not None:
            raise FtwtError(
                "skip: a plan is of one gated network; let each setting of the escalating one "
                "`use` its own: skip(model).settings"
            )
        for one in model.gated:
            check_model(one)
        made = [Skipping(one, backend or "native") for one in model.gated]
        for skipping in made if calibrate is not None else ():
            skipping.calibrate(*(calibrate if isinstance(calibrate, tuple) else (calibrate,)))
        return SkippingEscalation(model, made)
    check_model(model)
    if sum(one is not None for one in (calibrate, plan, backend)) > 1:
        raise FtwtError("skip: give one of calibrate=, plan= and backend= only")
    skipping = Skipping(model, backend or "native")
    if plan is not None:
        skipping.use(plan if isinstance(plan, Placement) else Placement.from_json(plan))
    if calibrate is not None:
        skipping.calibrate(*(calibrate if isinstance(calibrate, tuple) else (calibrate,)))
    return skipping
