"""`escalate`: from settings of rising cost to one network that picks among them, image by image."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.attach import attach
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.escalation.policy import Policy
from ftwt.gated.escalation.settings import every_filter
from ftwt.gated.escalation.signals import Margin, Signal
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.gates.untrained import Fixed


def escalate(
    model: nn.Module | Sequence[nn.Module],
    settings: Sequence[float | nn.Module] | None = None,
    *,
    by: Signal | Sequence[Signal] = Margin(),  # noqa: B008
    thresholds: float | Sequence[float] = 0.5,
    weight: float = 1.0,
    mirror: bool = False,
    example: Tensor | tuple[Tensor, ...] | None = None,
    dense_macs: int | None = None,
) -> Escalating:
    """Answer at a low setting, and again at a higher one where the answer is unsure.

    The costs of all passes of an image add up. Thresholds are best found on validation images, for
    a mean reduction or for a largest loss of accuracy: `ftwt.calibrate`.

    Args:
        model: networks of rising cost, two or more: gated ones (static masks, narrowed, trained
            gates, `model.at(reduction=...)`) and plain ones, which run every filter. Or one gated
            network: itself, then the same with every filter on.
        settings: of the one gated network: reductions that it was calibrated for, falling, and
            networks.
        by: how sure an answer is, a function of the output; one, or one for each setting but the
            last.
        thresholds: below which an image goes on; one, or one for each setting but the last.
        weight: share of the later answer in the answer of images that went on.
        mirror: show every second setting the image left for right. Answers that are put together
            from both sides are better ones, where a mirrored image is as good an image.
        example: an input, if no network has gates.
        dense_macs: MACs of the network that reductions are shares of, for one sample, where no
            setting is as large; those of the largest setting, unless given.

    Raises:
        FtwtError: settings that cannot answer for each other, or not in order of rising cost; or
            `dense_macs` below those of a setting.

    Example:
        >>> import ftwt
        >>> small = ftwt.attach(ftwt.backbones.resnet8(), ftwt.Pruning(),
        ...                     example=torch.zeros(1, 3, 32, 32)).eval()
        >>> escalating = escalate([small, ftwt.backbones.resnet20().eval()])
        >>> trace = escalating.trace(torch.randn(4, 3, 32, 32))
        >>> trace.output.shape, trace.macs.shape, trace.answered.shape
        (torch.Size([4, 10]), torch.Size([4]), torch.Size([4]))
    """
    networks = _networks(model, settings)
    if len(networks) < 2:
        raise FtwtError(
            f"escalate: {len(networks)} setting, so nothing to go on to; give two or more, the "
            "cheapest first"
        )
    steps = len(networks) - 1
    signals = tuple(by) if isinstance(by, Sequence) else (by,) * steps
    if len(signals) != steps:
        raise FtwtError(
            f"escalate: {len(signals)} signals for {steps + 1} settings; give one, or one for each "
            "setting but the last"
        )
    given = (thresholds,) * steps if isinstance(thresholds, (int, float)) else thresholds
    policy = Policy(signals, given, weight, mirror)  # type: ignore[arg-type]
    attached = _attached(networks, example)
    largest = max(one.dense_macs for one in attached)
    if dense_macs is not None and dense_macs < largest:
        raise FtwtError(
            f"escalate: dense_macs={dense_macs!r} is below the {largest:,} of the largest setting; "
            "give the MACs of the network that the settings were made from"
        )
    return Escalating(attached, policy, whole=dense_macs)


def _networks(model: Any, settings: Any) -> list[nn.Module]:
    if isinstance(model, nn.Module) and not isinstance(model, nn.ModuleList):
        if not isinstance(model, Gated):
            raise FtwtError(
                f"escalate: {type(model).__name__} has no gates, so it is one setting alone; give "
                "a list of networks, the cheapest first"
            )
        if settings is None:
            return [model, every_filter(model)]
        if not isinstance(settings, Sequence) or isinstance(settings, str):
            raise FtwtError(
                f"escalate: settings={settings!r} is no list; give reductions of the model, "
                "falling, or networks, such as [0.6, 0.3]"
            )
        numbers = [one for one in settings if not isinstance(one, nn.Module)]
        if not numbers and not any(one is model for one in settings):
            raise FtwtError(
                "escalate: none of the settings is of the model; give reductions of it, or all "
                "networks as one list: escalate([small, large])"
            )
        if any(low <= high for low, high in pairwise(numbers)):
            raise FtwtError(
                f"escalate: the reductions {', '.join(f'{one:g}' for one in numbers)} do not fall; "
                "give settings in order of rising cost, the largest reduction first"
            )
        return [one if isinstance(one, nn.Module) else model.at(reduction=one) for one in settings]
    if settings is not None:
        raise FtwtError(
            "escalate: settings= are those of one gated network; with a list of networks leave it "
            "out"
        )
    if not isinstance(model, (Sequence, nn.ModuleList)) or isinstance(model, str):
        raise FtwtError(
            f"escalate: model is a {type(model).__name__}; give networks, the cheapest first"
        )
    wrong = next((one for one in model if not isinstance(one, nn.Module)), None)
    if wrong is not None:
        raise FtwtError(
            f"escalate: the settings hold {wrong!r}, which is no network; give reductions as "
            "escalate(model, [0.6, 0.3])"
        )
    return list(model)


def _attached(
    networks: list[nn.Module], example: Tensor | tuple[Tensor, ...] | None
) -> list[Gated]:
    """Each as a gated network; a plain one runs every filter."""
    nested = next((one for one in networks if isinstance(one, Escalating)), None)
    if nested is not None:
        raise FtwtError(
            "escalate: one of the settings escalates itself; give its settings in its place: "
            "[*escalating.gated, network]"
        )
    gated = next((one for one in networks if isinstance(one, Gated)), None)
    if gated is None and example is None:
        raise FtwtError(
            "escalate: none of the networks has gates, so nothing tells what they take; give "
            "example=, an input"
        )
    made = []
    for network in networks:
        if isinstance(network, Gated):
            made.append(network)
            continue
        given = example if gated is None else _example(gated, network)
        assert given is not None
        made.append(attach(network, Pruning(gate=Fixed({})), example=given))
    return made


def _example(gated: Gated, network: nn.Module) -> tuple[Tensor, ...]:
    like = next(network.parameters(), torch.zeros(0))
    return tuple(
        torch.zeros(1, *shape, device=like.device, dtype=like.dtype)
        for shape in gated.anatomy.expected
    )
