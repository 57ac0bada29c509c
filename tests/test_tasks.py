"""Tasks: each measure and training reads outputs and batches as a task says, or refuses by name."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

import ftwt
from ftwt import budget, gates, losses, targets, training
from ftwt.io import specs
from ftwt.training import tasks
from tests.small import refused

DEVICE = torch.device("cpu")


@dataclass
class Answer:
    """What a library's model returns: not logits, but something that holds them."""

    logits: torch.Tensor
    hidden: torch.Tensor


Pair = namedtuple("Pair", "logits hidden")


@dataclass
class Both(dict):
    """As some libraries have it, a dictionary whose entries are fields."""

    logits: torch.Tensor | None = None
    hidden: torch.Tensor | None = None

    def __post_init__(self):
        self.update(logits=self.logits, hidden=self.hidden)


class Net(nn.Module):
    """Wraps what it answers; `wrap` gets vectors and maps."""

    def __init__(self, wrap, classes=3):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, classes, 1)
        self.wrap = wrap

    def forward(self, images):
        maps = self.b(self.a(images).relu())
        return self.wrap(maps.mean((2, 3)), maps)


def attached(wrap, classes=3):
    torch.manual_seed(0)
    return ftwt.attach(Net(wrap, classes), ftwt.Pruning(), example=torch.zeros(1, 3, 6, 6)).eval()


WRAPPED = {
    "tuple": (lambda v, m: (v, m), lambda out: out[0]),
    "place": (lambda v, m: (v, m), 0),
    "dict": (lambda v, m: {"out": v, "aux": m}, "out"),
    "named tuple": (lambda v, m: Pair(v, m), "logits"),
    "dataclass": (Answer, "logits"),
    "dictionary with fields": (Both, "logits"),
    "auxiliary loss": (lambda v, m: [m.sum(), v], lambda out: out[-1]),
}
IMAGES = torch.randn(24, 3, 6, 6, generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(24) % 3
BATCHES = [(IMAGES[:12], LABELS[:12]), (IMAGES[12:], LABELS[12:])]
SETTINGS = training.Settings((training.Phase("all", 1),), training.Sgd(0.01), training.Sgd(0.1))


def fitted(model, batches, task, objective=None):
    rows = []
    state = training.start(model, SETTINGS, len(batches))
    objective = objective or task.loss() + losses.GateBCE()
    training.fit(
        state, objective, SETTINGS, batches, batches, task=task,
        after_epoch=lambda row, state: rows.append(row),
    )  # fmt: skip
    return rows[0]


MEASURES = {
    "evaluate": lambda model, task: training.evaluate(model, BATCHES, task=task),
    "estimate": lambda model, task: budget.estimate(
        model, BATCHES, [targets.TopK(0.5)], sequential=True, task=task
    ),
    "solve": lambda model, task: ftwt.solve(
        model, BATCHES, reduction=0.1, per_layer=True, task=task
    ),
    "calibrate": lambda model, task: (
        ftwt.calibrate(model, BATCHES, reduction=0.01, task=task).operating_points
    ),
    "slim": lambda model, task: ftwt.slim(model, BATCHES, task=task)[1:],
    "activity": lambda model, task: training.activity.activity(model, BATCHES, task=task),
}


@pytest.mark.parametrize(
    ("measure", "output"),
    [*((one, "tuple") for one in MEASURES), *(("evaluate", one) for one in WRAPPED)],
)
def test_a_wrapped_network_measures_as_the_bare_one(measure, output):
    wrap, where = WRAPPED[output]
    bare = MEASURES[measure](attached(lambda v, m: v), tasks.Classification())
    wrapped = MEASURES[measure](attached(wrap), tasks.Classification(logits=where))
    assert repr(wrapped) == repr(bare)


class Named(dict):
    """A dictionary whose entries are read as attributes."""

    __getattr__ = dict.__getitem__


@pytest.mark.parametrize(
    "wrap",
    [Both, Answer, Pair, lambda v, m: Named(out=v, aux=m), lambda v, m: OrderedDict(out=v, aux=m)],
)
def test_answers_are_of_the_networks_own_type(wrap):
    model = attached(wrap)
    for network in (model, ftwt.runtime.skip(model)):
        assert type(network(IMAGES)) is type(wrap(IMAGES, IMAGES))


@pytest.mark.parametrize("output", ["tuple", "dataclass"])
def test_a_wrapped_network_trains_as_the_bare_one(output):
    wrap, where = WRAPPED[output]
    teacher = losses.CrossEntropy() + losses.GateBCE() + losses.Distillation()
    rows = []
    for net, task in (
        (Net(lambda v, m: v), tasks.Classification()),
        (Net(wrap), tasks.Classification(logits=where)),
    ):
        torch.manual_seed(0)
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.3)
        found = (
            ftwt.Pipeline(net, example=IMAGES[:1])
            .gate(gates.PooledLinear())
            .target(targets.HeatmapMass(0.8))
            .loss(teacher)
            .schedule(training.Phase("all", 1))
            .fit(BATCHES, BATCHES, task=task)
        )
        rows.append((found.history[0].losses, found.history[0].validation))
    assert rows[0] == rows[1]


@pytest.mark.parametrize("measure", MEASURES)
def test_without_a_task_the_message_says_where_to_put_it(measure):
    model = attached(lambda v, m: (v, m))
    for task in (tasks.LABELLED, tasks.Classification()):
        refused(r"output is tuple, expected logits .*logits=lamb", MEASURES[measure], model, task)
    with pytest.raises(ftwt.FtwtError, match=r"logits='out' finds nothing in .*a tuple"):
        MEASURES[measure](model, tasks.Classification(logits="out"))


def test_top_5_by_hand_and_only_where_it_says_something():
    logits = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 8
    meter = tasks.Classification().meter(DEVICE)
    for part in (slice(0, 16), slice(16, 40)):
        meter.update(logits[part], labels[part])
    order = logits.argsort(1, descending=True)
    rank = (order == labels[:, None]).int().argmax(1)
    found = meter.compute()
    assert found == pytest.approx(
        {"accuracy": (rank == 0).double().mean().item(), "top5": (rank < 5).double().mean().item()}
    )
    small = training.evaluate(attached(lambda v, m: v), BATCHES)
    assert list(small.metrics) == ["accuracy"]
    assert small.metrics["accuracy"] == small.accuracy


maps = st.integers(2, 4).flatmap(lambda classes: st.tuples(st.just(classes), st.integers(0, 2**16)))


@given(maps)
def test_mean_iou_is_that_of_the_sets_of_positions(drawn):
    pytest.importorskip("torchmetrics")
    classes, seed = drawn
    generator = torch.Generator().manual_seed(seed)
    logits = torch.rand(3, classes, 2, 3, generator=generator)
    labels = torch.randint(classes, (3, 2, 3), generator=generator)
    labels[0, 0, 0], labels[1, 0, 0] = 255, -100
    meter = tasks.Segmentation(classes).meter(DEVICE)
    for i in range(3):
        meter.update(logits[i : i + 1], labels[i : i + 1])
    told = (labels != 255) & (labels != -100)
    answer, wanted = logits.argmax(1)[told], labels[told]
    overlaps = []
    for one in range(classes):
        union = ((answer == one) | (wanted == one)).sum().item()
        if union:
            overlaps.append(((answer == one) & (wanted == one)).sum().item() / union)
    assert meter.compute()["mean_iou"] == pytest.approx(sum(overlaps) / len(overlaps), abs=1e-6)


def test_segmentation_and_regression_go_through_everything(monkeypatch):
    pytest.importorskip("torchmetrics")
    wanted = torch.randint(3, (24, 6, 6), generator=torch.Generator().manual_seed(0))
    pixels = [(IMAGES, wanted)]
    numbers = [(IMAGES, torch.randn(24, 3, generator=torch.Generator().manual_seed(1)))]
    for task, wrap, batches in (
        (tasks.Segmentation(3, logits="out"), lambda v, m: {"out": m}, pixels),
        (tasks.Regression(), lambda v, m: v, numbers),
    ):
        monkeypatch.setitem(globals(), "BATCHES", batches)
        row = fitted(attached(wrap), batches, task)
        model = attached(wrap)
        seen = training.evaluate(model, batches, task=task)
        assert set(seen.metrics) == set(row.validation.metrics) > {task.score}
        for measure in MEASURES.values():
            assert measure(model, task) is not None


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4), st.booleans())
def test_the_best_epoch_is_the_lowest_error_or_the_highest_score(scores, larger):
    from ftwt.training.evaluation import is_better

    task = tasks.Classification() if larger else tasks.Regression()
    best = None
    for score in scores:
        best = score if is_better(task, score, best) else best
    assert best == (max if larger else min)(scores)


REFUSED = [
    (tasks.Segmentation(3), lambda v, m: v, LABELS, "expected maps of logits"),
    (tasks.Segmentation(3), lambda v, m: m, LABELS, "expected the class of each position"),
    (tasks.Segmentation(4), lambda v, m: m, LABELS[:, None, None].expand(24, 6, 6), "has 4; give"),
    (tasks.Classification(), lambda v, m: m, LABELS, "expected logits"),
    (tasks.Classification(), lambda v, m: v, LABELS[:, None], "expected the class of each input"),
    (tasks.Regression(), lambda v, m: v, LABELS.float(), "expected numbers of one shape"),
    (tasks.Regression(), lambda v, m: v[:, :1], LABELS.float(), "expected numbers of one shape"),
    (tasks.Detection(), lambda v, m: v, LABELS, "a target has no boxes and labels"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_a_task_does_not_fit_is_refused_in_one_line(number):
    task, wrap, labels, match = REFUSED[number]
    pytest.importorskip("torchmetrics")
    model = attached(wrap)
    with pytest.raises(ftwt.FtwtError, match=match) as told:
        training.evaluate(model, [(IMAGES, labels)], task=task)
    assert "\n" not in str(told.value)
    refused(match, fitted, model, [(IMAGES, labels)], task)


def test_tasks_are_values():
    for task in (
        tasks.Classification(logits="out"), tasks.Classification(logits=0), tasks.Regression(),
        tasks.Segmentation(5, logits="out"), tasks.Detection(),
    ):  # fmt: skip
        assert isinstance(task, tasks.Task)
        assert specs.from_json(specs.recorded(task)) == task
        assert specs.from_json(specs.recorded(task.loss())) == task.loss()
    for bad, match in (
        (lambda: tasks.Segmentation(1), "classes=1; give 2 or more"),
        (lambda: tasks.Classification(logits=1.5), "logits=1.5 says nothing about an output"),
    ):
        refused(match, bad)


def test_without_torchmetrics_what_to_install_is_said(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torchmetrics.classification", None)
    refused(r"Segmentation: .*pip install ftwt\[tasks\]", tasks.Segmentation(2).meter, DEVICE)
