"""What a perfect gate would save: accuracy and cost over the heatmap mass, without training."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from ftwt.budget.profile import check_loader
from ftwt.errors import FtwtError
from ftwt.gated.attach import attach
from ftwt.gated.pruning import Pruning
from ftwt.gates import Oracle
from ftwt.graph.sites import SiteFilter
from ftwt.targets import HeatmapMass
from ftwt.training.evaluation import evaluate
from ftwt.training.inspection import Loader


class HasReductions(Protocol):
    """Anything with an accuracy and both reductions, as fractions."""

    @property
    def accuracy(self) -> float:
        """Share of images that were classified rightly."""
        ...

    @property
    def reduction_exact(self) -> float:
        """Share of the plain network's MACs that did not have to run, gates counted."""
        ...

    @property
    def reduction_paper(self) -> float:
        """The same in the paper's convention."""
        ...


@dataclass(frozen=True)
class CurveRow:
    """An oracle at one heatmap mass; fractions."""

    mass: float
    accuracy: float
    reduction_exact: float
    reduction_paper: float


@dataclass(frozen=True)
class Curve:
    """Oracles over several masses, with the plain network's accuracy; fractions."""

    images: int
    dense_accuracy: float
    rows: tuple[CurveRow, ...]

    def to_json(self) -> dict[str, Any]:
        """All fields as plain numbers, lists and dicts."""
        return asdict(self)


def oracle_curve(
    network: nn.Module,
    loader: Loader,
    masses: Sequence[float],
    *,
    example: Tensor | tuple[Tensor, ...],
    where: SiteFilter | None = None,
) -> Curve:
    """Evaluate a plain network under `gates.Oracle()` for each heatmap mass.

    An oracle costs nothing and is never wrong, so this tells what the target rule by itself saves
    and loses. One pass over the loader for each mass, and one for the plain network.

    Args:
        network: a plain network; it is left untouched.
        loader: gives (images, labels), and can be iterated again and again.
        masses: heatmap masses in (0, 1].
        example: an input of the network; MACs are counted for its shape.
        where: picks sites by name and module, as in `ftwt.attach`.

    Raises:
        FtwtError: no mass is given or one is outside (0, 1], the loader is empty or can be iterated
            only once, or the network cannot be gated.
    """
    if not masses:
        raise FtwtError("oracle_curve: masses is empty; give at least one, for example [0.9]")
    check_loader(loader, "oracle_curve")
    # Made first, so that a bad mass or network is told before anything long runs.
    prunings = [Pruning(gate=Oracle(), target=HeatmapMass(mass)) for mass in masses]
    models = [attach(network, pruning, example=example, where=where) for pruning in prunings]
    dense = evaluate(network, loader)
    rows = []
    for mass, model in zip(masses, models, strict=True):
        result = evaluate(model, loader)
        rows.append(CurveRow(mass, result.accuracy, result.reduction_exact, result.reduction_paper))
    return Curve(dense.images, dense.accuracy, tuple(rows))
