"""Laws of held-out splits and of smaller training sets."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ftwt.data import Images, holdout
from ftwt.data.splits import balanced_prefix
from ftwt.errors import FtwtError

few = settings(max_examples=40, deadline=None)
class_sizes = st.lists(st.integers(1, 30), min_size=1, max_size=6)
seeds = st.integers(0, 2**32)


def images_of(sizes: list[int], seed: int = 0) -> Images:
    """Return images in a random order whose first two pixels tell their index."""
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    pixels = torch.zeros(len(labels), 3, 1, 2, dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(len(labels)) % 256
    pixels[:, 0, 0, 1] = torch.arange(len(labels)) // 256
    return Images(pixels, labels[order])


def numbers(images: Images) -> list[int]:
    return (images.pixels[:, 0, 0, 0].long() + 256 * images.pixels[:, 0, 0, 1].long()).tolist()


@given(class_sizes, st.floats(0.02, 0.98), seeds)
@few
def test_holdout_is_a_stratified_partition(sizes, fraction, seed):
    images = images_of(sizes)
    count = round(fraction * len(images))
    assume(0 < count < len(images))
    train, validation = holdout(images, fraction, seed)
    assert len(validation) == count
    assert sorted(numbers(train) + numbers(validation)) == list(range(len(images)))
    for split in (train, validation):
        assert torch.equal(split.labels, images.labels[numbers(split)])
    taken = torch.bincount(validation.labels, minlength=len(sizes))
    assert all(abs(n - fraction * size) <= 1.5 for n, size in zip(taken, sizes, strict=True))


def test_equal_classes_give_equal_shares():
    train, validation = holdout(images_of([50] * 10), 0.1)
    assert torch.bincount(validation.labels).tolist() == [5] * 10
    assert torch.bincount(train.labels).tolist() == [45] * 10


def test_holdout_depends_on_its_seed_alone():
    images = images_of([20, 30])
    first, again, other = (numbers(holdout(images, 0.2, seed)[1]) for seed in (3, 3, 4))
    assert first == again
    assert first != other


@given(class_sizes, st.data())
@few
def test_a_smaller_limit_is_a_prefix_of_a_larger_one(sizes, data):
    labels = images_of(sizes).labels
    large = data.draw(st.integers(len(sizes), len(labels) + 5))
    small = data.draw(st.integers(len(sizes), large))
    chosen = balanced_prefix(labels, large)
    assert torch.equal(balanced_prefix(labels, small), chosen[:small])
    assert len(chosen.unique()) == len(chosen) == min(large, len(labels))
    taken = torch.bincount(labels[chosen], minlength=len(sizes))
    for n, size in zip(taken.tolist(), sizes, strict=True):
        assert n == size or n >= taken.max() - 1  # even, until a class is used up


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 1.2, float("nan")])
def test_a_fraction_outside_0_to_1_is_told(fraction):
    with pytest.raises(FtwtError, match=r"holdout\(fraction=.*between 0 and 1.*use e\.g\. 0\.1"):
        holdout(images_of([10, 10]), fraction)


@pytest.mark.parametrize(("fraction", "count"), [(0.01, 0), (0.99, 20)])
def test_a_fraction_that_empties_a_split_is_told(fraction, count):
    with pytest.raises(FtwtError, match=f"{count} of 20 images.*empty split.*more images"):
        holdout(images_of([10, 10]), fraction)


def test_a_limit_below_the_number_of_classes_is_told():
    with pytest.raises(FtwtError, match=r"limit=2.*number of classes, 3.*larger limit"):
        balanced_prefix(images_of([4, 4, 4]).labels, 2)
