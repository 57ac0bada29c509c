"""What each process of a job in test_distributed.py does: train, save what it ended with."""

import json
import sys
from pathlib import Path

import torch

from ftwt import data
from ftwt.training import distributed, evaluate
from ftwt.training.runs import train_run
from tests.test_states import RECIPE, dataset


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with distributed.joined("cpu"):
        here = distributed.world()
        assert here.size == 2
        own = dataset()
        model, _ = train_run(RECIPE, own, folder / "run")
        # 10 of 13 images and 3 of them: shares need not be equal.
        share = data.Batches(
            data.holdout(own.train, 0.325)[1], 2, mean=own.mean, std=own.std, shard=here
        )
        result = evaluate(model, share, shared=True)
        torch.save(model.state_dict(), folder / f"{here.rank}.pt")
        (folder / f"{here.rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
