"""What is promised of every network, each as a function that raises where it is broken."""

import copy
import pickle
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import ftwt
from ftwt import gates, runtime, slicing
from ftwt.runtime import native
from tests.fuzz.nets import Answer
from tests.fuzz.spec import Spec

TOLERANCE = 2e-4

torch.export.register_dataclass(Answer)


class Broken(AssertionError):
    """A promise that does not hold, in a line."""


class Subject:
    """One network with its gated forms, made when first asked for."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.network = spec.build()
        self.images = spec.images()
        self.example = spec.images(batch=1)
        # With every filter on.
        pruning = ftwt.Pruning(gates.Fixed({}))
        self.open = ftwt.attach(self.network, pruning, example=self.example).eval()
        self.masks = self.random_masks(len(self.images[0]), self.open)

    def masked(self, masks: dict[str, Tensor]) -> ftwt.Gated:
        """The network with these masks, in eval mode."""
        return ftwt.escalation.with_gate(self.open, gates.Fixed(masks))

    def random_masks(self, batch: int, model: ftwt.Gated) -> dict[str, Tensor]:
        """A mask for each site and image, or for each of an image's rows."""
        with torch.no_grad():
            sites = model.trace(*self.spec.images(batch=batch), targets=False).sites
        generator = torch.Generator().manual_seed(self.spec.seed + 2)
        return {
            name: torch.rand(site.mask.shape, generator=generator) < self.spec.keep
            for name, site in sites.items()
        }


def tensors(output: Any) -> Iterator[Tensor]:
    """All tensors in what a network returns."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for one in output.values():
            yield from tensors(one)
    elif isinstance(output, (list, tuple)):
        for one in output:
            yield from tensors(one)
    elif is_dataclass(output):
        for one in fields(output):
            yield from tensors(getattr(output, one.name))


def same(what: str, got: Any, wanted: Any) -> None:
    """Raise unless all tensors are equal to rounding, relative to the largest value."""
    if type(got) is not type(wanted):
        raise Broken(f"{what}: {type(got).__name__} instead of {type(wanted).__name__}")
    for one, two in zip(tensors(got), tensors(wanted), strict=True):
        if one.shape != two.shape:
            raise Broken(f"{what}: {tuple(one.shape)} instead of {tuple(two.shape)}")
        if not torch.equal(one.isfinite(), two.isfinite()):
            raise Broken(f"{what}: other values are not finite")
        gap = (one - two).nan_to_num(0, 0, 0).abs().max().item()
        size = two.nan_to_num(0, 0, 0).abs().max().item()
        if gap > TOLERANCE * size + 1e-6:
            raise Broken(f"{what}: differs by {gap:.3g} of {size:.3g}")


def open_is_plain(subject: Subject) -> None:
    """With every filter on: outputs, gradients and buffers, in both modes."""
    for mode in ("eval", "train"):
        seen = []
        for network in (subject.network, subject.open):
            network = copy.deepcopy(network).train(mode == "train")
            torch.manual_seed(subject.spec.seed)
            output = network(*[one.clone() for one in subject.images])
            total = sum((one * one.detach()).sum() for one in tensors(output) if one.requires_grad)
            if isinstance(total, Tensor):
                total.backward()
            gradients = {
                name: one.grad
                for name, one in network.named_parameters()
                if one.grad is not None and not name.startswith("gates.")
            }
            buffers = {n: b for n, b in network.named_buffers() if not n.startswith("gates.")}
            seen.append((output, gradients, buffers))
        (plain, plain_grads, plain_buffers), (gated, gated_grads, gated_buffers) = seen
        same(f"{mode} output", gated, plain)
        if set(plain_grads) != set(gated_grads):
            raise Broken(f"{mode}: gradients of {set(plain_grads) ^ set(gated_grads)}")
        for name in plain_grads:
            same(f"{mode} gradient of {name}", gated_grads[name], plain_grads[name])
        for name in plain_buffers:
            same(f"{mode} buffer {name}", gated_buffers[name].float(), plain_buffers[name].float())


def counted_is_torchs(subject: Subject) -> None:
    """With every filter on: MACs are those of torch's own counter, at another size too."""
    # One image: what works on weights runs once a batch, and counts for each sample.
    for images in (subject.example, subject.spec.images(batch=1, larger=2)):
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with (
                torch.no_grad(), FlopCounterMode(display=False) as counter,
                sdpa_kernel(SDPBackend.MATH),
            ):  # fmt: skip
                subject.network(*images)
        except RuntimeError:
            # The network has one size only.
            continue
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
        with torch.no_grad():
            trace = subject.open.trace(*images, targets=False)
        counted, wanted = int(trace.macs.sum()), counter.get_total_flops() // 2
        if counted != wanted:
            raise Broken(f"counted {counted:,} MACs, torch {wanted:,}")


def skipping_is_masked(subject: Subject) -> None:
    """On each back end: outputs are the masked network's, and what ran is what is counted."""
    model = subject.masked(subject.masks)
    with torch.no_grad():
        trace = model.trace(*subject.images, targets=False)
    wanted = trace.macs
    for backend in ("torch", *(["native"] if native.available() else [])):
        fast = runtime.skip(model, backend=backend)
        same(f"skip on {backend}", fast(*subject.images), trace.output)
        audit = fast.audit(*subject.images)
        if not audit.dense and not torch.equal(audit.macs, wanted):
            raise Broken(f"{backend} ran {audit.macs.tolist()}, counted are {wanted.tolist()}")


def cut_is_masked(subject: Subject) -> None:
    """A network cut for one image's masks answers as the masked one, batch norms folded or not."""
    masks = {name: mask[0] for name, mask in subject.masks.items()}
    model = subject.masked({name: mask[None] for name, mask in masks.items()})
    with torch.no_grad():
        wanted = model(*subject.images)
        for fold in (True, False):
            cut = slicing.cut(subject.open, masks, fold=fold)
            same(f"cut, fold={fold}", cut(*subject.images), wanted)


def copies_are_the_same(subject: Subject) -> None:
    """deepcopy, pickle, save and load keep the answer."""
    model = subject.masked(subject.masks)
    with torch.no_grad():
        wanted = model(*subject.images)
        same("deepcopy", copy.deepcopy(model)(*subject.images), wanted)
        if pickles(subject.network):
            same("pickle", pickle.loads(pickle.dumps(model))(*subject.images), wanted)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.safetensors"
            ftwt.save(model, file, ftwt.Card(None, 5))
            loaded, _ = ftwt.load(file, subject.network)
            same("save and load", loaded(*subject.images), wanted)


def pickles(network: nn.Module) -> bool:
    """Whether the plain network can be pickled, as parametrized ones cannot."""
    try:
        pickle.dumps(network)
    except Exception:
        return False
    return True


def exported_is_the_same(subject: Subject) -> None:
    """torch.export keeps the answer."""
    model = subject.open
    exported = torch.export.export(model, subject.images).module()
    with torch.no_grad():
        same("export", exported(*subject.images), model(*subject.images))


CHECKS: tuple[Callable[[Subject], None], ...] = (
    open_is_plain,
    counted_is_torchs,
    skipping_is_masked,
    cut_is_masked,
    copies_are_the_same,
)
SLOW_CHECKS: tuple[Callable[[Subject], None], ...] = (exported_is_the_same,)


def check(spec: Spec, *, slow: bool = False) -> tuple[dict[str, str], dict[str, str]]:
    """What is broken and what is refused, by the name of the check."""
    broken: dict[str, str] = {}
    refused: dict[str, str] = {}
    try:
        subject = Subject(spec)
    except ftwt.FtwtError as error:
        return {}, {"attach": str(error)}
    except Exception as error:
        return {"attach": f"{type(error).__name__}: {error}"}, {}
    for one in (*CHECKS, *(SLOW_CHECKS if slow else ())):
        try:
            one(subject)
        except ftwt.FtwtError as error:
            refused[one.__name__] = str(error)
        except Broken as error:
            broken[one.__name__] = str(error)
        except Exception as error:
            broken[one.__name__] = f"{type(error).__name__}: {error}"
    return broken, refused


def plain_runs(spec: Spec) -> bool:
    """Whether the network runs at all, which ftwt has no part in."""
    try:
        network: nn.Module = spec.build()
        with torch.no_grad():
            network(*spec.images())
    except Exception:
        return False
    return True
