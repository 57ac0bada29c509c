"""Laws of estimators: what a mask is, and what reaches the logits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ftwt import gates
from tests.laws.components import DIFFERENTIABLE, ESTIMATORS
from tests.small import refused

every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
every_differentiable = pytest.mark.parametrize("estimator", DIFFERENTIABLE, ids=repr)
seeds = st.integers(0, 2**16)


def drawn(seed: int, rows: int = 4, channels: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, channels, generator=generator)


@every_estimator
@given(seeds, st.booleans())
def test_weights_are_exactly_zero_or_one(estimator, seed, training):
    weights = estimator(drawn(seed), training=training)
    assert ((weights == 0) | (weights == 1)).all()


@every_estimator
@given(seeds)
def test_out_of_training_the_mask_is_a_threshold(estimator, seed):
    state = torch.get_rng_state()
    logits = drawn(seed)
    assert torch.equal(estimator(logits), (logits > 0).float())
    assert torch.equal(torch.get_rng_state(), state)


@every_estimator
@pytest.mark.parametrize("training", [True, False])
def test_nan_is_no_saving(estimator, training):
    logits = torch.tensor([[1.0, float("nan"), -1.0, float("inf"), -float("inf")]])
    weights = estimator(logits, training=training)
    assert weights.isnan().tolist() == [[False, True, False, False, False]]


@every_differentiable
@given(seeds)
def test_each_logit_gets_its_own_gradient(estimator, seed):
    torch.manual_seed(seed)
    # Near zero, where float32 sees that a sigmoid rises.
    logits = (drawn(seed) / 10).requires_grad_()
    estimator(logits, training=True)[:, 0].sum().backward()
    assert (logits.grad[:, 0] >= 0).all()
    assert logits.grad[:, 0].any()
    assert not logits.grad[:, 1:].any()


@every_differentiable
def test_without_gradients_nothing_requires_them(estimator):
    logits = drawn(0).requires_grad_()
    with torch.no_grad():
        assert not estimator(logits, training=True).requires_grad


@given(seeds, st.floats(0.1, 5))
def test_gumbel_repeats_with_torchs_seed_at_any_temperature(seed, temperature):
    logits = drawn(seed)
    torch.manual_seed(seed)
    one = gates.Gumbel(temperature)(logits, training=True)
    torch.manual_seed(seed)
    assert torch.equal(one, gates.Gumbel(1.0)(logits, training=True))


def test_gumbel_keeps_a_filter_with_the_probability_of_its_logit():
    torch.manual_seed(0)
    logits = torch.tensor([-2.0, -0.5, 0.0, 1.0, 3.0])
    share = gates.Gumbel()(logits.expand(200_000, 5), training=True).mean(0)
    # Five standard deviations of a share of 200,000 draws.
    assert torch.allclose(share, logits.sigmoid(), atol=5 * 0.5 / 200_000**0.5)


def test_gumbel_has_the_gradient_of_the_tempered_sigmoid():
    torch.manual_seed(3)
    logits = drawn(1).requires_grad_()
    gates.Gumbel(0.5)(logits, training=True).sum().backward()
    torch.manual_seed(3)
    uniform = torch.rand(logits.shape)
    soft = torch.sigmoid((logits.detach() + uniform.log() - (1 - uniform).log()) / 0.5)
    assert torch.allclose(logits.grad, soft * (1 - soft) / 0.5, atol=1e-5)


def test_bad_temperatures():
    for bad in (0, -1, float("inf"), float("nan")):
        refused(r"Gumbel: temperature=.*positive", gates.Gumbel, bad)
