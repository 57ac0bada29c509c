"""Torch-Pruning (Fang et al., "DepGraph", arXiv 2301.12900) as a static arm from outside."""

import copy
import importlib
from typing import Any

import torch
from torch import nn

from benchmarks.pareto.study import Study
from ftwt.errors import FtwtError
from ftwt.gated.model import Gated
from ftwt.gates import Fixed
from ftwt.macs import dense_macs

# Small steps, so that the last one comes near to the MACs asked for.
_STEPS, _MOST = 200, 0.95


def by_torch_pruning(study: Study, whole: Gated, macs: float) -> Fixed:
    """Its group magnitude (L2), one ranking over all layers; the filters that it left.

    It prunes the sites that all arms prune: through shortcuts that pad channels, as those of
    CIFAR's ResNets, it does not find its way.

    Raises:
        FtwtError: it is not installed, or does not reach so few MACs.
    """
    pruning = _library()
    network = copy.deepcopy(study.plain).eval()
    inner = {network.get_submodule(name): name for name in study.inner_sites}
    pruner = pruning.pruner.BasePruner(
        network,
        study.example,
        importance=pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        iterative_steps=_STEPS,
        pruning_ratio=_MOST,
        max_pruning_ratio=_MOST,
        ignored_layers=[
            one
            for one in network.modules()
            if isinstance(one, (nn.Conv2d, nn.Linear)) and one not in inner
        ],
    )
    masks = {name: torch.ones(_width(layer), dtype=torch.bool) for layer, name in inner.items()}
    for _ in range(_STEPS):
        cost = whole.anatomy.plan.total({name: mask[None] for name, mask in masks.items()}).item()
        if cost <= macs:
            # Its network, counted as it is, is what the masks stand for.
            assert cost == dense_macs(network, study.example)
            return Fixed(masks)
        for group in pruner.step(interactive=True):
            mask = masks[inner[group[0].dep.target.module]]
            mask[mask.nonzero().flatten()[group[0].idxs]] = False
            group.prune()
    raise FtwtError(f"pareto: Torch-Pruning does not reach {macs:,.0f} MACs")


def _library() -> Any:
    try:
        return importlib.import_module("torch_pruning")
    except ImportError:
        raise FtwtError(
            "pareto: install Torch-Pruning for this arm: pip install ftwt[peers]"
        ) from None


def _width(layer: nn.Module) -> int:
    assert isinstance(layer, nn.Conv2d)
    return layer.out_channels
