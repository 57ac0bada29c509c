"""CIFAR, read through torchvision from small archives made here; nothing is downloaded."""

import pickle
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from ftwt import data
from ftwt.errors import FtwtError

PER_FILE = 12


def batch(seed: int, key: str, classes: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(256, size=(PER_FILE, 3072), dtype=np.uint8)
    return {"data": pixels, key: [i % classes for i in range(PER_FILE)]}


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dumped = pickle.dumps(content, protocol=2)
    # The real files come from a NumPy that pickled a dtype's flags as 0 and 1, not as booleans.
    path.write_bytes(dumped.replace(b"\x89\x88\x87", b"K\x00K\x01\x87"))


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cifar-10-batches-py"
    names = [name for name, _ in CIFAR10.train_list]
    for seed, name in enumerate([*names, "test_batch"]):
        write(folder / name, batch(seed, "labels", 10))
    write(folder / "batches.meta", {"label_names": [f"class{i}" for i in range(10)]})
    accept_any_checksum(monkeypatch, CIFAR10)
    return tmp_path


@pytest.fixture
def cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cifar-100-python"
    write(folder / "train", batch(0, "fine_labels", 6))
    write(folder / "test", batch(1, "fine_labels", 6))
    write(folder / "meta", {"fine_label_names": [f"class{i}" for i in range(100)]})
    accept_any_checksum(monkeypatch, CIFAR100)
    return tmp_path


def accept_any_checksum(monkeypatch: pytest.MonkeyPatch, source: type) -> None:
    for files in ("train_list", "test_list"):
        monkeypatch.setattr(source, files, [(name, None) for name, _ in getattr(source, files)])
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": None})
    monkeypatch.setattr(source, "tgz_md5", None)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network\nhere")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def test_cifar10_is_read(cifar10):
    dataset = data.load("cifar10", root=cifar10)
    assert dataset.name == "cifar10"
    assert dataset.classes == tuple(f"class{i}" for i in range(10))
    assert dataset.image_size == 32
    assert (len(dataset.train), len(dataset.test)) == (5 * PER_FILE, PER_FILE)
    assert dataset.train.labels[:12].tolist() == [*range(10), 0, 1]
    first = batch(0, "labels", 10)["data"][0].reshape(3, 32, 32)
    assert torch.equal(dataset.train.pixels[0], torch.from_numpy(first))
    assert dataset.train.pixels.is_contiguous()
    assert dataset.mean == (0.4914, 0.4822, 0.4465)
    assert dataset.std == (0.2023, 0.1994, 0.2010)


def test_the_folder_may_be_part_of_the_name(cifar10):
    by_root = data.load("cifar10", root=cifar10)
    by_name = data.load(f"cifar10:{cifar10}")
    relative = data.load(f"cifar10:{cifar10.name}", root=cifar10.parent)
    assert torch.equal(by_root.test.pixels, by_name.test.pixels)
    assert torch.equal(by_root.test.pixels, relative.test.pixels)
    assert by_name.name == f"cifar10:{cifar10}"


def test_downloads_are_kept_in_the_users_cache(cifar10, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "ftwt").symlink_to(cifar10, target_is_directory=True)
    assert len(data.load("cifar10").test) == PER_FILE
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    (tmp_path / "cache").rename(tmp_path / ".cache")
    assert len(data.load("cifar10").test) == PER_FILE


def test_an_archive_put_beside_is_unpacked(cifar10, tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    with tarfile.open(place / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(cifar10 / "cifar-10-batches-py", "cifar-10-batches-py")
    assert len(data.load(f"cifar10:{place}").train) == 5 * PER_FILE


def test_cifar100_is_read(cifar100):
    dataset = data.load("cifar100", root=cifar100)
    assert len(dataset.classes) == 100
    assert dataset.mean == (0.5071, 0.4865, 0.4409)
    assert (len(dataset.train), len(dataset.test)) == (PER_FILE, PER_FILE)


def test_size_and_limit(cifar10):
    dataset = data.load("cifar10", root=cifar10, size=16, limit=20)
    assert dataset.image_size == 16
    assert dataset.test.pixels.shape == (PER_FILE, 3, 16, 16)
    assert torch.bincount(dataset.train.labels).tolist() == [2] * 10


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_download_that_fails_says_where_to_put_the_files(name, tmp_path):
    message = (
        rf'load\("{name}"\): cifar-100?-\S+ cannot be downloaded to {tmp_path} \('
        rf".*no network here.*"
        rf"put cifar-100?-python\.tar\.gz from https://\S+ there, or name .*: {name}:DIR"
    )
    with pytest.raises(FtwtError, match=message) as raised:
        data.load(name, root=tmp_path)
    assert "\n" not in str(raised.value)


def test_absent_files_are_told_when_downloads_are_off(tmp_path):
    with pytest.raises(FtwtError, match=r"is not whole in .*put cifar-10-python\.tar\.gz from"):
        data.load(f"cifar10:{tmp_path}", download=False)


def test_a_damaged_file_is_told(cifar10):
    (cifar10 / "cifar-10-batches-py" / "test_batch").write_bytes(b"")
    with pytest.raises(FtwtError, match=r"is not whole in"):
        data.load("cifar10", root=cifar10, download=False)
