"""Laws of the loader and of augmentation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ftwt.data import Augment, Batches, Images
from ftwt.errors import FtwtError

RAW = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**40)
counts = st.integers(1, 40)
sizes = st.integers(1, 17)


def numbered(count: int, side: int = 6) -> Images:
    """Return random images that are labelled with their own index."""
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(count))


def passes(loader: Batches) -> tuple[Tensor, Tensor]:
    inputs, labels = zip(*loader, strict=True)
    return torch.cat(inputs), torch.cat(labels)


@given(counts, sizes, seeds, st.booleans())
@few
def test_every_image_is_served_once_in_an_epoch(count, batch_size, seed, shuffle):
    images = numbered(count)
    loader = Batches(images, batch_size, **RAW, shuffle=shuffle, seed=seed)
    inputs, labels = passes(loader)
    assert sorted(labels.tolist()) == list(range(count))
    torch.testing.assert_close(inputs, images.pixels[labels].float())
    assert len(list(loader)) == len(loader)
    if not shuffle:
        assert labels.tolist() == list(range(count))


@given(counts, sizes)
@few
def test_drop_last_leaves_only_whole_batches(count, batch_size):
    if count < batch_size:
        count += batch_size
    loader = Batches(numbered(count), batch_size, **RAW, drop_last=True)
    lengths = [len(labels) for _, labels in loader]
    assert lengths == [batch_size] * (count // batch_size)
    assert len(loader) == len(lengths)


@given(seeds, st.integers(0, 500))
@few
def test_an_epoch_depends_on_seed_and_epoch_alone(seed, epoch):
    def fresh() -> Batches:
        return Batches(numbered(24), 7, **RAW, augment=Augment(pad=2), shuffle=True, seed=seed)

    resumed = fresh()
    resumed.set_epoch(epoch)
    straight = fresh()
    next(iter(straight))  # an abandoned pass must leave no trace
    torch.rand(3)  # nor does the global generator matter
    straight.set_epoch(epoch)
    for mine, theirs in zip(passes(resumed), passes(straight), strict=True):
        assert torch.equal(mine, theirs)

    straight.set_epoch(epoch + 1)
    assert not torch.equal(passes(straight)[0], passes(resumed)[0])


def test_seed_and_epoch_do_not_add_up():
    one = Batches(numbered(64), 64, **RAW, shuffle=True, seed=1)
    other = Batches(numbered(64), 64, **RAW, shuffle=True, seed=0)
    other.set_epoch(1)
    assert not torch.equal(passes(one)[1], passes(other)[1])


def test_inputs_are_normalised_with_the_given_statistics():
    images = numbered(9)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    inputs, labels = passes(Batches(images, 4, mean=mean, std=std))
    scaled = images.pixels / 255
    expected = (scaled - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(inputs, expected)
    assert inputs.dtype == torch.float32
    assert labels.dtype == torch.int64


@given(st.integers(1, 8), st.integers(3, 9), st.integers(3, 9), st.integers(0, 4), seeds)
@few
def test_augmented_samples_are_crops_of_the_padded_image(batch, height, width, pad, seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(
        1, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8
    )
    result = Augment(pad=pad)(pixels, generator)
    assert result.shape == pixels.shape
    assert result.dtype == torch.uint8
    padded = torch.nn.functional.pad(pixels, [pad] * 4)
    for sample, canvas in zip(result, padded, strict=True):
        crops = canvas.unfold(1, height, 1).unfold(2, width, 1).permute(1, 2, 0, 3, 4)
        same = (crops == sample).flatten(2).all(-1) | (crops == sample.flip(-1)).flatten(2).all(-1)
        assert same.any()


def test_augmentation_that_does_nothing_is_the_identity():
    pixels = numbered(5).pixels
    assert torch.equal(Augment(pad=0, flip=False)(pixels, torch.Generator()), pixels)


def test_samples_of_a_batch_are_augmented_apart_and_reach_every_crop_and_flip():
    pixels = numbered(1, side=4).pixels.expand(400, -1, -1, -1)
    result = Augment(pad=1)(pixels, torch.Generator().manual_seed(0))
    assert len(result.flatten(1).unique(dim=0)) == 9 * 2


def test_augmentation_leaves_the_images_untouched():
    images = numbered(8)
    before = images.pixels.clone()
    passes(Batches(images, 3, **RAW, augment=Augment(pad=1), shuffle=True))
    assert torch.equal(images.pixels, before)


def test_selected_images_come_in_the_order_asked_for():
    images = numbered(6)
    chosen = images.select(torch.tensor([4, 0]))
    assert chosen.labels.tolist() == [4, 0]
    assert torch.equal(chosen.pixels[0], images.pixels[4])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Batches(numbered(3), 0, **RAW), "Batches: batch_size=0; give 1 or more"),
        (lambda: Batches(numbered(3), 4, **RAW, drop_last=True), r"3 images make no batch"),
        (lambda: Batches(numbered(0), 4, **RAW), r"0 images make no batch"),
        (
            lambda: Batches(numbered(3), 1, mean=(0.0, 0.0, 0.0), std=(1.0, 0.0, 1.0)),
            r"std=\(1\.0, 0\.0, 1\.0\).*above 0",
        ),
        (lambda: Batches(numbered(3), 1, **RAW, seed=-1), r"seed and epoch.*got -1"),
        (lambda: Batches(numbered(3), 1, **RAW).set_epoch(-2), r"seed and epoch.*got -2"),
        (lambda: Augment(pad=-1), "Augment: pad=-1; give 0 or more"),
        (
            lambda: Images(torch.zeros(2, 3, 4, 4), torch.arange(2)),
            r"pixels are torch\.float32 \(2, 3, 4, 4\), expected torch\.uint8",
        ),
        (
            lambda: Images(numbered(2).pixels, torch.arange(3)),
            r"labels are torch\.int64 \(3,\), expected torch\.int64 \(2,\)",
        ),
    ],
)
def test_bad_arguments_are_told_in_one_line(make, message):
    with pytest.raises(FtwtError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)
