"""Fine-tuning of any network, whose rates do not undo what trained weights know."""

from ftwt import gates, losses
from ftwt.training.optimizers import AdamW, Cosine, Warmup
from ftwt.training.phases import Phase, freeze_gates_halfway
from ftwt.training.recipes.parts import method
from ftwt.training.recipes.recipe import Overrides, Recipe
from ftwt.training.settings import Settings

_BATCH = 64
# torch's own. torchvision's MobileNetV3 has a tenth of it: of some hundred steps from scratch its
# statistics know so little that validation stays at chance.
_MOMENTUM = 0.1


def general_dense(network: str, overrides: Overrides) -> Recipe:
    """Any network without gates: 20 epochs of AdamW, lr 0.001 along a cosine after a warm-up."""
    settings = Settings(
        (Phase("dense", overrides.epochs or 20),),
        AdamW(1e-3, schedule=Warmup(Cosine())),
        amp="auto",
        clip_norm=5.0,
        norm_momentum=_MOMENTUM,
        seed=overrides.seed or 0,
    )
    return Recipe(network, settings, losses.Objective.of(losses.CrossEntropy()), batch_size=_BATCH)


def general_dynamic(network: str, overrides: Overrides) -> Recipe:
    """Any trained network: gates start open and learn alone first; AdamW, lr 0.0002, 12 epochs.

    Gates that would cost more than a twentieth of their convolution are of low rank. They learn by
    AdamW, too: their loss is a mean over sites, whose gradient is so small in networks of fifty of
    them that gates which start open would need thousands of steps of SGD to close.
    """
    gate = gates.ByCost(
        gates.PooledLinear(normalize=overrides.normalize, open=1.0),
        gates.Bottleneck(8, open=1.0),
        share=0.05,
    )
    pruning, objective = method(overrides, gate, 0.9)
    settings = Settings(
        _phases(overrides.epochs or 12),
        AdamW(2e-4, schedule=Warmup(Cosine())),
        AdamW(0.02, weight_decay=0.0, schedule=Warmup(Cosine())),
        amp="auto",
        clip_norm=5.0,
        norm_momentum=_MOMENTUM,
        seed=overrides.seed or 0,
    )
    return Recipe(network, settings, objective, pruning, _BATCH)


def _phases(epochs: int) -> tuple[Phase, ...]:
    alone = epochs // 6
    if not alone:
        return freeze_gates_halfway(epochs)
    return (Phase("gates alone", alone, train="gates"), *freeze_gates_halfway(epochs - alone))
