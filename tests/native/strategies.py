"""Random steps with random masks, and the check that all of them go through."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from hypothesis import strategies as st
from torch import Tensor

from ftwt.graph.live import All, Live, OfSite
from ftwt.runtime import native
from ftwt.runtime.program import Step, Value
from tests.native import reference

TOLERANCE = 1e-4

seeds = st.integers(0, 2**31 - 1)
batches = st.integers(1, 9)
sizes = st.integers(1, 19)
# A share of live channels; none, one and all of them come often.
densities = st.sampled_from([0.0, 1e-9, 0.3, 0.6, 1.0])
activations = st.sampled_from(
    [None, "relu", "relu6", "hardswish", "silu", "hardsigmoid", "sigmoid"]
)
keep_zero = st.sampled_from([None, "relu", "relu6", "hardswish", "silu"])


@contextmanager
def working(threads: int) -> Iterator[None]:
    """So many threads share the work inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Case:
    """Draws tensors, values and masks from one seed."""

    def __init__(self, seed: int, batch: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.batch = batch
        self.masks: dict[str, Tensor] = {}
        self.given: dict[Value, Tensor] = {}

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def site(self, name: str, channels: int, density: float) -> OfSite:
        """A site whose mask comes from outside; 0 keeps none, the least above 0 keeps one."""
        order = torch.rand(self.batch, channels, generator=self.generator).argsort(1).argsort(1)
        kept = 0 if density == 0 else max(1, round(density * channels))
        self.masks[name] = order < kept
        return OfSite(name, channels)

    def input(self, name: str, shape: tuple[int, ...], live: Live) -> Value:
        """A value from outside, zero where its site leaves it out."""
        value = Value(name, shape, live)
        tensor = self.normal(self.batch, *shape)
        if isinstance(live, OfSite):
            mask = self.masks[live.site]
            tensor = torch.where(mask.view(*mask.shape, *[1] * (len(shape) - 1)), tensor, 0.0)
        self.given[value] = tensor
        return value

    def check(
        self,
        steps: list[Step],
        outputs: list[Value],
        thresholds: dict[str, float] | None = None,
    ) -> None:
        """The segment makes what plain torch makes, and counts the MACs that the masks ask for."""
        assert all(native.supports(step) for step in steps)
        segment = native.Segment(steps, list(self.given), outputs, self.batch)
        thresholds = thresholds or {}
        expected, decided, macs = reference.run(steps, self.given, self.masks, thresholds)
        for _ in range(2):  # what a first run leaves behind must not show in a second
            executed: dict[Step, Tensor] = {}
            made, masks = segment.run(
                self.given, self.masks, thresholds=thresholds, executed=executed
            )
            for site in segment.makes:
                assert torch.equal(masks[site], decided[site])
            for value in outputs:
                scale = expected[value].abs().max().clamp_min(1.0)
                error = (made[value] - expected[value]).abs().max() / scale
                assert error <= TOLERANCE, (value.name, error)
                assert torch.equal(made[value] != 0, expected[value] != 0) or error <= TOLERANCE
            for step, count in macs.items():
                assert torch.equal(executed[step], count.to(torch.int64))


def everything(channels: int) -> All:
    """All channels live."""
    return All(channels)
