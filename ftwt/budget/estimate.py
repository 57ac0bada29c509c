"""What target rules would save, for a whole grid of them from one pass over the data."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ftwt.budget.families import NestedRules, check_distinct, families
from ftwt.gated.model import Gated
from ftwt.io import specs
from ftwt.macs import GridCounts, count_grid
from ftwt.targets import Ranking, Score, Target
from ftwt.targets.interface import amount_of
from ftwt.training.activity import LayerCost, SumsByName
from ftwt.training.evaluation import evaluating
from ftwt.training.inspection import Loader, check_gated, first
from ftwt.training.tasks import LABELLED, Meter, Task
from ftwt.training.tasks.batches import moved


@dataclass(frozen=True)
class Applied:
    """A rule with its masks applied, so that each site reads what the masks before it left.

    `difference` is the exact reduction of the one-pass estimate less this one; fractions.
    """

    accuracy: float
    reduction_exact: float
    reduction_paper: float
    difference: float


@dataclass(frozen=True)
class EstimateRow:
    """What an oracle that follows one rule would save: MACs for one image, exact unless said.

    Means and standard deviations are over images. `mean_gate_macs` is what the model's gates would
    cost on top, for the inputs that these masks leave live.
    """

    rule: Target
    dense_macs: int
    mean_macs: float
    std_macs: float
    mean_gate_macs: float
    mean_paper_macs: float
    std_paper_macs: float
    layers: tuple[LayerCost, ...]
    applied: Applied | None = None

    def amount(self, name: str) -> float | None:
        """How much the rule keeps, if that is what it calls its amount."""
        return amount_of(self.rule, name)

    @property
    def reduction_exact(self) -> float:
        """Share of the plain network's MACs that an oracle, which costs nothing, would save."""
        return 1 - self.mean_macs / self.dense_macs

    @property
    def reduction_with_gates(self) -> float:
        """The same with the model's gates counted, as a trained network will have them."""
        return 1 - (self.mean_macs + self.mean_gate_macs) / self.dense_macs

    @property
    def reduction_paper(self) -> float:
        """The same as `reduction_exact` in the paper's convention."""
        return 1 - self.mean_paper_macs / self.dense_macs


@dataclass(frozen=True)
class Estimate:
    """A grid of rules on one network; `dense_accuracy` is that with every filter on."""

    images: int
    dense_accuracy: float
    dense_macs: int
    rows: tuple[EstimateRow, ...]

    def to_json(self) -> dict[str, Any]:
        """All figures as plain numbers, strings, lists and dicts."""
        rows = [
            {
                "mass": row.amount("mass"),
                "fraction": row.amount("fraction"),
                "rule": specs.to_json(row.rule),
                "reduction_exact": row.reduction_exact,
                "reduction_with_gates": row.reduction_with_gates,
                "reduction_paper": row.reduction_paper,
                "std_reduction_exact": row.std_macs / row.dense_macs,
                "std_reduction_paper": row.std_paper_macs / row.dense_macs,
                "accuracy": row.applied.accuracy if row.applied else None,
                "sequential": asdict(row.applied) if row.applied else None,
                "layers": [asdict(layer) for layer in row.layers],
            }
            for row in self.rows
        ]
        return {
            "images": self.images,
            "dense_accuracy": self.dense_accuracy,
            "dense_macs": self.dense_macs,
            "rows": rows,
        }


def estimate(
    model: Gated,
    loader: Loader,
    rules: Sequence[Target],
    *,
    sequential: bool = False,
    limit: int | None = None,
    task: Task = LABELLED,
) -> Estimate:
    """Count what each rule would leave to run, from one pass with every filter on.

    Nothing is trained, and the model's gates are not asked: each site's channels are ranked once,
    and the masks of all masses follow. Masks of earlier sites are not applied, so each site is
    judged by what it would put out in the plain network. `sequential` also applies the masks, in a
    pass by itself for each rule, which tells the accuracy and by how much the estimate is off.

    Args:
        model: a network with gates, trained or not; its own target is not used.
        loader: gives (images, labels), read once.
        rules: targets, for example `[targets.HeatmapMass(m) for m in (0.8, 0.9)]`; any that
            differ in more than their mass or fraction may be mixed.
        sequential: measure accuracy and cost with the masks applied, too.
        limit: use at most so many images.
        task: what the network is for; accuracies are then its scores.

    Raises:
        FtwtError: no rules, a rule twice or masses that fall, an empty loader, a plain network.
    """
    check_gated(model, "estimate")
    check_distinct(rules, "estimate")
    groups = families(rules)
    device = next(model.parameters()).device
    sums = [_Sums() for _ in groups]
    applied = [_Outcome(task, task.meter(device)) for _ in rules]
    meter, images_seen = task.meter(device), 0
    with evaluating(model):
        for images, labels in first(loader, limit, "estimate", task):
            images, labels = moved(images, device), moved(labels, device)
            noted = Strengths(groups)
            output = model.forward_with_masks(noted, images)
            meter.update(task.answer(output), labels)
            images_seen += len(labels)
            for summed, group, strengths in zip(sums, groups, noted.strengths, strict=True):
                summed.add(count_grid(model.anatomy.plan, strengths, group.top))
            if sequential:
                for rule, outcome in zip(rules, applied, strict=True):
                    outcome.add(model, rule, images, labels)
    rows: dict[int, EstimateRow] = {}
    for summed, group in zip(sums, groups, strict=True):
        for setting, place in enumerate(group.places):
            rows[place] = summed.row(
                model, rules[place], setting, applied[place] if sequential else None
            )
    accuracy = meter.compute()[task.score]
    ordered = tuple(rows[place] for place in range(len(rules)))
    return Estimate(images_seen, accuracy, model.dense_macs, ordered)


class Strengths:
    """Notes, for each family, the strength of every channel of every site; masks nothing."""

    def __init__(self, groups: Sequence[NestedRules]) -> None:
        self._groups = groups
        self.strengths: tuple[dict[str, Tensor], ...] = tuple({} for _ in groups)

    def __call__(self, site: str, features: Tensor) -> None:
        """Look at one site's output."""
        rankings: dict[Score, Ranking] = {}
        for group, found in zip(self._groups, self.strengths, strict=True):
            found[site] = group.strengths(features, rankings)


class _Sums:
    """Sums over batches of one family's counts."""

    def __init__(self) -> None:
        self._layers, self._gates = SumsByName(), SumsByName()
        self._totals: list[Tensor] = []
        self._papers: list[Tensor] = []

    def add(self, counts: GridCounts) -> None:
        self._layers.add_all(counts.layers)
        self._gates.add_all(counts.gates)
        self._totals.append(torch.stack(list(counts.layers.values())).sum(0))
        self._papers.append(torch.stack(list(counts.paper.values())).sum(0))

    def row(
        self, model: Gated, rule: Target, setting: int, outcome: "_Outcome | None"
    ) -> EstimateRow:
        macs = torch.cat([one[:, setting] for one in self._totals]).double()
        paper = torch.cat([one[:, setting] for one in self._papers]).double()
        images = len(macs)
        layers = tuple(
            LayerCost(
                layer.name,
                layer.site is not None,
                layer.dense_macs,
                self._layers[layer.name][setting].item() / images,
                self._gates[layer.site.name][setting].item() / images
                if layer.site is not None and layer.site.name in self._gates
                else 0.0,
            )
            for layer in model.anatomy.plan.layers
        )
        row = EstimateRow(
            rule=rule,
            dense_macs=model.dense_macs,
            mean_macs=macs.mean().item(),
            std_macs=macs.std(correction=0).item(),
            mean_gate_macs=sum(layer.mean_gate_macs for layer in layers),
            mean_paper_macs=paper.mean().item(),
            std_paper_macs=paper.std(correction=0).item(),
            layers=layers,
        )
        return row if outcome is None else outcome.onto(row)


class _Outcome:
    """What came of one rule's masks when they were applied."""

    def __init__(self, task: Task, meter: Meter) -> None:
        self.images = self.macs = self.paper_macs = 0
        self.task, self.meter = task, meter

    def add(self, model: Gated, rule: Target, images: Tensor, labels: Any) -> None:
        masks: dict[str, Tensor] = {}

        def decide(site: str, features: Tensor) -> Tensor:
            masks[site] = rule.keep(features)
            return masks[site]

        output = model.forward_with_masks(decide, images)
        plan = model.anatomy.plan
        self.meter.update(self.task.answer(output), labels)
        self.macs += int(torch.stack(list(plan.exact(masks).values())).sum())
        self.paper_macs += int(plan.paper_total(masks).sum())
        self.images += len(labels)

    def onto(self, row: EstimateRow) -> EstimateRow:
        exact = 1 - self.macs / self.images / row.dense_macs
        paper = 1 - self.paper_macs / self.images / row.dense_macs
        accuracy = self.meter.compute()[self.task.score]
        applied = Applied(accuracy, exact, paper, row.reduction_exact - exact)
        return replace(row, applied=applied)
