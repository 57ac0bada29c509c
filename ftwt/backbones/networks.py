"""Plain networks by name, as the command line and the recipes spell them.

A name is `DATA-NETWORK` for the networks of the paper (`cifar10-resnet56`, `imagenet-resnet34`),
or `torchvision:NAME` and `timm:NAME` for any classification network of these packages. Weights are
always the random initial ones: nothing is downloaded.
"""

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ftwt import backbones
from ftwt.errors import FtwtError, check_whole
from ftwt.io.registry import found, is_qualified, made_by, networks_by

# Each value takes the number of classes.
_CIFAR: Mapping[str, Callable[[int], nn.Module]] = MappingProxyType(
    {
        "resnet8": backbones.resnet8,
        "resnet20": backbones.resnet20,
        "resnet32": backbones.resnet32,
        "resnet44": backbones.resnet44,
        "resnet56": backbones.resnet56,
        "resnet110": backbones.resnet110,
        "vgg16_bn": backbones.vgg16_bn,
        "mobilenet_v1": partial(backbones.mobilenet_v1, 1.0),
        "mobilenet_v1-x0.75": partial(backbones.mobilenet_v1, 0.75),
        "mobilenet_v1-x0.5": partial(backbones.mobilenet_v1, 0.5),
        "mobilenet_v1-x0.25": partial(backbones.mobilenet_v1, 0.25),
        "mobilenet_v2": partial(backbones.mobilenet_v2, 1.0),
        "mobilenet_v2-x0.5": partial(backbones.mobilenet_v2, 0.5),
        "mobilenet_v2-x0.25": partial(backbones.mobilenet_v2, 0.25),
    }
)
_IMAGENET = ("resnet18", "resnet34", "resnet50", "mobilenet_v1", "mobilenet_v2")
# Two networks with auxiliary classifiers, which would make their training output a tuple.
_WITH_AUXILIARY = ("googlenet", "inception_v3")


def names() -> tuple[str, ...]:
    """The names that need no package prefix; `torchvision:NAME` and `timm:NAME` come on top.

    >>> names()[:2]
    ('cifar10-resnet8', 'cifar10-resnet20')
    """
    cifar = (f"{data}-{model}" for data in ("cifar10", "cifar100") for model in _CIFAR)
    return (*cifar, *(f"imagenet-{model}" for model in _IMAGENET))


@networks_by
def build(name: str | Callable[..., nn.Module], *, num_classes: int | None = None) -> nn.Module:
    """A new network with random weights, in training mode.

    Args:
        name: one of `names()`, or `torchvision:NAME`, or `timm:NAME`; or a function that makes the
            network, or `module:function` of one that `ftwt.register` knows.
        num_classes: width of the classifier; by default that of the data (10, 100 or 1000).

    >>> build("cifar100-resnet20").fc.out_features
    100
    """
    if num_classes is not None:
        check_whole(f"networks.build({name!r})", "num_classes", num_classes)
    if callable(name):
        return made_by(name, num_classes)
    if is_qualified(name):
        return made_by(found(name, "networks"), num_classes)
    source, model = _resolve(name)
    match source:
        case "cifar10":
            return _CIFAR[model](num_classes or 10)
        case "cifar100":
            return _CIFAR[model](num_classes or 100)
        case "imagenet" if model == "mobilenet_v1":
            # The only network of the paper that torchvision has not.
            return backbones.mobilenet_v1(1.0, num_classes or 1000, stem_stride=2)
        case "timm":
            return _from_timm(model, num_classes)
        case _:
            return _from_torchvision(model, num_classes or 1000)


def check_known(name: str) -> None:
    """Raise FtwtError, with the nearest names, unless `build` knows a network of that name."""
    if is_qualified(name):
        found(name, "networks")
    else:
        _resolve(name)


def torchvision_name(name: str) -> str | None:
    """How torchvision calls a network; None if it is not one of its own.

    >>> torchvision_name("imagenet-resnet34"), torchvision_name("cifar10-resnet20")
    ('resnet34', None)
    """
    if is_qualified(name):
        return None
    source, model = _resolve(name)
    if source == "imagenet" and model == "mobilenet_v1":
        return None
    return model if source in ("imagenet", "torchvision") else None


def image_size(name: str) -> int:
    """Height and width, in pixels, of the images that the network is meant for.

    >>> image_size("cifar10-resnet56"), image_size("imagenet-resnet34")
    (32, 224)

    Raises:
        FtwtError: the network is one of your own, which does not say.
    """
    if is_qualified(name):
        raise FtwtError(
            f"networks: ftwt does not know what images {name} is meant for; give their side in "
            "pixels, --size (of bench --image-size), or size= in Python"
        )
    source, model = _resolve(name)
    if source in ("cifar10", "cifar100"):
        return 32
    if source == "timm":
        config = _timm().get_pretrained_cfg(model)
        return 224 if config is None else int(config.input_size[-1])
    return 299 if model == "inception_v3" else 224


def example(name: str, *, size: int | None = None) -> Float[Tensor, "1 3 size size"]:
    """One black image of the network's size, or of `size` pixels, to trace it with."""
    size = size or image_size(name)
    return torch.zeros(1, 3, size, size)


def _resolve(name: str) -> tuple[str, str]:
    """Where a network comes from, and its name there; an unknown name raises."""
    source, colon, model = name.partition(":")
    if colon and source == "torchvision":
        _check_listed(name, source, model, _torchvision_names())
        return source, model
    if colon and source == "timm":
        timm = _timm()
        if not timm.is_model(model):
            _check_listed(name, source, model, timm.list_models())
        return source, model
    if name not in names():
        if "/" in name or name.endswith(".safetensors"):
            raise FtwtError(
                f"networks: there is no file or folder {name}; give a run folder, a saved model, "
                "or the name of a network"
            )
        raise FtwtError(
            f"networks: no network is named {name!r};{meant(name, names())} "
            f"known: {', '.join(names())}, and torchvision:NAME or timm:NAME for theirs"
        )
    source, _, model = name.partition("-")
    return source, model


def meant(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """What may be meant by an unknown name, as a question, torchvision's and timm's included.

    >>> meant("resnet18", ("cifar10-resnet20",))
    ' did you mean torchvision:resnet18?'
    """
    wanted = name.lower()
    others = [f"torchvision:{one}" for one in _torchvision_names() if one == wanted]
    if not others and importlib.util.find_spec("timm") is not None:
        others = [f"timm:{wanted}"] if _timm().is_model(wanted) else []
    near = [*others, *difflib.get_close_matches(name, list(known), n=3, cutoff=cutoff)][:3]
    return f" did you mean {' or '.join(near)}?" if near else ""


def _check_listed(name: str, package: str, model: str, listed: Iterable[str]) -> None:
    listed = tuple(listed)
    if model not in listed:
        nearest = ", ".join(f"{package}:{m}" for m in difflib.get_close_matches(model, listed))
        hint = f"did you mean {nearest}?" if nearest else "no name there is near to it;"
        raise FtwtError(
            f"networks: {name!r} is none of the {len(listed)} classification networks "
            f"of {package}; {hint} {package}'s list_models() names them all"
        )


def _torchvision_names() -> list[str]:
    # Imported late, here and below: torchvision takes longer to import than all of ftwt.
    from torchvision import models

    return list(models.list_models(module=models))


def _from_torchvision(model: str, num_classes: int) -> nn.Module:
    from torchvision import models

    extra: dict[str, Any] = {}
    if model in _WITH_AUXILIARY:
        extra = {"aux_logits": False, "init_weights": True}
    network: nn.Module = models.get_model(model, weights=None, num_classes=num_classes, **extra)
    return network


def _from_timm(model: str, num_classes: int | None) -> nn.Module:
    # timm reads None as the network's own number of classes.
    network: nn.Module = _timm().create_model(model, pretrained=False, num_classes=num_classes)
    return network


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise FtwtError(
            "networks: a timm:NAME network was asked for, but timm is not installed; "
            "run `pip install ftwt[timm]`, or choose a torchvision:NAME network"
        ) from error
