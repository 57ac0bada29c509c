"""Laws of a budget for each image: who answers, what it costs, and that this is what runs."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given

import ftwt
from ftwt import escalation, gates, runtime
from ftwt.gated.escalation.settings import cost_of
from tests.laws.components import SIGNALS
from tests.laws.networks import examples, images, networks, random_masks

thresholds = st.floats(0, 1)
# Networks are attached for each example.
few = examples(0.3)


@st.composite
def escalations(draw):
    """What `built` makes a network of, and images."""
    return (
        draw(networks(most=3)),
        draw(images(most=6)),
        draw(st.integers(0, 2**16)),
        draw(st.sampled_from([0.3, 0.8])),
        draw(st.booleans()),
        draw(st.sampled_from(SIGNALS)),
        draw(st.lists(thresholds, min_size=2, max_size=2)),
        draw(st.sampled_from([1.0, 1.0, 0.7])),
    )


def built(network, batch, seed, share, looking, signal, levels, weight):
    """Settings of one network: fixed masks, then perhaps gates that look, then every filter."""
    pruning = ftwt.Pruning(gates.Fixed({}))
    dense = ftwt.attach(network, pruning, example=batch[:1], where=lambda *_: True)
    masks = {name: mask[0] for name, mask in random_masks(dense, 1, seed, share).items()}
    assume(cost_of(dense, masks) < dense.dense_macs)
    settings = [escalation.with_gate(dense, gates.Fixed(masks)), dense]
    if looking:
        settings.insert(1, escalation.with_gate(dense, gates.PooledLinear(normalize="layer")))
    chosen = levels[: len(settings) - 1]
    return ftwt.escalate(settings, by=signal, thresholds=chosen, weight=weight).eval(), batch


def far_from_thresholds(trace, model) -> bool:
    """Whether no decision hangs on rounding, which another batch size changes."""
    gaps = [
        (one.sureness - level).abs().min()
        for one, level in zip(trace.passes, model.thresholds, strict=False)
        if one.sureness is not None
    ]
    gate_gaps = [
        site.logits.abs().min() for one in trace.passes for site in one.trace.sites.values()
    ]
    return min(gaps) > 1e-5 and min(gate_gaps) > 1e-5


@few
@given(escalations())
@torch.no_grad()
def test_an_image_costs_the_sum_of_its_passes(escalated):
    model, batch = built(*escalated)
    trace = model.trace(batch)
    assert torch.equal(model(batch), trace.output)
    for place in range(len(batch)):
        ran = [one for one in trace.passes if place in one.images.tolist()]
        own = [one.trace.macs[one.images.tolist().index(place)] for one in ran]
        assert trace.macs[place] == sum(own)
        assert trace.answered[place] == len(ran) - 1
    for one, mask in zip(trace.passes, trace.masks, strict=True):
        for name, rows in mask.items():
            assert torch.equal(rows[one.images], one.trace.masks[name])
            assert rows.sum() == one.trace.masks[name].sum()


@few
@given(escalations(), thresholds, thresholds)
@torch.no_grad()
def test_more_go_on_as_the_threshold_rises(escalated, one, other):
    model, batch = built(*escalated)
    steps = len(model.thresholds)
    low, high = (model.with_thresholds([level] * steps) for level in sorted([one, other]))
    few, many = low.trace(batch), high.trace(batch)
    assert (few.answered <= many.answered).all()
    assert (few.macs <= many.macs).all()
    assert (few.paper_macs <= many.paper_macs).all()


@few
@given(escalations())
@torch.no_grad()
def test_at_the_ends_it_is_the_first_and_the_last_setting(escalated):
    model, batch = built(*escalated)
    steps = len(model.thresholds)
    first, last = (model.with_thresholds([level] * steps) for level in (0.0, 1.0))
    assert torch.equal(first(batch), model.gated[0](batch))
    assert torch.equal(first.trace(batch).macs, model.gated[0].trace(batch).macs)
    costs = torch.stack([one.trace(batch).macs for one in model.gated])
    assert torch.equal(last.trace(batch).macs, costs.sum(0))
    if model.policy.weight == 1:
        assert torch.equal(last(batch), model.gated[-1](batch))


@few
@given(escalations(), st.randoms(use_true_random=False))
@torch.no_grad()
def test_an_image_is_answered_alike_in_any_batch(escalated, random):
    model, batch = built(*escalated)
    trace = model.trace(batch)
    assume(far_from_thresholds(trace, model))
    order = list(range(len(batch)))
    random.shuffle(order)
    moved = model.trace(batch[order])
    assert torch.equal(moved.answered, trace.answered[order])
    assert torch.equal(moved.macs, trace.macs[order])
    for place in order[:2]:
        alone = model.trace(batch[place : place + 1])
        assert alone.answered[0] == trace.answered[place]
        assert torch.allclose(alone.output[0], trace.output[place], rtol=1e-3, atol=1e-4)


@few
@given(escalations())
@torch.no_grad()
def test_skipping_runs_what_was_counted(escalated):
    model, batch = built(*escalated)
    trace = model.trace(batch)
    assume(far_from_thresholds(trace, model))
    fast = runtime.skip(model)
    answer = fast(batch)
    scale = float(trace.output.abs().max())
    assert torch.allclose(answer, trace.output, rtol=1e-3, atol=1e-4 * scale + 1e-5)
    audit = fast.audit(batch)
    assert torch.equal(audit.answered, trace.answered)
    assert torch.equal(audit.counted_macs, trace.macs)
    dense = any(one.dense for one in audit.passes)
    assert torch.equal(audit.macs, trace.macs) or (dense and (audit.macs >= trace.macs).all())


@pytest.mark.parametrize("signal", SIGNALS, ids=repr)
@given(logits=st.lists(st.lists(st.floats(-200, 200), min_size=4, max_size=4), min_size=1))
def test_signals_lie_between_zero_and_one_and_ask_each_sample_alone(signal, logits):
    output = torch.tensor(logits)
    sure = signal(output)
    assert ((sure >= 0) & (sure < 1)).all()
    assert torch.equal(sure[:1], signal(output[:1]))
    assert torch.allclose(signal(output.roll(1, 1)), sure)
    assert torch.allclose(signal(output[:, :, None].expand(-1, -1, 3)), sure)


@few
@given(st.floats(0.1, 8), st.integers(0, 2**16))
def test_the_likeliest_temperature_is_the_one_that_labels_were_drawn_at(value, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(4000, 5, generator=generator)
    drawn = torch.multinomial((logits / value).softmax(1), 1, generator=generator).view(-1)
    assert escalation.likeliest_temperature(logits, drawn) == pytest.approx(value, rel=0.15)
