"""What a file says of a model beside its weights, and the model that this describes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.anatomy import precision
from ftwt.gated.attach import attach
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.escalation.policy import Policy
from ftwt.gated.escalation.settings import with_pruning
from ftwt.gated.model import Gated
from ftwt.gated.operating_points import OperatingPoint, check_thresholds
from ftwt.gated.pruning import Pruning
from ftwt.gated.within import held_in, with_part
from ftwt.gates.untrained import Fixed
from ftwt.graph.arguments import Arguments, Example
from ftwt.io import registry, specs


def described(model: nn.Module) -> dict[str, Any]:
    """What a file has to say of a model beside its weights; nothing of a plain network.

    Of a network that holds a gated one it is that one's, and its name.
    """
    match model:
        case Gated():
            return {
                "pruning": specs.rebuildable(model.pruning),
                "sites": list(model.sites),
                "thresholds": model.thresholds,
                "operating_points": [asdict(point) for point in model.operating_points],
                "shapes": [list(shape) for shape in model.anatomy.expected],
                "dtypes": [str(one).removeprefix("torch.") for one in model.anatomy.dtypes],
                **_by_name(model.anatomy.traced.arguments),
            }
        case Escalating():
            settings = [
                {**described(one), **_shared(model.gated[:place], one)}
                for place, one in enumerate(model.gated)
            ]
            return {
                "policy": specs.rebuildable(model.policy),
                "operating_points": [asdict(point) for point in model.operating_points],
                "settings": settings,
                "copies": _copies(model.state_dict()),
                **({} if model.whole is None else {"dense_macs": model.whole}),
            }
        case _:
            held = held_in(model)
            return {} if held is None else {"inside": held[0], **described(held[1])}


def rebuilt(
    about: Mapping[str, Any], networks: Sequence[nn.Module], leaves: tuple[type[nn.Module], ...]
) -> nn.Module:
    """The model that `described` tells of; its weights mean nothing yet.

    Args:
        about: what `described` said.
        networks: the plain network, or that of each setting.
        leaves: as they were given to `attach`.
    """
    if "settings" not in about:
        if "pruning" not in about:
            return networks[0]
        inside = about.get("inside", "")
        return with_part(networks[0], inside, lambda part: _gated(part, about, leaves))
    settings: list[Gated] = []
    for network, one in zip(networks, about["settings"], strict=True):
        if one["weights_of"] is None:
            settings.append(_gated(network, one, leaves))
            continue
        first = settings[one["weights_of"]]
        twin = first if one["gates_too"] else with_pruning(first, _pruning(one))
        settings.append(_set(twin, one))
    policy = specs.from_json(about["policy"])
    if not isinstance(policy, Policy):
        raise FtwtError(f"load: the policy is {policy!r}; give a file that ftwt saved")
    return Escalating(settings, policy, _operating_points(about), whole=about.get("dense_macs"))


def _by_name(arguments: Arguments) -> dict[str, Any]:
    """The names of inputs, and switches, of a network that is not called by place alone."""
    if arguments.by_place:
        return {}
    switches = {name: arguments.fixed[name] for name in arguments.switches}
    for name, value in switches.items():
        if not isinstance(value, (bool, int, float, str, type(None))):
            raise FtwtError(
                f"save: the model was attached with {name}={value!r}, which a file cannot hold; "
                "attach with a number, a string, True, False or None, or set it in the network"
            )
    return {"inputs": list(arguments.inputs), "switches": switches}


def _example(network: nn.Module, about: Mapping[str, Any]) -> Example:
    zeros = tuple(_zeros(network, about))
    if "inputs" not in about:
        return zeros
    return {**dict(zip(about["inputs"], zeros, strict=True)), **about["switches"]}


def _zeros(network: nn.Module, about: Mapping[str, Any]) -> Iterator[Tensor]:
    """Zeros like the example that the model was attached with, in the network's precision."""
    computes = precision(network) or torch.float32
    # Files of before have pixels only.
    dtypes = about.get("dtypes") or ["float32"] * len(about["shapes"])
    for shape, name in zip(about["shapes"], dtypes, strict=True):
        dtype = getattr(torch, name)
        yield torch.zeros(1, *shape, dtype=computes if dtype.is_floating_point else dtype)


def _gated(
    network: nn.Module, about: Mapping[str, Any], leaves: tuple[type[nn.Module], ...]
) -> Gated:
    pruning = _pruning(about)
    finish = registry.finisher(pruning.gate)
    model = attach(
        network,
        pruning if finish is None else replace(pruning, gate=Fixed({})),
        example=_example(network, about),
        where=about["sites"],
        leaves=leaves,
    )
    return _set(model if finish is None else finish(model, pruning), about)


def _set(model: Gated, about: Mapping[str, Any]) -> Gated:
    # Files of earlier versions have no thresholds.
    if "thresholds" not in about:
        return model
    points = _operating_points(about)
    for point in points:
        check_thresholds(point.thresholds, model.sites)
    return model.with_thresholds(about["thresholds"], points)


def _pruning(about: Mapping[str, Any]) -> Pruning:
    found = specs.from_json(about["pruning"])
    if not isinstance(found, Pruning):
        raise FtwtError(f"load: the pruning is {found!r}; give a file that ftwt saved")
    return found


def _operating_points(about: Mapping[str, Any]) -> tuple[OperatingPoint, ...]:
    points = tuple(OperatingPoint(**one) for one in about["operating_points"])
    for low, high in pairwise(points):
        if not low.reduction < high.reduction or set(low.thresholds) != set(high.thresholds):
            raise FtwtError(
                f"load: a point at {high.reduction:g} follows one at {low.reduction:g}, reductions "
                "have to rise and name the same sites; give a file that ftwt saved"
            )
    return points


def _shared(earlier: Sequence[Gated], model: Gated) -> dict[str, Any]:
    """The first earlier setting that has the same backbone, and whether its gates are the same."""
    own = [id(one) for one in model.backbone_parameters()]
    for place, one in enumerate(earlier):
        if own == [id(parameter) for parameter in one.backbone_parameters()]:
            same = _gates(one) == _gates(model)
            return {"weights_of": place, "gates_too": same}
    return {"weights_of": None, "gates_too": False}


def _gates(model: Gated) -> list[int]:
    return [id(one.gate) for one in model.site_gates]


def _copies(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Names whose tensor stands in the state dict under an earlier name, which is given."""
    first: dict[tuple[Any, ...], str] = {}
    found = {}
    for name, one in weights.items():
        key = (one.data_ptr(), one.shape, one.stride(), one.dtype)
        known = first.setdefault(key, name)
        if known != name and one.numel():
            found[name] = known
    return found
