"""Image folders that are read while training: what is served, and whole runs on them."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from PIL import Image

from ftwt import data
from ftwt.data import ResizedCrop
from ftwt.io import storage
from ftwt.training import Interrupted, Overrides, StepEvent, recipe
from ftwt.training.metrics import Metrics
from ftwt.training.runs import Callbacks, train_run
from tests.image_files import ODD, make_imagenet
from tests.small import refused

STATISTICS = {"mean": (0.5,) * 3, "std": (0.25,) * 3}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_imagenet(tmp_path_factory.mktemp("small"), classes=3, images=6)


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    return make_imagenet(tmp_path_factory.mktemp("thousand"))


def serve(folder, *, workers=0, start=0, epoch=2, **options):
    files = data.load(f"imagenet:{folder}", size=32, workers=workers).train
    loader = data.serve(files, 5, shuffle=True, seed=4, **STATISTICS, **options)
    loader.set_epoch(epoch)
    return list(loader.starting_at(start))


def test_a_folder_is_listed_with_val_before_test(small):
    dataset = data.load(f"imagenet:{small}")
    assert dataset.image_size == 224
    assert dataset.classes == ("n00000000", "n00000001", "n00000002")
    assert len(dataset.train) == 3 * 6 + len(ODD)
    assert len(dataset.test) == 3
    only = data.load(f"imagenet:{small}", only="test")
    assert (len(only.train), len(only.test)) == (0, 3)


@pytest.mark.parametrize("augment", [ResizedCrop(), data.Augment(2), None])
def test_what_is_served_depends_on_seed_and_epoch_alone(small, augment):
    """Not on the number of workers, nor on where in the epoch it starts."""
    whole = serve(small, augment=augment)
    other = serve(small, augment=augment, workers=2, start=2)
    assert len(other) == len(whole) - 2 == 3
    for (images, labels), (same, known) in zip(whole[2:], other, strict=True):
        assert torch.equal(images, same)
        assert torch.equal(labels, known)
    later = serve(small, augment=augment, epoch=3)
    assert not torch.equal(whole[0][0], later[0][0])


def test_serving_leaves_the_global_generator_alone(small):
    """Dropout draws from it, so a resumed epoch would go on differently."""
    before = torch.get_rng_state()
    serve(small, augment=ResizedCrop())
    assert torch.equal(before, torch.get_rng_state())


def test_every_kind_of_jpeg_becomes_upright_rgb(small):
    dataset = data.load(f"imagenet:{small}", size=32, workers=0)
    files = {os.fsdecode(name): i for i, name in enumerate(dataset.train.names)}
    served = {}
    for name in (*ODD, "train_0"):
        one = dataset.train.select(torch.tensor([files[f"train/n00000000/{name}.JPEG"]]))
        served[name] = next(iter(data.serve(one, 1, mean=(0.0,) * 3, std=(1.0,) * 3)))[0][0]
    assert all(image.shape == (3, 32, 32) for image in served.values())
    plain = served["train_0"]
    assert torch.equal(served["gray"][0], served["gray"][1])
    assert (served["cmyk"] - plain).abs().mean() < 0.05
    turned = torch.rot90(plain, -1, (1, 2))
    assert (served["turned"] - turned).abs().mean() < 0.05 < (plain - turned).abs().mean()


def test_a_random_crop_is_of_the_image_and_of_the_size():
    image = Image.new("RGB", (50, 70), (200, 100, 50))
    made = ResizedCrop().image(image, 24, torch.Generator().manual_seed(0))
    assert made.shape == (3, 24, 24)
    assert made.dtype == torch.uint8
    assert (made == torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None]).all()


def test_batches_in_memory_are_cropped_too():
    pixels = torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8)
    images = data.Images(pixels, torch.arange(6))
    one, two = (data.serve(images, 6, augment=ResizedCrop(), **STATISTICS) for _ in range(2))
    assert torch.equal(next(iter(one))[0], next(iter(two))[0])
    assert next(iter(one))[0].shape == (6, 3, 16, 16)


def test_bad_ranges_and_workers_are_told(small):
    refused(r"ResizedCrop\(scale=\(0, 1\), .*areas within \(0, 1\]", ResizedCrop, scale=(0, 1))
    refused("workers=-1; give 0 or more", data.load, f"imagenet:{small}", workers=-1)


def train(command, folder, out, *more):
    return command(
        "train", "cifar10-resnet8-short", "--dense", "--data", f"imagenet:{folder}",
        "--image-size", 32, "--out", out, *more,
    )  # fmt: skip


def test_a_thousand_classes_train_and_are_evaluated(ftwt_command, thousand, tmp_path):
    out, options = tmp_path / "run", ("--epochs", 2, "--limit", 1000, "--workers", 2)
    answer = train(ftwt_command, thousand, out, *options, "--json")
    assert answer.json()["data"]["train_images"] == 900
    value = ftwt_command(
        "eval", out, "--data", f"imagenet:{thousand}", "--image-size", 32, "--workers", 0, "--json"
    ).json()
    assert value["images"] == 1000
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert rows[1]["losses"]["loss"] < rows[0]["losses"]["loss"]


def test_an_image_that_cannot_be_read_midway_is_named_and_may_be_replaced(ftwt_command, tmp_path):
    folder = make_imagenet(tmp_path / "images", classes=2, images=60)
    victim = folder / "train" / "n00000001" / "train_7.JPEG"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:200])
    out, options = tmp_path / "run", ("--epochs", 1, "--accumulate", 16, "--workers", 1)
    answer = train(ftwt_command, folder, out, *options)
    assert answer.status == 2
    assert f"cannot read image {victim}" in answer.err
    assert "Traceback" not in answer.err
    assert json.loads((out / "run.json").read_text())["status"] == "failed"
    victim.write_bytes(whole)
    assert train(ftwt_command, folder, out, *options, "--resume").status == 0


def losses_of(run) -> list[dict[str, float]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["losses"] for line in lines]


def test_a_run_on_disk_with_dropout_goes_on_to_the_same_weights(small, tmp_path):
    """Stopped within an epoch: order, crops, flips and dropout go on as if nothing was."""
    dataset = data.load(f"imagenet:{small}", size=32, workers=1, only="train")
    made = recipe("imagenet-mobilenet_v2", Overrides(epochs=2), dense=True)
    made = replace(made, batch_size=4)
    train_run(made, dataset, tmp_path / "whole")

    def stop(event: StepEvent) -> None:
        if (event.epoch, event.batch) == (1, 2):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="in epoch 2 after batch 2"):
        train_run(made, dataset, tmp_path / "run", callbacks=Callbacks(step=stop))
    # Whatever was drawn meanwhile.
    torch.rand(7)
    model, _ = train_run(made, dataset, tmp_path / "run", resume=True)
    assert any(isinstance(module, torch.nn.Dropout) for module in model.modules())
    # The weights that are kept may be of the epoch before; every later loss hangs on the rest.
    assert losses_of(tmp_path / "run") == losses_of(tmp_path / "whole")
    one, two = (
        storage.read_tensors(tmp_path / run / "model.safetensors")[0] for run in ("run", "whole")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_the_recipe_for_imagenet_end_to_end(ftwt_command, thousand, tmp_path):
    """Dense, stopped midway and resumed; gated from it; evaluated. In small images."""
    dense, out = tmp_path / "dense", tmp_path / "gated"
    images = ("--data", f"imagenet:{thousand}", "--image-size", 64, "--workers", 1)
    options = (*images, "--limit", 1200, "--epochs", 1, "--accumulate", 4, "--checkpoint-every", 1)
    command = ("train", "imagenet-resnet18", *options, "--dense", "--out", dense)
    with pytest.MonkeyPatch.context() as patch:
        check = Metrics.check_finite

        def stop(self, epoch):
            check(self, epoch)
            os.kill(os.getpid(), signal.SIGTERM)

        patch.setattr(Metrics, "check_finite", stop)
        assert ftwt_command(*command).status == 128 + signal.SIGTERM
    assert ftwt_command(*command, "--resume").status == 0
    gated = ("train", "imagenet-resnet18", *options, "--init", dense, "--out", out)
    assert ftwt_command(*gated).status == 0
    value = ftwt_command("eval", out, *images, "--json").json()
    assert value["images"] == 1000
    assert 0 < value["reduction_exact"] < value["reduction_paper"] < 1
