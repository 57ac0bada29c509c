"""Two processes that torchrun starts, over gloo: one model, metrics of all images, a dead rank."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ftwt import data
from ftwt.errors import FtwtError
from ftwt.io import storage
from ftwt.training import evaluate
from tests.command_line import make_folder
from tests.test_states import dataset, load, same

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
RECIPE = "cifar10-resnet8-short"


def test_both_processes_end_with_one_model_and_the_metrics_of_all_images(tmp_path):
    done = subprocess.run(
        [*TORCHRUN, "-m", "tests.distributed_worker", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    one, two = (load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    # The file is the main process's, and one process alone finds the same numbers with it.
    model, _ = storage.load(tmp_path / "run")
    assert same(model, one)
    own = dataset()
    held = data.Batches(data.holdout(own.train, 0.325)[1], 4, mean=own.mean, std=own.std)
    result = evaluate(model, held)
    assert result.images == 13
    for rank in range(2):
        *found, metrics = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == pytest.approx(list(result[:-1]))
        assert metrics == pytest.approx(result.metrics)
    # So do the epochs' lines: the best one's validation is of this model.
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["processes"] == 2
    rows = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    held = data.Batches(data.holdout(own.train)[1], 4, mean=own.mean, std=own.std)
    best = rows[record["best_epoch"]]["validation"]
    found = evaluate(model, held).to_json()
    assert best.pop("metrics") == pytest.approx(found.pop("metrics"))
    assert best == pytest.approx(found)
    assert rows[0]["losses"]["GateBCE"] > 0


def test_a_rank_that_dies_ends_the_job_with_a_word_and_a_state_to_resume(ftwt_command, tmp_path):
    folder = make_folder(tmp_path / "images", images=80)
    out = tmp_path / "run"
    train = [
        "-m", "ftwt_cli", "train", RECIPE, "--data", f"imagefolder:{folder}", "--out", str(out),
        "--checkpoint-every", "1", "--threads", "1", "--epochs",
    ]  # fmt: skip
    with subprocess.Popen(
        [*TORCHRUN, *train, "500"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as job:
        while job.poll() is None and not (out / "resume.previous.pt").is_file():
            time.sleep(0.05)
        os.kill(child_of(job.pid, rank=1), signal.SIGKILL)
        _, said = job.communicate()
    assert job.returncode != 0
    assert "rank 0 of 2 lost the others, one of them has ended" in said
    assert "start the job again with --resume" in said
    kept = load(out / "resume.pt")
    assert kept["epoch"] >= 0
    assert len(kept["generators"]) == 2
    # One process is another job: it says so, and changes nothing.
    refused = ftwt_command(*train[2:], "500", "--resume")
    assert refused.status == 2
    assert "processes was 2, is 1" in refused.err


def child_of(parent: int, *, rank: int) -> int:
    """The process that torchrun started as a rank."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if status[1] == str(parent) and f"RANK={rank}".encode() in environment:
            return int(entry.name)
    raise AssertionError(f"no child with rank {rank}")


@pytest.mark.parametrize("drop_last", [False, True])
def test_parts_are_disjoint_and_make_up_each_batch(drop_last):
    own = data.Images(
        torch.arange(31, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2),
        torch.arange(31),
    )
    statistics = {"mean": (0.0,) * 3, "std": (1.0,) * 3}

    def labels(size, **more):
        loader = data.Batches(own, size, shuffle=True, drop_last=drop_last, **statistics, **more)
        return [set(batch.tolist()) for _, batch in loader]

    whole, parts = labels(8), [labels(4, shard=(index, 2)) for index in range(2)]
    for number, (one, two) in enumerate(zip(*parts, strict=drop_last)):
        assert not one & two
        assert one | two == whole[number]
    served = set().union(*parts[0], *parts[1])
    assert len(served) == (24 if drop_last else 31)


def test_a_part_that_does_not_exist_is_told():
    own = dataset()
    with pytest.raises(FtwtError, match=r"shard=\(2, 2\)\): there is no such part"):
        data.Batches(own.train, 4, mean=own.mean, std=own.std, shard=(2, 2))
