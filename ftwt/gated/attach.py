"""`attach`: from a plain network to a gated one."""

import inspect
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from torch import nn

from ftwt.errors import FtwtError
from ftwt.gated.anatomy import found_out
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.gated.shared import costed, gates_for, samples
from ftwt.graph.arguments import Example
from ftwt.graph.sites import Candidate, NamesSites, SiteFilter, candidates, choose
from ftwt.graph.tracing import trace


def attach(
    network: nn.Module,
    pruning: Pruning,
    *,
    example: Example,
    where: SiteFilter | None = None,
    leaves: tuple[type[nn.Module], ...] = (),
    check: bool = True,
) -> Gated:
    """Return a copy of `network` with a gate at each site; `network` itself is left untouched.

    A site is a convolution with the batch norm and activation that follow it. By default every
    convolution is one except the shortcuts of residual blocks, convolutions on 1x1 maps and those
    that make the network's output.

    Args:
        network: any network that torch.fx traces.
        pruning: gate, target and coupling.
        example: an input, or a tuple of inputs; MACs are counted for its shape. A dict gives
            arguments by name; what is no tensor in it is a switch, which stays as it is there, as
            do arguments with a default that the example leaves out.
        where: picks sites from all convolutions, instead of the default: a function of name and
            module (None for a functional convolution), or a list of names.
        leaves: module types that are not traced into.
        check: run the network and its graph side by side, forwards and backwards, and refuse if
            they differ.

    Raises:
        FtwtError: the network cannot be copied, does not trace, does not take the example, has no
            convolution or no site, or has gates already; or an argument is of another type.

    Example:
        >>> import torch
        >>> model = attach(torch.nn.Conv2d(3, 8, 3), Pruning(), example=torch.zeros(1, 3, 8, 8),
        ...                where=lambda name, module: True)
        >>> model.trace(torch.ones(2, 3, 8, 8)).macs.shape
        torch.Size([2])
    """
    if isinstance(network, Gated):
        raise FtwtError(
            "attach: this network has gates already; attach to the plain network again with "
            "another Pruning instead"
        )
    if any(isinstance(one, Gated) for one in getattr(network, "modules", list)()):
        raise FtwtError(
            f"attach: {type(network).__name__} holds a network that has gates already; attach to "
            "the plain network, and put the gated one into its place"
        )
    if not isinstance(network, nn.Module):
        raise FtwtError(f"attach: network is a {type(network).__name__}; give a torch.nn.Module")
    _check_options(pruning, where, leaves)
    traced = trace(network, example, leaves, check=check)
    found = candidates(traced)
    sites = choose(found, where, type(network).__name__)
    _check_names(traced.root, sites)
    _check_per_site(pruning, [site.name for site in sites])
    anatomy = found_out(traced, found, sites, pruning.gate)
    gates = gates_for(sites, traced, anatomy.liveness, pruning)
    gates.train(network.training)
    cost = costed(pruning.gate, gates, samples(traced.expected, traced.dtypes))
    anatomy = replace(anatomy, plan=replace(anatomy.plan, gate=cost))
    model = Gated(traced.root, gates, pruning, anatomy)
    device = next((one.device for one in network.parameters()), None)
    return model.to(device) if device is not None else model


def _check_options(pruning: Any, where: Any, leaves: Any) -> None:
    """Wrong types, which would fail much later."""
    if not isinstance(pruning, Pruning):
        came = "the class Pruning itself" if pruning is Pruning else repr(pruning)
        raise FtwtError(f"attach: pruning is {came}; give an instance, such as ftwt.Pruning()")
    if not isinstance(leaves, tuple) or not all(isinstance(one, type) for one in leaves):
        raise FtwtError(
            f"attach: leaves={leaves!r} is no tuple of module types; give leaves=(Module,)"
        )
    if where is None or isinstance(where, Collection):
        return
    if not callable(where):
        raise FtwtError(
            f"attach: where={where!r} picks nothing; give a function of name and module, or a "
            "list of names"
        )
    try:
        inspect.signature(where).bind("conv", None)
    except TypeError as error:
        raise FtwtError(
            f"attach: where= is called with a name and a module, which its function does not take "
            f"({error}); write where=lambda name, module: ..."
        ) from None
    except ValueError:
        # Built-in functions may not tell what they take.
        return


def _check_per_site(pruning: Pruning, sites: list[str]) -> None:
    """Masks and targets for sites that do not exist would be left out without a word."""
    for what, part in (("a mask", pruning.gate), ("a rule", pruning.target)):
        named = part.named_sites if isinstance(part, NamesSites) else ()
        unknown = [name for name in named if name not in sites]
        if unknown:
            raise FtwtError(
                f"attach: {type(part).__name__} has {what} for {unknown[0]!r}, which is no site; "
                f"the sites are {', '.join(sites)}"
            )


def _check_names(network: nn.Module, sites: list[Candidate]) -> None:
    """A gated network has the plain one's modules and its own names in one place."""
    own = {name for name in vars(Gated) if not name.startswith("_")} | {"gates", "pruning"}
    held = {name for name, _ in network.named_children()} | set(vars(network))
    taken = sorted((own | {"anatomy"}) & held - {"forward"})
    taken += [site.key for site in sites if hasattr(nn.ModuleDict, site.key)]
    if taken:
        raise FtwtError(
            f"attach: {type(network).__name__} has an attribute named {taken[0]!r}, a name that "
            "the gated network needs for itself; rename it"
        )
