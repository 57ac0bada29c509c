"""Static masks at given MACs, and training the narrow network that they leave."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ftwt
from ftwt import FtwtError, data, gates, targets, training
from ftwt.budget.static import (
    group_scores,
    inner_sites,
    mean_scores,
    ranked_masks,
    sensitive_masks,
    uniform_masks,
    weight_scores,
)
from ftwt.io import storage
from ftwt.slicing import narrow
from ftwt.training import evaluate, runs
from ftwt.training.preparation import prepare
from tests.small import labelled, resnet8

EXAMPLE = torch.zeros(1, 3, 32, 32)
INNER = tuple(f"layer{stage}.0.conv1" for stage in (1, 2, 3))


def whole(where=None):
    return ftwt.attach(resnet8(), ftwt.Pruning(gates.Fixed({})), example=EXAMPLE, where=where)


def masks_of(fixed):
    return {site: torch.tensor(rows[0]) for site, rows in fixed.masks.items()}


def cost(model, masks):
    return model.anatomy.plan.total({site: one[None] for site, one in masks.items()}).item()


def one_more(mask):
    more = mask.clone()
    more[mask.logical_not().nonzero()[:1, 0]] = True
    return more


@settings(max_examples=6, deadline=None)
@given(
    share=st.floats(0.45, 1.0),
    by=st.sampled_from((uniform_masks, ranked_masks, sensitive_masks)),
    seed=st.integers(0, 99),
)
def test_masks_spend_the_macs_on_the_best_scores(share, by, seed):
    model, draw = whole(INNER), torch.Generator().manual_seed(seed)
    scores = {
        site: torch.rand(len(one), generator=draw) for site, one in weight_scores(model).items()
    }
    macs = share * model.dense_macs
    images = (labelled(4, 4),) if by is sensitive_masks else ()
    masks = masks_of(by(model, scores, macs, *images))
    assert tuple(masks) == INNER
    assert cost(model, masks) <= macs
    more = {site: masks[site] if masks[site].all() else one_more(masks[site]) for site in masks}
    assert cost(model, more) > macs or all(mask.all() for mask in masks.values())
    for site, mask in masks.items():
        # One ranking ends with the first filter that is too dear, wherever it is.
        if by is not ranked_masks:
            assert mask.all() or cost(model, masks | {site: more[site]}) > macs
        assert mask.all() or scores[site][mask].min() >= scores[site][~mask].max()


def test_one_ranking_keeps_layers_whose_filters_are_alike():
    model = whole(INNER)
    # All alike; one in four outstanding; all alike but much smaller, which says nothing.
    scores = {
        INNER[0]: torch.ones(16),
        INNER[1]: torch.tensor([10.0] * 8 + [1.0] * 24),
        INNER[2]: torch.full((64,), 1e-3),
    }
    kept = {INNER[0]: 16, INNER[1]: 8, INNER[2]: 64}
    wanted = {
        site: scores[site] >= scores[site].topk(count).values[-1] for site, count in kept.items()
    }
    fixed = ranked_masks(model, scores, cost(model, wanted))
    assert {site: int(mask.sum()) for site, mask in masks_of(fixed).items()} == kept
    with pytest.raises(FtwtError, match="fewer than 50% of each layer's filters cost"):
        ranked_masks(model, scores, cost(model, wanted) / 4, least=0.5)


def test_weights_are_scored_by_their_power():
    model = whole(INNER)
    for power in (1, 2):
        found = weight_scores(model, power=power)
        for site in model.anatomy.sites:
            norm = site.module.weight.detach().flatten(1).norm(power, dim=1) ** power
            torch.testing.assert_close(found[site.name], norm)


def norms(weight, dims):
    return weight.detach().square().sum(dims)


def test_groups_are_scored_by_all_weights_that_go_with_a_filter():
    model = whole(INNER)
    blocks = model.get_submodule("layer2.0")
    torch.nn.init.uniform_(blocks.bn1.weight)
    wanted = torch.stack([
        norms(blocks.conv1.weight, (1, 2, 3)), blocks.bn1.weight.detach().square(),
        norms(blocks.conv2.weight, (0, 2, 3)),
    ]).mean(0)  # fmt: skip
    torch.testing.assert_close(group_scores(model)["layer2.0.conv1"], wanted)


def test_groups_reach_through_depthwise_layers_and_concatenations():
    class Branches(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(3, 6, 1)
            self.depthwise = torch.nn.Conv2d(10, 10, 3, groups=10)
            self.last = torch.nn.Conv2d(10, 8, 1)
            self.head = torch.nn.Linear(8, 2)

        def forward(self, x):
            both = torch.cat([self.left(x), self.right(x)], 1).relu()
            return self.head(self.last(self.depthwise(both)).mean((2, 3)))

    network = Branches().eval()
    model = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=torch.zeros(1, 3, 8, 8))
    depthwise, last = (
        norms(network.depthwise.weight, (1, 2, 3)),
        norms(network.last.weight, (0, 2, 3)),
    )
    wanted = [norms(network.right.weight, (1, 2, 3)), depthwise[4:], last[4:]]
    torch.testing.assert_close(group_scores(model)["right"], torch.stack(wanted).mean(0))
    wanted = [norms(network.last.weight, (1, 2, 3)), norms(network.head.weight, 0)]
    torch.testing.assert_close(group_scores(model)["last"], torch.stack(wanted).mean(0))


def test_mean_scores_are_means_over_images_whatever_the_batches():
    model = whole()
    images = torch.cat([batch for batch, _ in labelled(6, 6)])
    found = mean_scores(model, labelled(6, 4), score="l2")
    features = {}
    model.forward_with_masks(lambda site, output: features.update({site: output}), images)
    for site, output in features.items():
        wanted = targets.channel_scores(output, "l2").mean(0)
        torch.testing.assert_close(found[site].float(), wanted, rtol=1e-4, atol=1e-5)
    assert mean_scores(model, labelled(6, 4), limit=4).keys() == found.keys()
    with pytest.raises(FtwtError, match="mean_scores: the loader gave no images"):
        mean_scores(model, [])


def test_a_layer_that_changes_nothing_is_narrowed_first():
    network = resnet8()
    with torch.no_grad():
        # What the first block adds is zero, whatever its first convolution computes.
        network.layer1[0].bn2.weight.zero_()
        network.layer1[0].bn2.bias.zero_()
    model = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=EXAMPLE, where=INNER)
    free = cost(
        model, {site: torch.ones(16 << i, dtype=torch.bool) for i, site in enumerate(INNER)}
    )
    fixed = sensitive_masks(model, weight_scores(model), 0.65 * free, labelled(8, 4))
    kept = {site: int(mask.sum()) for site, mask in masks_of(fixed).items()}
    assert kept[INNER[0]] <= 2
    assert kept[INNER[1]] > 16
    assert kept[INNER[2]] > 32


def test_depthwise_sites_follow_the_channels_that_they_are_given():
    torch.manual_seed(0)
    network = ftwt.backbones.mobilenet_v1(width=0.25).eval()
    model = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=EXAMPLE)
    assert inner_sites(network, EXAMPLE) == model.sites
    fixed = uniform_masks(model, weight_scores(model), 0.4 * model.dense_macs)
    masks, before = masks_of(fixed), None
    followed = 0
    for site in model.anatomy.sites:
        if site.module.groups > 1:
            assert torch.equal(masks[site.name], masks[before])
            followed += 1
        before = site.name
    assert followed == 13
    small = narrow(ftwt.attach(network, ftwt.Pruning(fixed), example=EXAMPLE), masks)
    assert small.dense_macs == cost(model, masks)
    assert 0.38 * model.dense_macs < small.dense_macs <= 0.4 * model.dense_macs


def test_fewer_macs_than_one_filter_a_layer_are_refused():
    model = whole()
    with pytest.raises(FtwtError, match="10 MACs are fewer than one filter in each layer costs"):
        sensitive_masks(model, weight_scores(model), 10, labelled(2, 2))


def test_a_narrow_network_is_trained_as_its_masked_one(tmp_path):
    network = resnet8()
    model = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=EXAMPLE, where=INNER)
    fixed = uniform_masks(model, weight_scores(model), 0.6 * model.dense_macs)
    masked = ftwt.attach(network, ftwt.Pruning(fixed), example=EXAMPLE, where=INNER)
    small = narrow(masked, masks_of(fixed))
    card = storage.Card("cifar10-resnet8", 10)
    for file, one in (("dense", network), ("model", small)):
        storage.save(one, tmp_path / f"{file}.safetensors", card)
    shapes = data.load("shapes", limit=128)
    objective = ftwt.losses.CrossEntropy() + ftwt.losses.Distillation()
    plan = training.Settings(
        (training.Phase("train", 1),), training.Sgd(0.05, schedule=training.Constant())
    )
    names = {"recipe": "cifar10-resnet8", "settings": plan, "objective": objective}
    narrowed = training.Recipe(*names.values(), small.pruning, batch_size=32)
    at_masks = training.Recipe(*names.values(), masked.pruning, batch_size=32, sites=INNER)
    start = prepare(narrowed, shapes, init=tmp_path).model.eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(start(images), masked(images), rtol=1e-4, atol=1e-4)
    first, _ = runs.train_run(narrowed, shapes, tmp_path / "narrow", init=tmp_path)
    second, _ = runs.train_run(
        at_masks, shapes, tmp_path / "masked", init=tmp_path / "dense.safetensors"
    )
    torch.testing.assert_close(first(images), second(images), rtol=1e-2, atol=1e-2)
    batches = [(images, torch.zeros(2, dtype=torch.long))]
    assert evaluate(first, batches).macs == evaluate(second, batches).macs
    again, _ = storage.load(tmp_path / "narrow")
    torch.testing.assert_close(again(images), first(images))
