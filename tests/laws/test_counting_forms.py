"""Counting what is not a plain chain of convolutions, against torch's own counter."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import ftwt
from ftwt import gates, losses, runtime
from ftwt.graph.rows import SampleRows, rows_between
from ftwt.slicing import cut


def torch_macs(network, *inputs) -> int:
    """Of one sample, by torch's counter; attention as the products that it is."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            torch.no_grad(),
            FlopCounterMode(display=False) as counter,
            sdpa_kernel(SDPBackend.MATH),
        ):
            network(*(one[:1] for one in inputs))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() // 2


class Around(nn.Module):
    """Two gated convolutions with something between them."""

    def __init__(self, middle: nn.Module, channels: int = 8) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding=1)
        self.middle = middle
        self.two = nn.Conv2d(channels, 6, 3, padding=1)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x):
        return self.out(self.two(self.middle(self.one(x).relu())).relu())


class Attention(nn.Module):
    def __init__(self, batch_first=True, need_weights=False, heads=2):
        super().__init__()
        self.inner = nn.MultiheadAttention(8, heads, batch_first=batch_first)
        self.batch_first, self.need_weights = batch_first, need_weights

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        if not self.batch_first:
            tokens = tokens.transpose(0, 1)
        made = self.inner(tokens, tokens, tokens, need_weights=self.need_weights)[0]
        if not self.batch_first:
            made = made.transpose(0, 1)
        return made.transpose(1, 2).reshape(x.shape)


class Dots(nn.Module):
    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        made = F.scaled_dot_product_attention(tokens, tokens, tokens)
        return made.transpose(1, 2).reshape(x.shape)


class Baddbmm(nn.Module):
    def forward(self, x):
        flat = x.flatten(2)
        return torch.baddbmm(flat, torch.bmm(flat, flat.mT), flat).view(x.shape)


class Einsum(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(torch.randn(8, 8))

    def forward(self, x):
        return torch.einsum("bchw,dc->bdhw", x, self.mix)


class LowRank(nn.Module):
    """A convolution and a linear layer whose weights are products of others."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))
        self.up, self.down = nn.Parameter(torch.randn(8, 2)), nn.Parameter(torch.randn(2, 72))
        self.left, self.right = nn.Parameter(torch.randn(8, 3)), nn.Parameter(torch.randn(3, 8))

    def forward(self, x):
        x = F.conv2d(x, self.weight + (self.up @ self.down).view(8, 8, 3, 3), padding=1)
        return F.linear(x.movedim(1, -1), self.left @ self.right).movedim(-1, 1).contiguous()


class Blur(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("filter", torch.ones(8, 1, 3, 3) / 9)

    def forward(self, x):
        return F.conv2d(x, self.filter, padding=1, groups=x.shape[1])


class Up(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 8, 2, 2, groups=2)

    def forward(self, x):
        return F.avg_pool2d(self.up(x), 2)


class OneAndThree(nn.Module):
    """1-d along rows, then 3-d over a stack of the channels."""

    def __init__(self):
        super().__init__()
        self.rows, self.stack = nn.Conv1d(8, 8, 3, padding=1), nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, x):
        x = self.rows(x.flatten(2)).view(x.shape)
        return self.stack(x.unsqueeze(1)).squeeze(1)


class Windows(nn.Module):
    """Quarters of the image as a batch four times as large, through a linear layer."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(8, 8)

    def forward(self, x):
        b, c, h, w = x.shape
        parts = x.view(b, c, 2, h // 2, 2, w // 2).permute(0, 2, 4, 3, 5, 1).reshape(b * 4, -1, c)
        parts = self.mix(parts).view(b, 2, 2, h // 2, w // 2, c)
        return parts.permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)


class Means(nn.Module):
    """Reductions as numpy writes them."""

    def forward(self, x):
        return x * torch.sigmoid(x.mean(axis=1, keepdims=True)) + x.amax(dim=(2, 3), keepdim=True)


FORMS = [
    Attention(), Attention(need_weights=True), Attention(batch_first=False, heads=4), Dots(),
    Baddbmm(), Einsum(), LowRank(), Blur(), Up(), OneAndThree(), Windows(), Means(),
]  # fmt: skip


@pytest.mark.parametrize("middle", FORMS, ids=lambda one: type(one).__name__)
def test_every_form_counts_as_torch_does_at_any_size_and_runs_as_counted(middle):
    torch.manual_seed(0)
    network = Around(middle).eval()
    on = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=torch.zeros(1, 3, 8, 8)).eval()
    half = ftwt.attach(network, ftwt.Pruning(), example=torch.zeros(1, 3, 8, 8)).eval()
    for batch, side in ((1, 8), (3, 8), (3, 12)):
        x = torch.randn(batch, 3, side, side)
        want = torch_macs(network, x)
        assert on.trace(x).macs.tolist() == [want] * batch
        for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
            with mode():
                audit = runtime.skip(on, backend="torch").audit(x)
                assert audit.counted_macs.tolist() == [want] * batch
                assert set(audit.differing) <= set(audit.dense)
        masked = half.trace(x, targets=False)
        audit = runtime.skip(half).audit(x)
        assert torch.equal(audit.counted_macs, masked.macs)
        assert set(audit.differing) <= set(audit.dense)
        assert (masked.macs - half.gate_macs <= want).all()


@pytest.mark.parametrize("training", [False, True])
def test_every_input_decides_what_is_counted(training):
    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(1, 8, 3), nn.Conv2d(24, 4, 1)
            self.norm, self.words = nn.BatchNorm2d(8), nn.Embedding(5, 8)

        def forward(self, x, z, words):
            one = F.adaptive_avg_pool2d(F.relu(self.norm(self.a(x))), 4)
            two = F.adaptive_avg_pool2d(F.relu(self.b(z)), 4)
            three = self.words(words).mean(1)[:, :, None, None].expand(-1, -1, 4, 4)
            return self.c(torch.cat([one, two, three], 1))

    network = Three().eval()
    x, z = torch.zeros(2, 3, 16, 16), torch.zeros(2, 1, 16, 16)
    words = torch.zeros(2, 3, dtype=torch.long)
    pruning = ftwt.Pruning(gates.Fixed({}))
    model = ftwt.attach(network, pruning, example=(x, z, words)).train(training)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    for inputs in ((x, z, words), (x, torch.zeros(2, 1, 40, 24), words), (x, z, words[:, :1])):
        trace = model.trace(*inputs)
        running = {name: one.clone() for name, one in model.state_dict().items()}
        assert trace.macs.tolist() == [torch_macs(network, *inputs)] * 2
        # Counting looks at the network without changing it.
        assert model.training == training
        after = model.state_dict()
        assert all(torch.equal(one, running[name]) for name, one in after.items())
    assert training != all(torch.equal(one, before[name]) for name, one in after.items())


def test_sizes_that_the_network_does_not_take_are_refused_by_name():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(144, 2)
    )
    model = ftwt.attach(network, ftwt.Pruning(), example=torch.zeros(1, 3, 8, 8))
    with pytest.raises(ftwt.FtwtError, match="attached with"):
        model._plan_for([torch.zeros(1, 3, 9, 9)])


class Pairs(nn.Module):
    """Two images through one encoder, as one batch or window by window."""

    def __init__(self, apart):
        super().__init__()
        self.encode, self.more = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=2)
        self.out = nn.Conv2d(8, 2, 1)
        self.apart = apart

    def forward(self, one, two):
        rows = torch.cat([one, two]) if self.apart else torch.stack([one, two], 1).flatten(0, 1)
        rows = self.more(self.encode(rows).relu()).relu()
        first, second = rows.chunk(2) if self.apart else rows.unflatten(0, (-1, 2)).unbind(1)
        return self.out((first - second).abs())


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("gate", [gates.Fixed({}), gates.PooledLinear()], ids=["all", "gate"])
def test_a_samples_macs_are_those_of_all_its_rows(apart, gate):
    torch.manual_seed(3)
    network = Pairs(apart).eval()
    x = torch.randn(3, 3, 8, 8)
    example = x[:1], x[:1]
    model = ftwt.attach(network, ftwt.Pruning(gate), example=example).eval()
    together = model.trace(x, x.flip(0) * 2)
    assert together.macs.shape == together.paper_macs.shape == (3,)
    alone = [model.trace(x[i : i + 1], x.flip(0)[i : i + 1] * 2).macs.item() for i in range(3)]
    assert together.macs.tolist() == alone
    if gate == gates.Fixed({}):
        assert alone == [torch_macs(network, *example)] * 3
        assert model.dense_macs == alone[0]
    else:
        assert len(set(alone)) > 1
        assert torch.allclose(together.relaxed_macs, together.macs.double())
        losses.GateBCE()(together).backward()
        assert all(one.grad is not None for one in model.gate_parameters())


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("backend", ["native", "torch", "channels-last"])
def test_samples_of_several_rows_are_masked_when_skipping(apart, backend):
    torch.manual_seed(3)
    pairs = torch.randn(3, 3, 8, 8), torch.randn(3, 3, 8, 8)
    example = tuple(one[:1] for one in pairs)
    model = ftwt.attach(Pairs(apart), ftwt.Pruning(), example=example).eval()
    trace = model.trace(*pairs)
    assert not all(site.mask.all() for site in trace.sites.values())
    fast = runtime.skip(model, backend=backend)
    assert torch.allclose(fast(*pairs), trace.output, atol=1e-5)
    audit = fast.audit(*pairs)
    assert torch.equal(audit.counted_macs, trace.macs)
    assert set(audit.differing) <= set(audit.dense)
    with pytest.raises(ftwt.FtwtError, match="'encode' works on several rows for each sample"):
        cut(model, {name: site.mask[0] for name, site in trace.sites.items()})


@given(st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_rows_are_told_from_one_sample_and_several(each, samples, apart):
    rows = SampleRows(each, apart)
    of_sample = (
        torch.arange(samples).repeat(each)
        if apart
        else torch.arange(samples).repeat_interleave(each)
    )
    assert rows.per_sample(of_sample.double()).tolist() == [each * one for one in range(samples)]
    values = torch.randn(each * 2, 3)
    found = rows_between(rows.of_first(values), values, 2)
    assert found == (rows if each > 1 else SampleRows())
    assert each == 1 or rows_between(torch.randn(each, 3), values, 2) is None


@pytest.mark.parametrize(
    "multiply",
    [
        lambda x, w: x.movedim(1, -1) @ w,
        lambda x, w: torch.addbmm(w.new_zeros(8, 8), x[:, :, 0], x[:, :, 0].mT),
    ],
    ids=["mv", "addbmm"],
)
def test_products_that_torch_does_not_count_are_named(multiply):
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(8))

        def forward(self, x):
            return x * multiply(x, self.w).mean()

    model = ftwt.attach(
        Around(Product()), ftwt.Pruning(gates.Fixed({})), example=torch.zeros(1, 3, 8, 8)
    ).eval()
    (named,) = model.explain().uncounted
    assert f"not counted: {named}" in str(model.explain())
    assert runtime.skip(model).audit(torch.zeros(2, 3, 8, 8)).uncounted == (named,)


def test_a_layer_that_mixes_samples_is_no_site():
    class Mixes(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            x = self.a(x).relu()
            flat = self.b(x.transpose(0, 1).flatten(1, 2).unsqueeze(0)).relu()
            return self.c(flat[0].unflatten(1, (-1, 4)).transpose(0, 1))

    example = torch.zeros(1, 3, 4, 4)
    model = ftwt.attach(Mixes(), ftwt.Pruning(), example=example)
    assert model.sites == ("a",)
    with pytest.raises(ftwt.FtwtError, match="rows that are not the samples'"):
        ftwt.attach(Mixes(), ftwt.Pruning(), example=example, where=["b"])


class Related(nn.Module):
    """A classifier that looks at all samples of the batch together."""

    def __init__(self, relate):
        super().__init__()
        self.conv, self.last, self.relate = nn.Conv2d(3, 4, 3), nn.Linear(4, 4), relate

    def forward(self, x):
        x = self.conv(x).relu().mean((2, 3))
        return x + self.relate(self.last, x)


@pytest.mark.parametrize(
    "relate",
    [
        lambda last, x: last(x.mean(0)),
        lambda last, x: (x @ x.t()).softmax(1) @ x,
    ],
    ids=["a mean over the batch", "similarities"],
)
def test_what_relates_samples_is_counted_for_none_of_them(relate):
    with pytest.raises(ftwt.FtwtError, match="relates samples to each other"):
        ftwt.attach(Related(relate), ftwt.Pruning(), example=torch.zeros(1, 3, 6, 6))


def test_what_depends_on_no_sample_is_counted_for_each():
    class Placed(Related):
        def forward(self, x):
            x = self.conv(x).relu()
            places = torch.linspace(-1, 1, x.shape[3])[:, None].expand(-1, 4)
            return x + self.last(places).t()[:, None]

    network = Placed(None).eval()
    images = torch.randn(2, 3, 6, 6)
    model = ftwt.attach(
        network, ftwt.Pruning(gates.Fixed({})), example=images, where=["conv"], check=False
    )
    assert model.trace(images, targets=False).macs.tolist() == [torch_macs(network, images[:1])] * 2
