"""What counts right answers refuses networks and labels of another task, with one message."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from itertools import product

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

import ftwt
from ftwt import budget, losses, targets, training
from ftwt.losses.classification import right_answers

Pair = namedtuple("Pair", "logits features")


@dataclass
class Answer:
    logits: torch.Tensor


class Answers(nn.Module):
    """A convolutional classifier that wraps its logits."""

    def __init__(self, wrap):
        super().__init__()
        self.a, self.b, self.wrap = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 1), wrap

    def forward(self, images):
        maps = self.b(self.a(images).relu())
        return self.wrap(maps.mean((2, 3)), maps)


WRONG_OUTPUTS = {
    "label maps": lambda logits, maps: maps,
    "dict": lambda logits, maps: {"out": maps},
    "ordered dict": lambda logits, maps: OrderedDict(out=logits),
    "tuple": lambda logits, maps: (logits, maps),
    "list": lambda logits, maps: [logits],
    "named tuple": lambda logits, maps: Pair(logits, maps),
    "one number": lambda logits, maps: logits[:, :1],
    "no classes": lambda logits, maps: logits[:, 0],
    "classes already": lambda logits, maps: logits.argmax(1),
}
WRONG_LABELS = {
    "maps": torch.zeros(12, 6, 6, dtype=torch.long),
    "floats": torch.zeros(12),
    "a column": torch.zeros(12, 1, dtype=torch.long),
    "one-hot": torch.nn.functional.one_hot(torch.zeros(12, dtype=torch.long), 3),
    "fewer": torch.zeros(11, dtype=torch.long),
}


def fit(model, batches):
    settings = training.Settings((training.Phase("all", 1),), training.Sgd(0.01), training.Sgd(0.1))
    objective = losses.Objective.of(losses.GateBCE())
    training.fit(
        training.start(model, settings, len(batches)), objective, settings, batches, batches
    )


MEASURES = {
    "evaluate": training.evaluate,
    "activity": training.activity.activity,
    "estimate": lambda model, batches: budget.estimate(model, batches, [targets.TopK(0.5)]),
    "calibrate": lambda model, batches: ftwt.calibrate(model, batches, reductions=[0.1]),
    "solve": lambda model, batches: ftwt.solve(model, batches, reduction=0.1),
    "slim": ftwt.slim,
    "fit": fit,
}


def attached(wrap):
    torch.manual_seed(0)
    return ftwt.attach(Answers(wrap), ftwt.Pruning(), example=torch.zeros(1, 3, 6, 6)).eval()


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("output", WRONG_OUTPUTS)
def test_every_measure_refuses_what_is_no_classifier(measure, output):
    batches = [(torch.randn(12, 3, 6, 6), torch.zeros(12, dtype=torch.long))]
    model = attached(WRONG_OUTPUTS[output])
    with pytest.raises(ftwt.FtwtError, match=r"network's output is .*, expected logits"):
        MEASURES[measure](model, batches)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("labels", WRONG_LABELS)
def test_every_measure_refuses_labels_that_are_not_one_class_each(measure, labels):
    batches = [(torch.randn(12, 3, 6, 6), WRONG_LABELS[labels])]
    with pytest.raises(ftwt.FtwtError, match=r"labels are .*, expected the class of each input"):
        MEASURES[measure](attached(lambda logits, maps: logits), batches)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    "batch",
    [
        {"image": torch.zeros(12, 3, 6, 6), "label": torch.zeros(12)},
        (torch.zeros(12, 3, 6, 6), [{"boxes": torch.zeros(1, 4)}] * 12),
        (torch.zeros(12, 3, 6, 6),),
        torch.zeros(2, 3, 6, 6),
    ],
    ids=["dict", "boxes", "images alone", "a tensor"],
)
def test_every_measure_refuses_batches_that_are_no_pairs(measure, batch):
    with pytest.raises(ftwt.FtwtError, match=r"the loader gave \(.*expected \(images, labels\)"):
        MEASURES[measure](attached(lambda logits, maps: logits), [batch])


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_whole_numbers_of_any_width_are_classes(kind):
    logits = torch.eye(3)
    assert int(right_answers(logits, torch.tensor([0, 1, 0], dtype=kind))) == 2


def test_a_dataclass_is_named():
    with pytest.raises(ftwt.FtwtError, match="output is Answer, expected logits"):
        right_answers(Answer(torch.zeros(2, 3)), torch.zeros(2, dtype=torch.long))


def test_cross_entropy_takes_soft_labels_and_narrow_classes_but_no_maps():
    trace = attached(lambda logits, maps: logits).trace(torch.randn(2, 3, 6, 6))
    hard = torch.tensor([0, 2])
    exact = losses.CrossEntropy()(trace, hard)
    soft = nn.functional.one_hot(hard, 3).float()
    torch.testing.assert_close(losses.CrossEntropy()(trace, soft), exact)
    torch.testing.assert_close(losses.CrossEntropy()(trace, hard.to(torch.int32)), exact)
    with pytest.raises(ftwt.FtwtError, match="CrossEntropy: the labels are"):
        losses.CrossEntropy()(trace, torch.zeros(2, 6, 6, dtype=torch.long))


@given(st.integers(0, 2**16), st.sampled_from([(4,), (3, 5)]))
def test_of_maps_the_share_of_positions_that_are_right_counts(seed, space):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(6, 4, *space, generator=generator)
    labels = torch.randint(0, 4, (6, *space), generator=generator)
    void = torch.rand(6, *space, generator=generator) < 0.3
    labels = labels.where(~void, torch.tensor([255, -100])[seed % 2])
    wanted = 0.0
    for i in range(6):
        kept = [
            bool(maps[(i, slice(None), *at)].argmax() == labels[(i, *at)])
            for at in product(*map(range, space))
            if labels[(i, *at)] not in (255, -100)
        ]
        wanted += sum(kept) / len(kept) if kept else 0.0
    assert right_answers(maps, labels).item() == pytest.approx(wanted)
    assert 0 <= training.evaluate(Fed(maps), [(maps, labels)]).accuracy <= 1


class Fed(nn.Module):
    """Answers with what it is given."""

    def __init__(self, maps):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, maps):
        return maps * self.scale


def test_a_map_of_classes_that_the_network_does_not_know_is_refused():
    with pytest.raises(ftwt.FtwtError, match="holds 4, but the network knows the classes 0 to 3"):
        right_answers(torch.rand(1, 4, 2), torch.tensor([[1, 4]]))


def test_networks_of_maps_agree_by_position():
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    model = ftwt.attach(network, ftwt.Pruning(), example=torch.zeros(1, 3, 6, 6)).eval()
    batches = [(torch.randn(5, 3, 6, 6), torch.randint(0, 4, (5, 6, 6)))]
    _, _, agreement = ftwt.slim(model, batches)
    assert agreement.same_class == agreement.images == 5


@pytest.mark.parametrize("maps", [False, True])
def test_answers_of_nan_are_of_no_class(maps):
    network = Answers(lambda logits, found: (found if maps else logits) / 0 * 0)
    labels = torch.zeros(4, 6, 6) if maps else torch.zeros(4)
    loader = [(torch.rand(4, 3, 6, 6), labels.long())]
    with pytest.raises(ftwt.FtwtError, match="accuracy: the network answers NaN for 4 of 4 images"):
        training.evaluate(network, loader)
    with pytest.raises(ftwt.FtwtError, match="agreement: the network answers NaN for 4 of 4"):
        ftwt.analysis.agreement(network, network, loader)
