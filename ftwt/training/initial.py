"""The weights that a training starts from."""

import argparse
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ftwt.backbones import networks
from ftwt.errors import FtwtError
from ftwt.io import storage

TORCHVISION = "torchvision"
# What training scripts call the weights in a file that holds more.
_NESTED = ("state_dict", "model", "model_state_dict", "net")
# What training scripts keep beside the weights: their options, accuracies as numbers of NumPy.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)),
]


def starting_weights(init: Path | str, network: str) -> dict[str, Tensor]:
    """Read weights by name.

    Args:
        init: "torchvision" for torchvision's own weights of the network, a run folder, a
            safetensors file, or a state dict that `torch.save` wrote, told apart by content.
        network: a name of `ftwt.networks`.

    Raises:
        FtwtError: there are none, or the file is damaged, holds something else or weights that are
            not finite.
    """
    if str(init) == TORCHVISION:
        return _from_torchvision(network)
    file = storage.model_file(Path(init))
    weights = _from_state_dict(file) if storage.is_pickled(file) else storage.read_tensors(file)[0]
    wrong = next((name for name, one in weights.items() if not one.isfinite().all()), None)
    if wrong is not None:
        raise FtwtError(
            f"train: {wrong} in {file} has values that are no finite numbers; the file is damaged, "
            "or its training went wrong: give other weights"
        )
    return weights


def check_classifier(
    network: nn.Module, weights: Mapping[str, Tensor], classes: int, *, source: str
) -> None:
    """Raise FtwtError where the weights' classifier is one of another number of classes."""
    for name, own in network.state_dict().items():
        given = weights.get(name)
        if (
            given is not None
            and own.dim() > 0
            and own.shape[0] == classes != given.shape[:1].numel()
            and own.shape[1:] == given.shape[1:]
        ):
            raise FtwtError(
                f"train: {source} knows {given.shape[0]} classes ({name}), the data has {classes}; "
                "give the data that these weights are for, or weights for this data"
            )


def with_new_head(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights, but the network's own new ones where those are of other numbers of classes.

    Only what a classifier may have differs in its first dimension alone; what differs otherwise is
    refused where the weights are loaded.
    """
    own = network.state_dict()

    def other_classes(name: str, one: Tensor) -> bool:
        here = own.get(name)
        return (
            here is not None
            and here.dim() == one.dim() > 0
            and here.shape[0] != one.shape[0]
            and here.shape[1:] == one.shape[1:]
        )

    return {name: own[name] if other_classes(name, one) else one for name, one in weights.items()}


def _from_torchvision(network: str) -> dict[str, Tensor]:
    # Imported late: torchvision takes long.
    from torchvision import models

    model = None if " " in network else networks.torchvision_name(network)
    if model is None:
        raise FtwtError(
            f"train: --init torchvision has no weights for {network}, which is not torchvision's; "
            "give a run folder or a file of weights"
        )
    weights = models.get_model_weights(model).DEFAULT
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise FtwtError(
            f"train: {weights.url} cannot be downloaded ({' '.join(str(error).split())}); fetch it "
            "on a machine with a network and give the file as --init"
        ) from None
    return dict(state)


def _from_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals(_HARMLESS),
            path.open("rb") as file,
        ):
            # Told of files that were pickled otherwise, which are refused below.
            warnings.simplefilter("ignore")
            held: Any = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:
        # torch raises many types for a damaged file.
        raise FtwtError(
            f"train: {path} is not a whole state dict ({type(error).__name__}); it may be "
            "truncated, or hold a pickled model or other objects, which are not run here: where "
            "you trust it, torch.load(..., weights_only=False) it and torch.save its state_dict()"
        ) from None
    for name in _NESTED:
        if isinstance(held, Mapping) and isinstance(held.get(name), Mapping):
            held = held[name]
    if not isinstance(held, Mapping) or not all(isinstance(v, Tensor) for v in held.values()):
        raise FtwtError(
            f"train: {path} holds no state dict; give a file of tensors by name, as "
            "torch.save(model.state_dict(), ...) writes it"
        )
    # What DistributedDataParallel puts before every name.
    return {str(name).removeprefix("module."): value for name, value in held.items()}
