"""What a saved model's file has to say beside the weights, field by field."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NotRequired, TypedDict

import torch

from ftwt.errors import FtwtError
from ftwt.io.reading import parsed

# Values of one sample of an example: more than any image, less than what fills a machine's memory.
_LARGEST_SAMPLE = 2**28


class OperatingPointEntry(TypedDict):
    """As `gated.operating_points.OperatingPoint`."""

    reduction: float
    measured: float
    accuracy: float
    thresholds: dict[str, float]


class GatedNetwork(TypedDict):
    """A gated network, or a setting of an escalating one; older files lack what is not required."""

    pruning: NotRequired[dict[str, Any]]
    sites: NotRequired[list[str]]
    shapes: NotRequired[list[list[int]]]
    dtypes: NotRequired[list[str]]
    thresholds: NotRequired[dict[str, float]]
    operating_points: NotRequired[list[OperatingPointEntry]]
    # What earlier versions call them.
    knots: NotRequired[list[OperatingPointEntry]]
    inputs: NotRequired[list[str]]
    switches: NotRequired[dict[str, bool | int | float | str | None]]


class SettingEntry(GatedNetwork):
    """A setting of an escalating network, and the place of an earlier one with its weights."""

    weights_of: int | None
    gates_too: bool


class About(GatedNetwork):
    """The whole: a card, and what `rebuilding.described` says of the model."""

    network: str | None
    num_classes: int
    classes: NotRequired[list[str]]
    mean: NotRequired[list[float]]
    std: NotRequired[list[float]]
    extra: NotRequired[dict[str, Any]]
    networks: NotRequired[list[str | None]]
    policy: NotRequired[dict[str, Any]]
    settings: NotRequired[list[SettingEntry]]
    copies: NotRequired[dict[str, str]]
    # As `io.answers` has them, one for each setting.
    answers: NotRequired[list[list[float] | None]]
    dense_macs: NotRequired[int]
    # Which module of the network is the gated one, where it is not the whole.
    inside: NotRequired[str]


class _Format(TypedDict):
    format: NotRequired[Any]


def read_about(text: str, source: str, *, reads: int) -> Mapping[str, Any]:
    """What a file says of its model.

    Args:
        text: what its metadata hold.
        source: the file, for messages.
        reads: the format that this version reads.

    Raises:
        FtwtError: it is of another format, or does not describe a model.
    """
    mend = "copy the file or save the model again"
    kept = {"source": f"load: {source}", "mend": mend, "finite": False}
    found = parsed(text, _Format, **kept).get("format")  # type: ignore[arg-type]
    if found != reads:
        raise FtwtError(
            f"load: {source} has format {found!r}, this ftwt reads {reads}; "
            "use the version that wrote it"
        )
    about = parsed(text, About, **kept)  # type: ignore[arg-type]
    for one in (about, *about.get("settings", [])):
        if "knots" in one:
            one["operating_points"] = one.pop("knots")
    for wrong in _wrong(about):
        raise FtwtError(f"load: {source} is damaged ({wrong}); {mend}")
    return about


def _wrong(about: About) -> Iterator[str]:
    """What types alone do not tell."""
    mean, std = about.get("mean", []), about.get("std", [])
    if len(mean) != len(std) or not all(0 < one < math.inf for one in std):
        yield f"mean {mean} and std {std} are no statistics of pixels"
    if "settings" in about:
        if not about["settings"] or "policy" not in about:
            yield "it has settings without a policy, or a policy without settings"
        if len(about.get("networks") or about["settings"]) != len(about["settings"]):
            yield "it does not name as many networks as settings"
        for place, one in enumerate(about["settings"]):
            yield from (f"setting {place}: {wrong}" for wrong in _wrong_network(one))
            if "pruning" not in one:
                yield f"setting {place} has no pruning"
            if one["weights_of"] is not None and not 0 <= one["weights_of"] < place:
                yield f"setting {place} has the weights of {one['weights_of']}, no earlier one"
    elif "policy" in about:
        yield "it has a policy without settings"
    if "inside" in about and "pruning" not in about:
        yield "it has gates inside of a module, but no pruning"
    yield from _wrong_network(about)


def _wrong_network(about: GatedNetwork) -> Iterator[str]:
    if "pruning" in about:
        yield from (f"it has no {name}" for name in ("sites", "shapes") if name not in about)
    elif "sites" in about or "thresholds" in about:
        yield "it has sites but no pruning"
    shapes = about.get("shapes", [])
    for shape in shapes:
        if not all(size > 0 for size in shape) or math.prod(shape) > _LARGEST_SAMPLE:
            yield f"{shape} is the shape of no sample"
    for name in about.get("dtypes", []):
        if not isinstance(getattr(torch, name, None), torch.dtype):
            yield f"{name!r} is no dtype"
    for what in ("dtypes", "inputs"):
        if about.get(what) and len(about[what]) != len(shapes):
            yield f"its {what} are not as many as its shapes"
    if ("inputs" in about) != ("switches" in about):
        yield "it has inputs by name without switches, or switches without inputs"
    if ("thresholds" in about) != ("operating_points" in about) and "pruning" in about:
        yield "it has thresholds without operating points, or operating points without thresholds"
