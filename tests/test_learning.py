"""Gates learn: what they answer comes nearer to what their targets say, image by image."""

import pytest
import torch

import ftwt
from ftwt import backbones, data, gates, losses, targets, training


@pytest.fixture(scope="module")
def split():
    shapes = data.shapes.render_shapes(1400, 3, 0)
    train, held = shapes.select(torch.arange(1200)), shapes.select(torch.arange(1200, 1400))
    how = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    return data.Batches(train, 60, shuffle=True, **how), data.Batches(held, 200, **how)


def agreement(model, batches):
    """Shares of mask bits that are right for the own image, and for the image beside it."""
    [(images, _)] = list(batches)
    with torch.no_grad():
        trace = model.trace(images)
    masks, wanted = (
        torch.cat([getattr(site, name) for site in trace.sites.values()], 1)
        for name in ("mask", "target")
    )
    return [(masks == other).double().mean().item() for other in (wanted, wanted.roll(1, 0))]


def test_masks_come_nearer_to_the_targets_of_their_own_images(split):
    torch.manual_seed(0)
    train, held = split
    pruning = ftwt.Pruning(gates.PooledLinear(normalize="layer"), targets.HeatmapMass(0.6))
    model = ftwt.attach(backbones.resnet8(), pruning, example=torch.zeros(1, 3, 32, 32)).eval()
    settings = training.Settings(
        (training.Phase("gates", 3, train="gates"),), training.Sgd(0.01), training.Sgd(0.3)
    )
    before, _ = agreement(model, held)
    objective = losses.CrossEntropy() + losses.GateBCE()
    state = training.start(model, settings, len(train))
    training.fit(state, objective, settings, train, held)
    after, beside = agreement(model.eval(), held)
    assert after > before + 0.15
    # By what they see of an image, not by what most images want.
    assert after > beside + 0.05
