"""Run folders: a training with its weights, records and resume state.

model.safetensors   the best weights by validation, with everything needed to rebuild the model
dense.safetensors   the plain network that a gated training started from, if it did
metrics.jsonl       one line an epoch
run.json            command, recipe, data, versions, seed, hours, result
resume.pt           the state after the last epoch, until the run has finished
"""

import io
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ftwt import networks, specs, storage
from ftwt.attach import attach
from ftwt.data import Batches, Dataset, holdout
from ftwt.errors import FtwtError
from ftwt.files import write_atomically
from ftwt.losses import with_teacher
from ftwt.training.evaluation import Evaluation
from ftwt.training.loop import Epoch, State, fit, start
from ftwt.training.recipes import Recipe

_EVAL_BATCH = 500


@dataclass(frozen=True)
class Watch:
    """Callbacks for showing progress."""

    step: Callable[[int, int], None] = lambda done, of: None
    epoch: Callable[[Epoch], None] = lambda row: None


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("ftwt", "torchvision"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def train_run(
    recipe: Recipe,
    dataset: Dataset,
    out: Path,
    *,
    name: str = "custom",
    init: Path | None = None,
    resume: bool = False,
    device: torch.device | str = "cpu",
    watch: Watch = Watch(),
) -> tuple[nn.Module, dict[str, Any]]:
    """Train a recipe in a run folder, or go on with one that was interrupted.

    Args:
        recipe: what to train.
        dataset: its training images are split into training and validation; its test images are
            not touched.
        out: the run folder; new, unless `resume`.
        name: what to call the recipe in the records.
        init: a run folder or weights file to start from.
        resume: go on after the last whole epoch.
        device: where to train.
        watch: progress callbacks.

    Returns:
        The model with its best weights, in eval mode, and the contents of `run.json`.

    Raises:
        FtwtError: `out` holds a run already or another one's state, `init` does not fit, or the
            loss is not finite.
    """
    check_free(out, resume)
    check_device(device)
    torch.manual_seed(recipe.settings.seed)
    network = networks.build(recipe.network, num_classes=len(dataset.classes))
    start_weights = _starting_weights(init)
    plain = {name: one for name, one in start_weights.items() if not name.startswith("gates.")}
    if init is not None:
        storage.load_weights(network, plain, source=str(init))
    model: nn.Module = network
    if recipe.pruning is not None:
        side = dataset.image_size
        model = attach(network, recipe.pruning, example=torch.zeros(1, 3, side, side))
        if len(plain) < len(start_weights):
            storage.load_weights(model, start_weights, source=str(init))
    model.to(device)
    # The same images for every seed: a run may start from one of another seed.
    training, held = holdout(dataset.train)
    batches = Batches(
        training,
        min(recipe.batch_size, len(training)),
        mean=dataset.mean,
        std=dataset.std,
        augment=recipe.augment,
        shuffle=True,
        seed=recipe.settings.seed,
        drop_last=True,
    )
    validation = Batches(held, _EVAL_BATCH, mean=dataset.mean, std=dataset.std)
    objective = with_teacher(recipe.objective, network)
    state = start(model, recipe.settings, len(batches))
    card = storage.Card(
        recipe.network, len(dataset.classes), dataset.classes, dataset.mean, dataset.std,
        {"recipe": name, "data": dataset.name},
    )  # fmt: skip
    record: dict[str, Any] = {
        "status": "running",
        "recipe": name,
        "specification": specs.to_json(recipe),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "data": {
            "name": dataset.name,
            "train_images": len(training),
            "validation_images": len(held),
        },
        "init": str(init) if init is not None else None,
        "seed": recipe.settings.seed,
        "versions": versions(),
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
    }
    make_folder(out)
    # A run that was stopped in its first epoch has no state yet and starts over.
    if resume and (out / "resume.pt").is_file():
        _restore(out, state, record)
    elif init is not None and len(plain) == len(start_weights):
        storage.save(network, out / "dense.safetensors", card)
    _write_json(out / "run.json", record)

    def after_epoch(row: Epoch, state: State) -> None:
        _append_metrics(out, row)
        record.update(_progress(state, row.validation))
        if state.best_epoch == row.epoch:
            storage.save(model, out / "model.safetensors", card)
        _write_json(out / "run.json", record)
        _keep(out, state, record)
        watch.epoch(row)

    try:
        fit(
            state, objective, recipe.settings, batches, validation,
            after_step=watch.step, after_epoch=after_epoch,
        )  # fmt: skip
    except FtwtError as error:
        _write_json(out / "run.json", record | {"status": "failed", "error": str(error)})
        raise
    record["status"] = "finished"
    _write_json(out / "run.json", record)
    (out / "resume.pt").unlink(missing_ok=True)
    return model.eval(), record


def _starting_weights(init: Path | None) -> dict[str, Tensor]:
    return {} if init is None else storage.read(storage.model_file(init))[0]


def check_free(out: Path, resume: bool = False) -> None:
    """Raise FtwtError unless `out` is new or empty, or holds a run to resume."""
    if resume:
        if not (out / "run.json").is_file():
            raise FtwtError(
                f"train: {out} holds no run to resume; leave out --resume, or give a run's folder"
            )
        if json.loads((out / "run.json").read_text()).get("status") == "finished":
            raise FtwtError(
                f"train: the run in {out} is finished, there is nothing to resume; "
                "give a new folder for another run"
            )
        return
    if out.is_file():
        raise FtwtError(f"train: {out} is a file; give a folder for the run")
    if out.is_dir() and any(out.iterdir()):
        raise FtwtError(
            f"train: {out} is not empty and may hold another run; nothing was changed, "
            "give a new folder, or --resume to go on with that run"
        )


def check_device(device: torch.device | str) -> None:
    """Raise FtwtError unless torch can put a tensor on the device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise FtwtError(
            f"train: device {str(device)!r} cannot be used ({reason}); give cpu, or cuda on a "
            "machine with a GPU"
        ) from None


def make_folder(out: Path) -> None:
    """Make the folder, or raise FtwtError where nothing can be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise FtwtError(f"train: cannot write to {out} ({error.strerror})") from None


def _progress(state: State, validation: Evaluation) -> dict[str, Any]:
    return {
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        "best_validation_accuracy": state.best_accuracy if state.best_epoch >= 0 else None,
        "last_validation": {
            "accuracy": validation.accuracy,
            "reduction_exact": validation.reduction_exact,
            "reduction_paper": validation.reduction_paper,
        },
        "hours": state.seconds / 3600,
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _append_metrics(out: Path, row: Epoch) -> None:
    values = row._asdict() | {"validation": row.validation._asdict()}
    file = out / "metrics.jsonl"
    # An epoch that is run again after an interruption replaces its line.
    lines = file.read_text().splitlines()[: row.epoch] if file.is_file() else []
    lines.append(json.dumps(values))
    write_atomically(file, ("\n".join(lines) + "\n").encode())


def _keep(out: Path, state: State, record: dict[str, Any]) -> None:
    kept = {
        "specification": json.dumps(record["specification"]),
        "data": json.dumps(record["data"]),
        "model": state.model.state_dict(),
        "optimizers": {name: one.state_dict() for name, one in state.optimizers.items()},
        "schedulers": {name: one.state_dict() for name, one in state.schedulers.items()},
        "epoch": state.epoch,
        "best_accuracy": state.best_accuracy,
        "best_epoch": state.best_epoch,
        "best_weights": state.best_weights,
        "seconds": state.seconds,
        "rng": torch.get_rng_state(),
    }
    buffer = io.BytesIO()
    torch.save(kept, buffer)
    write_atomically(out / "resume.pt", buffer.getvalue())


def _restore(out: Path, state: State, record: dict[str, Any]) -> None:
    file = out / "resume.pt"
    try:
        kept = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:
        # torch raises many types for a damaged file.
        raise FtwtError(
            f"train: {file} cannot be read ({type(error).__name__}); it may be truncated, "
            "start again in a new folder"
        ) from None
    if not isinstance(kept, dict) or not {"specification", "data", "model"} <= set(kept):
        raise FtwtError(f"train: {file} is no state of a training; start again in a new folder")
    for name in ("specification", "data"):
        was, now = json.loads(kept[name]), record[name]
        if was != json.loads(json.dumps(now)):
            differs = sorted(key for key in {*was, *now} if was.get(key) != now.get(key))
            raise FtwtError(
                f"train: {out} holds the state of another run, its {name} differs in "
                f"{', '.join(differs)}; give the same options as for that run"
            )
    state.model.load_state_dict(kept["model"])
    for part, optimizer in state.optimizers.items():
        optimizer.load_state_dict(kept["optimizers"][part])
        state.schedulers[part].load_state_dict(kept["schedulers"][part])
    state.epoch, state.seconds = kept["epoch"], kept["seconds"]
    state.best_accuracy, state.best_epoch = kept["best_accuracy"], kept["best_epoch"]
    state.best_weights = kept["best_weights"]
    torch.set_rng_state(kept["rng"])


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())


def _device_name(device: torch.device | str) -> str:
    kind = torch.device(device)
    if kind.type == "cuda":
        return str(torch.cuda.get_device_name(kind))
    return f"cpu ({os.cpu_count()} cores)"
