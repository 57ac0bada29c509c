"""`slim` for a finished run: from its folder to a new one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ftwt import data
from ftwt.data import Loaders
from ftwt.data.batches import evaluation_batches
from ftwt.errors import FtwtError
from ftwt.gated.within import held_in
from ftwt.io import storage
from ftwt.io.files import CannotWriteError, write_atomically, write_json
from ftwt.reports.analysis.removal import Slim, slim
from ftwt.training.folders import claimed
from ftwt.training.inspection import Loader, as_trained, check_classes
from ftwt.training.records import versions
from ftwt.training.runs import check_device
from ftwt.training.tested import task_of


def slim_run(
    run: Path,
    name: str,
    out: Path,
    *,
    limit: int | None = None,
    round_to: int = 1,
    size: int | None = None,
    device: torch.device | str = "cpu",
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Slim, dict[str, Any]]:
    """Make a saved gated network smaller by what never runs for the data's training images.

    Writes `model.safetensors`, which `ftwt.load`, `ftwt eval` and `ftwt bench` take, `slim.json`,
    and a copy of the run's `dense.safetensors` into `out`. Test images are not touched.

    Args:
        run: a run folder, or a file that `ftwt.save` wrote.
        name: the data set, as for `data.load`.
        out: the new folder.
        limit: use at most so many training images, spread evenly over the classes.
        round_to: leave more filters until each layer has a multiple of this, or all.
        size: side in pixels that images are brought to, as for `data.load`.
        device: where to run.
        workers: processes that decode images, as for `data.load`.
        progress: is told the batches looked at so far, and how many there are to look at.

    Returns:
        The smaller network with its figures, and the contents of `slim.json`.

    Raises:
        FtwtError: no gated model there, other classes than the data's, or `out` is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FtwtError(f"slim: {out} is not empty; nothing was changed, give a new folder")
    file = storage.model_file(run)
    check_device(device)
    model, card = storage.load(file, device=device)
    if (held := held_in(model)) is None:
        raise FtwtError(
            f"slim: {run} holds a plain network without gates; give a run trained without --dense"
        )
    task = task_of(card)
    loaded = data.load_any(name, size=size, only="train", workers=workers)
    if isinstance(loaded, Loaders):
        check_classes(f"slim: {run}", card, loaded)
        batches, count = loaded.train, len(loaded.train)
    else:
        dataset = as_trained(f"slim: {run}", card, loaded)
        batches = evaluation_batches(dataset, dataset.train, limit=limit)
        limit, count = None, len(batches)
    counted = _Counted(batches, lambda done: progress(done, 2 * count))
    found = slim(model, counted, limit=limit, round_to=round_to, task=task)
    value = {
        "run": str(run),
        "data": name,
        **found.removal.to_json(),
        **found.agreement.to_json(),
        "versions": versions(),
    }
    extra = {**card.extra, "dense_macs_before_slim": held[1].dense_macs}
    with _appearing(out) as folder:
        storage.save(found.model, folder / "model.safetensors", replace(card, extra=extra))
        start = file.parent / "dense.safetensors"
        if start.is_file():
            write_atomically(folder / start.name, start.read_bytes())
        write_json(folder / "slim.json", value)
    return found, value


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes it at the end, so that it appears whole or not at all."""
    folder = out.parent / f".{out.name}.partial"
    with claimed(folder, "slim"):
        # What a killed process left.
        for path in folder.iterdir():
            path.unlink()
        yield folder
        try:
            folder.replace(out)
        except OSError as error:
            raise CannotWriteError.of(out, error) from None


@dataclass
class _Counted:
    """Batches that tell how many of them were taken."""

    batches: Loader
    seen: Callable[[int], None]
    done: int = 0

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            yield batch
            self.done += 1
            self.seen(self.done)
