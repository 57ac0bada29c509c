"""A sample of the random networks that `make fuzz` draws; each block and each kind is in it."""

import pytest

from tests.fuzz import blocks, nets
from tests.fuzz.checks import check, plain_runs
from tests.fuzz.spec import Spec, draw


def described(broken: dict[str, str]) -> str:
    return "\n".join(f"{name}: {text}" for name, text in broken.items())


@pytest.mark.parametrize("block", [one.__name__ for one in blocks.BLOCKS])
def test_each_block(block):
    spec = Spec(7, "Classifier", 6, (block,), (9, 7), 3, 0.6)
    assert plain_runs(spec)
    broken, refused = check(spec)
    assert not broken, described(broken)
    assert "attach" not in refused, refused["attach"]


@pytest.mark.parametrize("net", [one.__name__ for one in nets.NETS])
def test_each_kind_of_network(net):
    spec = Spec(8, net, 4, ("Basic", "Squeeze"), (8, 8), 2, 0.5)
    assert plain_runs(spec)
    broken, refused = check(spec)
    assert not broken, described(broken)
    assert "attach" not in refused, refused["attach"]


@pytest.mark.parametrize("seed", range(20))
def test_random_ones(seed):
    spec = draw(seed)
    assert plain_runs(spec)
    broken, _ = check(spec)
    assert not broken, described(broken)


def test_a_broken_promise_is_found(monkeypatch):
    """The checks can fail: a gated network that answers a little more is told."""
    from ftwt.gated.model import Gated

    right = Gated.forward
    monkeypatch.setattr(Gated, "forward", lambda self, *given: right(self, *given) * 1.01)
    broken, _ = check(Spec(9, "Classifier", 4, ("Plain",), (8, 8), 1, 0.5))
    assert "open_is_plain" in broken
