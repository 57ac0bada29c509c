"""Saved states: what is refused, what a damaged or failed write leaves, in this process."""

import json
import os
import resource
import signal
from dataclasses import replace

import pytest
import torch

from ftwt import data, losses
from ftwt.data.dataset import Dataset
from ftwt.errors import FtwtError
from ftwt.gated.pruning import Pruning
from ftwt.io import storage
from ftwt.training import Interrupted, Phase, Recipe, Settings, Sgd, Steps, Warmup, checkpoint
from ftwt.training.folders import claimed
from ftwt.training.runs import Callbacks, train_run
from tests.small import refused

RECIPE = Recipe(
    "cifar10-resnet8",
    Settings(
        (Phase("gates", 2), Phase("frozen", 1, train="backbone")),
        Sgd(0.01, schedule=Warmup(Steps((0.5,)), 0.2)),
        Sgd(0.1),
        ema=0.9,
    ),
    losses.CrossEntropy() + losses.GateBCE(),
    Pruning(),
    batch_size=8,
)


def images(count: int, seed: int) -> data.Images:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return data.Images(pixels, torch.arange(count) % 2)


def dataset(name: str = "mine", seed: int = 0) -> Dataset:
    return Dataset(name, ("a", "b"), images(40, seed), images(4, 9), (0.5,) * 3, (0.25,) * 3)


def stopping_after(epochs: int) -> Callbacks:
    def callbacks(row) -> None:
        if row.epoch + 1 == epochs:
            os.kill(os.getpid(), signal.SIGINT)

    return Callbacks(epoch=callbacks)


@pytest.fixture
def stopped(tmp_path):
    """A run that was stopped in its second epoch, with its last two states."""
    out = tmp_path / "run"
    with pytest.raises(
        Interrupted, match=r"stopped by SIGINT in epoch 2 after batch 1; .*--resume"
    ):
        train_run(RECIPE, dataset(), out, callbacks=stopping_after(1))
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights of a run that nothing stopped."""
    return train_run(RECIPE, dataset(), tmp_path_factory.mktemp("whole") / "run")[0].state_dict()


def same(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_the_newest_state_is_where_it_stopped(stopped, whole):
    assert [load(stopped / name)["batch"] for name in ("resume.pt", "resume.previous.pt")] == [1, 0]
    model, record = train_run(RECIPE, dataset(), stopped, resume=True)
    assert same(model, whole)
    assert record["status"] == "finished"
    assert not checkpoint.exists(stopped)


def load(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("how", ["truncated", "overwritten", "absent"])
def test_a_damaged_newest_state_gives_way_to_the_one_before(stopped, whole, how):
    newest = stopped / "resume.pt"
    content = bytearray(newest.read_bytes())
    if how == "truncated":
        newest.write_bytes(content[: len(content) // 2])
    elif how == "overwritten":
        # One bit within the weights, which torch itself does not notice.
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)
    else:
        newest.unlink()
    notes: list[str] = []
    model, _ = train_run(
        RECIPE, dataset(), stopped, resume=True, callbacks=Callbacks(note=notes.append)
    )
    assert same(model, whole)
    said = [note for note in notes if "damaged; going on from resume.previous.pt" in note]
    assert len(said) == (how != "absent")
    assert "going on in epoch 2 after batch 0" in notes


def test_a_state_of_version_0_1_0_goes_on(stopped, whole):
    """It calls the epoch's sums a tally, and a phase's operating points knots."""
    kept = load(stopped / "resume.pt")
    kept["tally"] = kept.pop("metrics")
    about = json.loads(kept["about"])
    for phase in about["recipe"]["settings"]["phases"]:
        phase["knots"] = phase.pop("operating_points")
    torch.save(kept | {"about": json.dumps(about)}, stopped / "resume.pt")
    notes: list[str] = []
    callbacks = Callbacks(note=notes.append)
    assert same(train_run(RECIPE, dataset(), stopped, resume=True, callbacks=callbacks)[0], whole)
    assert "going on in epoch 2 after batch 1" in notes


def test_no_whole_state_is_told_and_nothing_is_changed(stopped):
    for name in ("resume.pt", "resume.previous.pt"):
        (stopped / name).write_bytes(b"no state")
    with pytest.raises(FtwtError, match=r"resume.pt \(.*\) and resume.previous.pt .* cannot be"):
        train_run(RECIPE, dataset(), stopped, resume=True)
    assert (stopped / "resume.pt").read_bytes() == b"no state"


@pytest.mark.parametrize("other", [1, 2, 3])
def test_a_state_of_another_format_is_told(other, stopped):
    kept = load(stopped / "resume.pt")
    torch.save(kept | {"format": other}, stopped / "resume.pt")
    told = rf"another version of ftwt \(format {other}, this one reads 4\)"
    refused(told, train_run, RECIPE, dataset(), stopped, resume=True)


def changed_about(out, **changes: object) -> None:
    kept = load(out / "resume.pt")
    about = json.loads(kept["about"]) | changes
    torch.save(kept | {"about": json.dumps(about)}, out / "resume.pt")


def test_another_version_or_number_of_processes_is_told(stopped):
    changed_about(stopped, ftwt="0.0.1", processes=4)
    with pytest.raises(
        FtwtError, match=r'ftwt was "0.0.1", is ".*"; processes was 4, is 1; resume'
    ):
        train_run(RECIPE, dataset(), stopped, resume=True)


def test_another_recipe_is_told_setting_by_setting(stopped):
    settings = replace(RECIPE.settings, seed=3, phases=(Phase("gates", 2), Phase("frozen", 4)))
    with pytest.raises(FtwtError) as raised:
        train_run(replace(RECIPE, settings=settings), dataset(), stopped, resume=True)
    said = str(raised.value)
    assert "recipe.settings.phases[1].epochs was 1, is 4" in said
    assert 'recipe.settings.phases[1].train was "backbone", is "all"' in said
    assert "recipe.settings.seed was 0, is 3" in said
    assert json.loads((stopped / "run.json").read_text())["status"] == "interrupted"


def test_data_are_the_same_by_what_they_hold(stopped, whole):
    with pytest.raises(FtwtError, match=r'started differently: data.images was "\w+", is "\w+"'):
        train_run(RECIPE, dataset(seed=1), stopped, resume=True)
    model, _ = train_run(RECIPE, dataset(name="another way to write it"), stopped, resume=True)
    assert same(model, whole)


def test_a_full_disk_leaves_the_state_before_whole(stopped, whole):
    """The system refuses to write more than so many bytes into a file, as a full disk would."""
    before = {path.name: path.read_bytes() for path in stopped.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(FtwtError, match=r"cannot write to .* \(File too large\); .*--resume"):
            train_run(RECIPE, dataset(), stopped, resume=True, checkpoint_every=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (stopped / "resume.pt").read_bytes() == before["resume.pt"]
    assert not [path for path in stopped.iterdir() if path.name.endswith(".partial")]
    assert json.loads((stopped / "run.json").read_text())["status"] == "failed"
    model, _ = train_run(RECIPE, dataset(), stopped, resume=True)
    assert same(model, whole)


def test_two_processes_cannot_write_one_folder(stopped, tmp_path):
    with claimed(stopped), pytest.raises(FtwtError, match=r"another process is training in .*run"):
        train_run(RECIPE, dataset(), stopped, resume=True)
    with claimed(tmp_path / "new"), pytest.raises(FtwtError, match="another process is training"):
        train_run(RECIPE, dataset(), tmp_path / "new")


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FtwtError, match=r"cannot write to .*run .*; give a folder that you may"):
        train_run(RECIPE, dataset(), tmp_path / "file" / "run")


def test_a_run_that_was_killed_before_its_first_word_can_be_resumed(tmp_path, whole):
    (tmp_path / ".run.json-abc.partial").write_text("{")
    model, _ = train_run(RECIPE, dataset(), tmp_path, resume=True)
    assert same(model, whole)
    assert not (tmp_path / ".run.json-abc.partial").exists()


def test_a_killed_run_whose_last_epoch_was_saved_only_finishes(tmp_path, whole):
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ftwt.training.runs._Folder.finish", kill)
        with pytest.raises(Killed):
            train_run(RECIPE, dataset(), tmp_path / "run")
    model, record = train_run(RECIPE, dataset(), tmp_path / "run", resume=True)
    assert same(model, whole)
    assert same(model, storage.load(tmp_path / "run")[0].state_dict())
    assert record["epochs"] == 3
    assert record["best_epoch"] == 2


def test_float16_needs_a_gpu(tmp_path):
    fp16 = replace(RECIPE, settings=replace(RECIPE.settings, amp="fp16"))
    refused(r"--amp fp16\) needs a GPU", train_run, fp16, dataset(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_class_is_refused(tmp_path):
    one = Dataset("mine", ("a",), images(40, 0), images(4, 0), (0.5,) * 3, (0.25,) * 3)
    refused(r"mine has one class \(a\)", train_run, RECIPE, one, tmp_path / "run")


def test_batches_have_to_divide(tmp_path):
    odd = replace(RECIPE, settings=replace(RECIPE.settings, accumulate=3))
    with pytest.raises(FtwtError, match=r"8 images do not divide into 3 equal batches"):
        train_run(odd, dataset(), tmp_path / "run")
