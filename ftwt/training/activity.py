"""Which filters of a gated network run over a data set, and what that costs layer by layer."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ftwt.gated.within import gated_in
from ftwt.training.evaluation import evaluating
from ftwt.training.inspection import Loader, first, without_gates
from ftwt.training.step import observe
from ftwt.training.tasks import LABELLED, Task
from ftwt.training.tasks.batches import moved


@dataclass(frozen=True)
class SiteActivity:
    """One site over a set of images; shares are fractions.

    `core_filters` ran for every image, `never_filters` for none. `mean_share` and `std_share` are
    over images, of the share of the site's filters that ran.
    """

    name: str
    filters: int
    core_filters: int
    never_filters: int
    mean_share: float
    std_share: float
    share_of_images_by_filter: tuple[float, ...]

    @property
    def sometimes_filters(self) -> int:
        """Filters that ran for some images and not for others."""
        return self.filters - self.core_filters - self.never_filters


@dataclass(frozen=True)
class LayerCost:
    """MACs of one layer for one image, exact: of the plain network, and on average with gates.

    `gate_macs` is what the layer's own gate costs on average, on top of `mean_macs`.
    """

    name: str
    gated: bool
    dense_macs: int
    mean_macs: float
    mean_gate_macs: float


@dataclass(frozen=True)
class Activity:
    """What a gated network did over a set of images; accuracy and reductions are fractions.

    `macs_by_image` are exact, gates included, in the order of the loader.
    """

    images: int
    accuracy: float
    dense_macs: int
    mean_macs: float
    mean_paper_macs: float
    sites: tuple[SiteActivity, ...]
    layers: tuple[LayerCost, ...]
    macs_by_image: tuple[int, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def reduction_exact(self) -> float:
        """Share of the plain network's MACs that did not have to run, gates counted."""
        return 1 - self.mean_macs / self.dense_macs

    @property
    def reduction_paper(self) -> float:
        """The same in the paper's convention."""
        return 1 - self.mean_paper_macs / self.dense_macs

    def cheapest(self, count: int) -> tuple[int, ...]:
        """Places in the loader's order of the images that cost least, cheapest first."""
        return tuple(sorted(range(self.images), key=self.macs_by_image.__getitem__)[:count])

    def dearest(self, count: int) -> tuple[int, ...]:
        """Places in the loader's order of the images that cost most, dearest first."""
        places = sorted(range(self.images), key=self.macs_by_image.__getitem__, reverse=True)
        return tuple(places[:count])

    def most_reduced(self) -> str:
        """The site whose share of running filters is the nearest to 30 %.

        The paper shows its heatmaps for a layer at about 70 % reduction.
        """
        return min(self.sites, key=lambda site: abs(site.mean_share - 0.3)).name

    def to_json(self) -> dict[str, Any]:
        """All fields and both reductions, as plain numbers, strings, lists and dicts."""
        reductions = {
            "reduction_exact": self.reduction_exact,
            "reduction_paper": self.reduction_paper,
        }
        return asdict(self) | reductions


class SumsByName:
    """Sums over batches, kept where the model runs."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor) -> None:
        """Add values (B, ...), summed over the batch."""
        total = values.sum(0)
        self._sums[name] = self._sums[name] + total if name in self._sums else total

    def add_all(self, values: Mapping[str, Tensor]) -> None:
        """The same for several names."""
        for name, one in values.items():
            self.add(name, one)

    def __getitem__(self, name: str) -> Tensor:
        return self._sums[name]

    def __contains__(self, name: str) -> bool:
        return name in self._sums


def activity(
    model: nn.Module, loader: Loader, *, limit: int | None = None, task: Task = LABELLED
) -> Activity:
    """Measure a gated network in one pass over a loader, in evaluation mode and without a graph.

    Args:
        model: a network with gates, or one that holds such a one, whose cost is then counted; its
            training mode is restored.
        loader: gives what the task takes, usually images and labels.
        limit: measure at most so many images.
        task: what the network is for; `accuracy` is its score.

    Raises:
        FtwtError: the network has no gates, the loader is empty, or `limit` is below 1.
    """
    held = gated_in(model)
    if held is None:
        raise without_gates(model, "activity")
    device = next(model.parameters()).device
    kept, kept_squared, ran, layer_macs, gate_macs, paper = (SumsByName() for _ in range(6))
    meter, macs_by_image, dense = task.meter(device), [], Counter[str]()
    with evaluating(model):
        for inputs, wanted in first(loader, limit, "activity", task):
            inputs, wanted = moved(inputs, device), moved(wanted, device)
            trace = observe(model, inputs, wanted, task=task, targets=False)
            # Of this batch's size.
            masks, plan = trace.masks, trace.plan
            for name, mask in masks.items():
                running = mask.sum(1)
                ran.add(name, mask)
                kept.add(name, running)
                kept_squared.add(name, running**2)
            layers, gates = plan.exact(masks), plan.gates(masks)
            layer_macs.add_all(layers)
            gate_macs.add_all(gates)
            paper.add("macs", plan.paper_total(masks))
            macs = torch.stack([*layers.values(), *gates.values()]).sum(0).tolist()
            macs_by_image += macs
            dense.update({layer.name: layer.dense_macs * len(macs) for layer in plan.layers})
            meter.update(task.answer(trace.output), wanted)
    count = len(macs_by_image)
    metrics = dict(meter.compute())
    costs = tuple(
        LayerCost(
            layer.name,
            layer.site is not None,
            round(dense[layer.name] / count),
            layer_macs[layer.name].item() / count,
            gate_macs[layer.site.name].item() / count if layer.site is not None else 0.0,
        )
        for layer in held.anatomy.plan.layers
    )
    return Activity(
        images=count,
        accuracy=metrics[task.score],
        dense_macs=sum(layer.dense_macs for layer in costs),
        mean_macs=sum(macs_by_image) / count,
        mean_paper_macs=paper["macs"].item() / count,
        sites=tuple(
            _site(name, ran[name], int(kept[name]), int(kept_squared[name]), count)
            for name in held.sites
        ),
        layers=costs,
        macs_by_image=tuple(macs_by_image),
        metrics=metrics,
    )


def _site(name: str, ran: Tensor, kept: int, kept_squared: int, images: int) -> SiteActivity:
    filters = len(ran)
    # Whole numbers until here, so a site that never varies has a deviation of exactly zero.
    variance = (images * kept_squared - kept**2) / images**2
    return SiteActivity(
        name=name,
        filters=filters,
        core_filters=int((ran == images).sum()),
        never_filters=int((ran == 0).sum()),
        mean_share=kept / images / filters,
        std_share=variance**0.5 / filters,
        share_of_images_by_filter=tuple((ran.double() / images).tolist()),
    )
