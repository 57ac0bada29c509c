"""Saved models: safetensors that rebuild the model by themselves, nothing pickled."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError, in_one_line, listed
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.within import gates_of
from ftwt.io import rebuilding, registry
from ftwt.io.about import read_about
from ftwt.io.answers import check_answers, noted_answers
from ftwt.io.files import write_atomically

_FORMAT = 1
# Metadata: what `load` needs, and a sum over that and the weights.
_ABOUT, _SUM = "ftwt", "sha256"


@dataclass(frozen=True)
class Card:
    """What a file says of its model, beside the weights.

    `network` is a name of `ftwt.networks` or of a registered factory (or that function itself), or
    None for any other network, which `load` then has to be given. `mean` and `std` are those of the
    pixels that it was trained on.
    `networks` names the network of each setting of an escalating model, where they differ.
    """

    network: str | None
    num_classes: int
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    networks: tuple[str | None, ...] = ()

    def __post_init__(self) -> None:
        if callable(self.network):
            object.__setattr__(self, "network", registry.check_registered(self.network))


def save(model: nn.Module, path: Path | str, card: Card) -> None:
    """Write a gated, escalating or plain network; the file appears whole or not at all.

    Weights that settings of an escalating network share are written once.

    Raises:
        FtwtError: a part that is not registered, so that `load` could not build it, names for
            other settings, or extra state of a module that is no tensor.
    """
    for name in (card.network, *card.networks):
        if name is not None and registry.is_qualified(name):
            registry.found(name, "save")
    settings = len(model.gated) if isinstance(model, Escalating) else 0
    if len(card.networks) not in (0, settings):
        raise FtwtError(
            f"save: the card names {len(card.networks)} networks for {settings} settings; name "
            "one for each, or leave networks= out if all are of the same network"
        )
    about: dict[str, Any] = {"format": _FORMAT, **asdict(card), **rebuilding.described(model)}
    about["answers"] = noted_answers(model)
    state = model.state_dict()
    if extra := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise FtwtError(
            f"save: {extra[0]!r} is a {type(state[extra[0]]).__name__}, and a file of weights "
            "holds tensors; keep it in a buffer, or return a tensor from get_extra_state"
        )
    weights = {
        name: value.detach().contiguous()
        for name, value in state.items()
        if name not in about.get("copies", ())
    }
    # Tied weights are written under each of their names: the format has no way to say the same.
    seen: set[int] = set()
    for name, value in weights.items():
        storage = value.untyped_storage().data_ptr()
        if storage in seen:
            weights[name] = value.clone()
        seen.add(storage)
    text = json.dumps(about)
    metadata = {_ABOUT: text, _SUM: _sum(weights, text)}
    payload = safetensors.torch.save(weights, metadata=metadata)
    write_atomically(Path(path), payload)


def load(
    path: Path | str,
    network: nn.Module | Sequence[nn.Module] | None = None,
    *,
    device: torch.device | str = "cpu",
    leaves: tuple[type[nn.Module], ...] = (),
) -> tuple[nn.Module, Card]:
    """Rebuild the model that `save` wrote, in eval mode.

    Args:
        path: the file, or a run folder that holds `model.safetensors`.
        network: the plain network, where it is none of `ftwt.networks`; a list with one for each
            setting, where those of an escalating network differ.
        device: where to put it.
        leaves: as they were given to `attach`.

    Raises:
        FtwtError: no such file, a truncated or foreign file, weights that do not fit, or another
            network than the one that was saved, by its answer to one input.
    """
    file = model_file(Path(path))
    weights, metadata = read_tensors(file)
    if _ABOUT not in metadata:
        raise FtwtError(
            f"load: {file} holds weights alone, not a model saved by ftwt; "
            "give it as --init, or load it into a network with load_weights"
        )
    about = read_about(metadata[_ABOUT], str(file), reads=_FORMAT)
    copies = about.get("copies", {})
    _check_named(file, about, weights)
    try:
        model = rebuilding.rebuilt(about, _networks(file, about, network), leaves)
    except FtwtError:
        raise
    except Exception as error:
        # A description that fits no network shows anywhere while that is built and traced.
        raise FtwtError(
            f"load: the model that {file} describes cannot be built ({in_one_line(error)}); "
            "save it again, or give the network that it was made from"
        ) from error
    held = {**weights, **{name: weights[one] for name, one in copies.items()}}
    load_weights(model, held, source=str(file))
    check_answers(model, about.get("answers", ()), str(file))
    names = Card.__dataclass_fields__
    card = Card(**{name: _tuples(about[name]) for name in names if name in about})
    return model.eval().to(device), card


def _networks(
    file: Path, about: Mapping[str, Any], given: nn.Module | Sequence[nn.Module] | None
) -> list[nn.Module]:
    """The plain network, or that of each setting."""
    settings = len(about.get("settings", ())) or 1
    if given is not None:
        networks = [given] * settings if isinstance(given, nn.Module) else list(given)
        if len(networks) != settings:
            raise FtwtError(
                f"load: {len(networks)} networks came for {file}, which holds {settings}; give one "
                "for each setting, or one for all"
            )
        return networks
    names = about.get("networks") or [about["network"]] * settings
    if None in names:
        raise FtwtError(f"load: {file} holds a network of your own; give it as network=")
    return [registry.build_network(name, about["num_classes"]) for name in names]


def model_file(path: Path) -> Path:
    """The model's file in a run folder, or the file itself."""
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        what = "holds no model.safetensors" if path.is_dir() else "does not exist"
        raise FtwtError(f"load: {path} {what}; give a run folder or a safetensors file")
    return file


def is_pickled(file: Path) -> bool:
    """Whether `torch.save` wrote a file, whatever its ending: it is a zip archive or a pickle."""
    with file.open("rb") as opened:
        head = opened.read(9)
    # A safetensors file begins with the length of its header, whose bytes may be any.
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") < file.stat().st_size:
        return False
    return head[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        FtwtError: the file is truncated, or no safetensors file at all.
    """
    if is_pickled(file):
        raise FtwtError(
            f"load: {file} was written by torch.save, expected a model that ftwt saved; give its "
            "weights as --init, or load them into a network with load_weights"
        )
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            metadata = dict(opened.metadata() or {})
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    # Types and sizes that torch does not have come as other errors.
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError, TypeError) as error:
        raise FtwtError(
            f"load: {file} is not a whole safetensors file ({' '.join(str(error).split())}); "
            "it may be truncated, copy or train it again"
        ) from None
    # Files of earlier versions and of others have no sum.
    if _SUM in metadata and metadata[_SUM] != _sum(weights, metadata.get(_ABOUT, "")):
        raise FtwtError(
            f"load: {file} is damaged: it does not hold what was written; copy or train it again"
        )
    return weights, metadata


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Load weights by name; a plain network's also load into its gated one.

    Raises:
        FtwtError: names or shapes do not fit, with the first of them.
    """
    own = model.state_dict()
    prefix = gates_of(model)
    gates = {name for name in own if prefix is not None and name.startswith(prefix)}
    if not gates.isdisjoint(weights):
        gates = set()
    wanted = {
        name
        for name in own
        # Files of other libraries often leave out the batch norms' counters.
        if name not in gates and not name.endswith("num_batches_tracked")
    }
    missing = sorted(wanted - set(weights))
    unexpected = sorted(set(weights) - set(own))
    shapes = [
        f"{name} is {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(wanted & set(weights))
        if weights[name].shape != own[name].shape
    ]
    kinds = [
        f"{name} is {weights[name].dtype} instead of {own[name].dtype}"
        for name in sorted(wanted & set(weights))
        if _number_kind(weights[name]) != _number_kind(own[name])
    ]
    problems = [
        *_some("", shapes), *_some("", kinds),
        *_some("missing", missing), *_some("unexpected", unexpected),
    ]  # fmt: skip
    if problems:
        raise FtwtError(
            f"load: {source} holds weights of another network: {'; '.join(problems)}; "
            "give the network that they were trained for"
        )
    unusable = [name for name in sorted(weights) if bool(weights[name].isnan().any())]
    if unusable:
        raise FtwtError(
            f"load: {source} holds weights that are no numbers: {', '.join(_some('', unusable))}; "
            "train it again with a smaller learning rate, or give an earlier file"
        )
    model.load_state_dict(dict(weights), strict=False)


def _check_named(file: Path, about: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Refuse a description of more than the file holds, before anything of that size is built."""
    lacking = sorted(set(about.get("copies", {}).values()) - set(weights))
    held = sum(one.numel() for one in weights.values())
    if lacking or about["num_classes"] > max(1, held):
        what = f"no {lacking[0]}" if lacking else f"{held} numbers"
        raise FtwtError(
            f"load: {file} describes a network of {about['num_classes']} classes and holds {what}; "
            "copy the file or save the model again"
        )


def _sum(weights: Mapping[str, Tensor], about: str) -> str:
    """SHA-256 over the description, and names, types, shapes and bytes of the weights."""
    found = hashlib.sha256(about.encode())
    for name, value in sorted(weights.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _number_kind(value: Tensor) -> tuple[bool, bool, bool]:
    """Whether numbers are fractions, complex, or truth values: no other kind stands for them."""
    return value.is_floating_point(), value.is_complex(), value.dtype == torch.bool


def _some(label: str, names: Iterable[str]) -> list[str]:
    found = list(names)
    return [f"{label} {listed(found, most=3)}".strip()] if found else []


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
