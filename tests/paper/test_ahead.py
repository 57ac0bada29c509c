"""What a report trains ahead by an executor is what it would train one by one."""

import pickle
from concurrent.futures import Executor, Future

import pytest

import ftwt
from ftwt.reports.paper import ITEMS, Study, scale
from ftwt.reports.paper.ahead import train_ahead


class Notes(Executor):
    """Notes what it is given, as another process would get it."""

    def __init__(self, error=None):
        self.given, self.error = [], error

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        self.given += pickle.loads(pickle.dumps(args))
        if self.error is None:
            future.set_result(None)
        else:
            future.set_exception(self.error)
        return future


def test_what_is_planned_is_what_was_trained(report, dataset):
    study = Study(report, dataset, scale("tiny", "shapes"))
    notes = Notes()
    train_ahead(study, ITEMS, notes)
    names = [order.training.name for order in notes.given]
    trained = {folder.name for folder in (report / "runs").iterdir()}
    # All but what is found out from the first run: masks and amounts at its cost.
    assert len(set(names)) == len(names)
    assert trained - set(names) == {name for name in trained if "-as-mass" in name}
    assert set(names) <= trained
    assert not study.runs
    plain = [order.training.pruning is None for order in notes.given]
    assert plain == sorted(plain, reverse=True)
    for order in notes.given:
        start = order.training.init
        assert start is None or start.name in names
        assert (order.folder, order.data, order.size) == (report, "shapes", 32)


def test_lost_workers_are_one_line(report, dataset):
    study = Study(report, dataset, scale("tiny", "shapes"))
    with pytest.raises(ftwt.FtwtError, match=r"^paper: .* was lost \(gone\) and .*; what else"):
        train_ahead(study, ITEMS, Notes(ConnectionError("gone")))
