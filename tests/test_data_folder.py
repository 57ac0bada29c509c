"""Image folders: what is read, and what is said when they are not as expected."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ftwt import data
from ftwt.data.decoding import decode
from ftwt.errors import FtwtError
from tests.small import refused

RED, BLUE = (250, 10, 10), (10, 10, 250)


def draw(path: Path, colour=RED, size=(8, 8), mode="RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("test", 2)):
        for i in range(count):
            draw(tmp_path / split / "red" / f"{i}.png", RED)
            draw(tmp_path / split / "blue" / f"{i}.png", BLUE)
    return tmp_path


def load(root: Path, **options: object) -> data.Dataset:
    return data.load(f"imagefolder:{root}", **options)


def fails(root: Path, message: str, **options: object) -> None:
    refused(message, load, root, **options)


def test_a_folder_is_read(root):
    dataset = load(root)
    assert dataset.name == f"imagefolder:{root}"
    assert dataset.classes == ("blue", "red")
    assert dataset.image_size == 8
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.test.labels.tolist() == [0, 0, 1, 1]
    assert dataset.train.pixels[0, :, 0, 0].tolist() == list(BLUE)
    assert dataset.test.pixels[-1, :, 7, 7].tolist() == list(RED)


def test_mean_and_std_are_those_of_the_training_pixels(root):
    draw(root / "test" / "red" / "other.png", (0, 255, 0))
    dataset = load(root)
    pixels = dataset.train.pixels.double() / 255
    assert dataset.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    std = pixels.std((0, 2, 3), unbiased=False).tolist()
    assert dataset.std == pytest.approx([std[0], 0.5 / 255, std[2]])  # green never changes


def test_folders_may_be_relative_to_a_root_and_test_may_be_called_val(root):
    (root / "test").rename(root / "val")
    dataset = data.load(f"imagefolder:{root.name}", root=root.parent)
    assert len(dataset.test) == 4


def test_test_goes_before_val(root):
    draw(root / "val" / "unrelated" / "0.png")
    assert len(load(root).test) == 4


def test_hidden_and_foreign_files_are_passed_over(root):
    (root / "train" / "red" / "notes.txt").write_text("not an image")
    (root / "train" / "red" / "._0.png").write_bytes(b"what some systems leave beside a file")
    (root / "train" / ".cache").mkdir()
    assert len(load(root).train) == 6


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("RGBA", "png"), ("1", "png")]
)
def test_every_kind_of_image_becomes_rgb(root, mode, suffix):
    draw(root / "train" / "blue" / f"0_other.{suffix}", (255, 255, 255), mode=mode)
    pixels = load(root).train.pixels
    assert len(pixels) == 7
    assert (pixels[1] >= 250).all()


def test_a_palette_with_transparency_is_read_without_a_warning(root):
    image = Image.new("P", (8, 8))
    image.putpalette([10, 200, 30] * 256)
    image.save(root / "train" / "blue" / "0_palette.png", transparency=bytes(range(256)))
    assert load(root).train.pixels[1, :, 0, 0].tolist() == [10, 200, 30]


def test_16_bit_greys_are_scaled(root):
    image = Image.fromarray(np.full((8, 8), 0x6400, np.uint16))
    image.save(root / "train" / "blue" / "0_deep.png")
    assert (load(root).train.pixels[1] == 0x64).all()


RAMP = np.arange(64, dtype=np.float64).reshape(8, 8) / 63
GREYS = (255 * RAMP + 1e-9).astype(int)


@pytest.mark.parametrize("ending", ["tif", "png", "pgm"])
def test_16_bits_keep_256_levels(tmp_path, ending):
    wide = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(wide).save(tmp_path / f"deep.{ending}")
    assert np.array_equal(np.asarray(decode(tmp_path / f"deep.{ending}"))[..., 0], wide >> 8)


def write_tiff(file: Path, width: int, height: int, pixels: bytes, **tags: int) -> Path:
    """A little-endian TIFF of one strip of greys."""
    size = {256: width, 257: height, 258: tags["bits"], 259: 1, 262: tags["photometric"]}
    entries = size | {273: 8 + 2 + 9 * 12 + 4, 277: 1, 278: height, 279: len(pixels)}
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    listed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    file.write_bytes(head + listed + bytes(4) + pixels)
    return file


def test_greys_where_white_is_zero_are_read_as_light(tmp_path):
    wide = np.arange(65536, dtype="<u2").reshape(256, 256)
    inverted = (65535 - wide).tobytes()
    file = write_tiff(tmp_path / "inverted.tif", 256, 256, inverted, bits=16, photometric=0)
    assert np.array_equal(np.asarray(decode(file))[..., 0], wide >> 8)


def test_12_bits_are_scaled_from_their_own_range(tmp_path):
    # Two pixels in three bytes: 0xFFF and 0x800.
    two = bytes((0xFF, 0xF8, 0x00))
    file = write_tiff(tmp_path / "twelve.tif", 2, 1, two, bits=12, photometric=1)
    assert np.asarray(decode(file))[0, :, 0].tolist() == [0xFF, 0x80]


def test_floats_are_read_from_0_to_1(tmp_path):
    Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "float.tif")
    assert np.abs(np.asarray(decode(tmp_path / "float.tif"))[..., 0] - 255 * RAMP).max() <= 0.5


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (255 * RAMP.astype(np.float32), "floats from 0 to 255, expected 0..1"),
        (RAMP.astype(np.float32) - 0.5, "floats from -0.5"),
        (np.full((8, 8), np.nan, np.float32), "floats from nan"),
        (GREYS.astype(np.int32), "32-bit whole numbers from 0 to 255, of no known range"),
    ],
    ids=["bytes as floats", "negative", "not a number", "32 bits"],
)
def test_numbers_without_a_known_range_are_refused_by_name(root, values, reason):
    Image.fromarray(values).save(root / "train" / "blue" / "0_deep.tif")
    fails(root, rf"cannot read image .*0_deep\.tif \({reason}")


@pytest.mark.parametrize("ending", ["gif", "jp2", "tga", "dds", "webp"])
def test_whatever_pillow_opens_is_an_image(root, ending):
    draw(root / "train" / "blue" / f"0_other.{ending}", BLUE)
    assert len(load(root).train) == 7


@pytest.mark.parametrize(
    "left", [".ipynb_checkpoints", "__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", ".DS_Store"]
)
@pytest.mark.parametrize("place", ["train", "train/red", "test/blue", "train/red/more"])
def test_what_tools_leave_behind_is_no_image_and_no_class(root, left, place):
    draw(root / "train" / "red" / "more" / "7.png")
    draw(root / place / left / "copy.png")
    dataset = load(root)
    assert (len(dataset.train), len(dataset.test)) == (7, 4)
    assert dataset.classes == ("blue", "red")


def test_images_below_a_hidden_folder_are_found(root):
    root.rename(root.parent / ".hidden")
    assert len(load(root.parent / ".hidden").train) == 6


def test_images_are_turned_upright(root):
    image = Image.new("RGB", (8, 8), RED)
    image.paste(BLUE, (0, 0, 4, 8))  # left half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter: left becomes top
    image.save(root / "train" / "red" / "turned.png", exif=exif)
    pixels = load(root).train.pixels[-1]
    assert pixels[:, 0, 7].tolist() == list(BLUE)
    assert pixels[:, 7, 0].tolist() == list(RED)


def test_size_resizes_the_shorter_side_and_crops_the_centre(root):
    image = Image.new("RGB", (40, 10), RED)
    image.paste(BLUE, (15, 0, 25, 10))
    image.save(root / "train" / "blue" / "0_wide.png")
    dataset = load(root, size=5)
    assert dataset.image_size == 5
    assert (dataset.train.pixels[1, 2, :, 1:4] > 200).all()


def test_large_images_decode_to_the_same_pixels_as_small_ones(tmp_path):
    for split in ("train", "test"):
        for shade in range(12):
            draw(tmp_path / split / "grey" / f"{shade:02}.png", (shade,) * 3, size=(160, 160))
    pixels = load(tmp_path).train.pixels
    assert pixels[:, 0, 80, 80].tolist() == list(range(12))


def test_a_limit_keeps_as_many_of_each_class(root):
    small, large = load(root, limit=2).train, load(root, limit=5).train
    assert sorted(small.labels.tolist()) == [0, 1]
    assert len(large) == 5
    assert torch.equal(large.pixels[:2], small.pixels)
    assert (large.pixels[large.labels == 1, 0] == RED[0]).all()
    assert len(load(root, limit=100).train) == 6


def test_progress_counts_the_images_of_both_splits(root):
    seen = []
    load(root, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 10) for i in range(1, 11)]


def test_a_missing_folder_is_told(tmp_path):
    fails(tmp_path / "none", r"there is no folder .*none; give one that holds train/CLASS/IMAGE")


def test_an_empty_folder_is_told(tmp_path):
    fails(tmp_path, r"folder .* is empty; put train/CLASS/IMAGE")


def test_a_folder_without_train_is_told(root):
    (root / "train").rename(root / "training")
    fails(root, r"has no train/ inside; move the training images to .*train/CLASS/")


def test_a_folder_without_test_is_told(root):
    (root / "test").rename(root / "holdout")
    fails(root, r"has neither val/ nor test/ inside; move .* to .*test/CLASS/")


def test_a_split_without_classes_is_told(root):
    for file in (root / "test").rglob("*.png"):
        file.rename(root / "test" / f"{file.parent.name}{file.name}")
    for name in ("red", "blue"):
        (root / "test" / name).rmdir()
    fails(root, r"folder .*test holds no class folders; put images into .*test/CLASS/")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_without_images_is_told_by_name(root, split):
    for file in (root / split / "blue").iterdir():
        file.unlink()
    fails(root, f"class folder .*{split}/blue has no images; put some in .*png.* or remove")


def test_classes_that_differ_are_told_by_name(root):
    draw(root / "train" / "green" / "0.png")
    fails(root, r"classes of .*train and .*test differ: green in train/ but not in test/; give")
    draw(root / "test" / "green" / "0.png")
    for i in range(8):
        draw(root / "test" / f"more{i}" / "0.png")
    fails(root, r"differ: more0, more1, .*and 3 more in test/ but not in train/; give")


def test_an_unreadable_image_is_told_by_name(root):
    (root / "train" / "red" / "bad.jpg").write_bytes(b"this is no image")
    fails(root, r"cannot read image .*train/red/bad\.jpg \(cannot identify image file\); replace")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_image_is_told_by_name(root, suffix):
    noise = torch.randint(256, (64, 64, 3), generator=torch.Generator().manual_seed(0))
    file = root / "test" / "red" / f"cut.{suffix}"
    Image.fromarray(noise.byte().numpy()).save(file)
    file.write_bytes(file.read_bytes()[:1500])
    fails(root, rf"cannot read image .*test/red/cut\.{suffix} .*replace", size=8)


def test_sizes_that_differ_are_told(root):
    draw(root / "train" / "red" / "large.png", size=(9, 8))
    fails(root, r"images differ in size, .* is 8x8 pixels and .*large\.png 9x8; pass size=")
    assert load(root, size=8).image_size == 8


def test_sizes_that_differ_are_told_for_large_images_too(root):
    draw(root / "train" / "blue" / "!first.png", size=(160, 160))
    fails(root, r"images differ in size, .*first\.png is 160x160")


def test_images_that_are_not_square_are_told(root):
    for file in root.rglob("*.png"):
        draw(file, size=(12, 8))
    fails(root, r"is 12x8 pixels, expected square images; pass size= \(--image-size\)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 1}, r"limit=1.*number of classes, 2"),
        ({"limit": 0}, "limit=0; give 1 or more"),
        ({"limit": -3}, "limit=-3; give 1 or more"),
        ({"size": 0}, "size=0; give 1 or more"),
    ],
)
def test_numbers_that_are_too_small_are_told(root, options, message):
    fails(root, message, **options)


@pytest.mark.parametrize(
    "name", ["mnist", "", "imagefolder", "imagefolder:", "shapes:here", "Shapes", "nothing:at/all"]
)
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(
        FtwtError, match=rf'load\("{name}"\): unknown data set; use one of shapes, cifar10, .*DIR'
    ):
        data.load(name)


def test_a_folder_for_a_name_is_told_how_to_give_it(root):
    with pytest.raises(FtwtError, match=rf"use imagefolder:{root}, or one of shapes"):
        data.load(str(root))
