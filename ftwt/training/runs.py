"""Run folders: a training with its weights, records and resume state.

model.safetensors   the best weights by validation, with everything needed to rebuild the model
dense.safetensors   the plain network that a gated training started from, if it did
metrics.jsonl       one line an epoch
run.json            command, recipe, data, versions, seed, status, hours, result
resume.pt           the last state, and resume.previous.pt the one before, until the run has ended
"""

import difflib
import signal
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ftwt.data import Dataset, Loaders
from ftwt.data.streams import random_stream
from ftwt.errors import FtwtError, first_line
from ftwt.gated.within import gated_in
from ftwt.io import specs, storage
from ftwt.io.files import writing
from ftwt.training import checkpoint, hints, records
from ftwt.training.distributed import needing_others, on_main, world
from ftwt.training.epoch import Checkpointer, StepEvent
from ftwt.training.folders import check_free, claimed, remove_partials, status
from ftwt.training.loop import BeforePhase, Epoch, fit
from ftwt.training.preparation import card_of, prepare
from ftwt.training.recipes import Recipe
from ftwt.training.signals import Interrupted, listening
from ftwt.training.state import TrainingState, check_amp, start
from ftwt.training.tasks import LABELLED

# What torch computes trainings on.
_DEVICES = ("cpu", "cuda", "mps", "xpu", "meta")


@dataclass(frozen=True)
class Callbacks:
    """Callbacks for showing progress; only the main process of a job calls them."""

    step: Callable[[StepEvent], None] = lambda event: None
    epoch: Callable[[Epoch], None] = lambda row: None
    note: Callable[[str], None] = lambda text: None


def train_run(
    recipe: Recipe,
    dataset: Dataset | Loaders,
    out: Path,
    *,
    name: str = "custom",
    init: Path | str | None = None,
    resume: bool = False,
    checkpoint_every: int | None = None,
    device: torch.device | str = "cpu",
    before_phase: BeforePhase | None = None,
    callbacks: Callbacks = Callbacks(),
) -> tuple[nn.Module, dict[str, Any]]:
    """Train a recipe in a run folder, or go on with one that was interrupted.

    A run that was killed at any moment and goes on ends, on a CPU, with the same weights bit for
    bit as one that was never stopped; it loses what it did since the last saved state. In a job
    that torchrun started, all processes call this; the main one writes.

    Args:
        recipe: what to train.
        dataset: its training images are split into training and validation, or it says both; its
            test images are not touched.
        out: the run folder; new, unless `resume`.
        name: what to call the recipe in the records.
        init: what to start from, as for `starting_weights`; random weights if None.
        resume: go on from the last saved state.
        checkpoint_every: optimizer steps between saved states; one an epoch is saved anyway.
        device: where to train.
        before_phase: as for `fit`.
        callbacks: progress callbacks.

    Returns:
        The model with its best weights, in eval mode, and the contents of `run.json`.

    Raises:
        FtwtError: `out` holds a run already or another one's state, or another process trains
            there; `init` or the data does not fit; the loss is not finite; the disk is full.
        Interrupted: SIGTERM or SIGINT came; the state is saved.
    """
    check_device(device)
    check_amp(recipe.settings, torch.device(device))
    callbacks = callbacks if world().main else Callbacks()
    with ExitStack() as stack:
        going_on = on_main(lambda: _claim(stack, out, resume))
        torch.manual_seed(recipe.settings.seed)
        prepared = prepare(recipe, dataset, init=_start(out, init) if going_on else init)
        model = prepared.model.to(device)
        if not world().main:
            # Dropout and the like differ between processes, as their images do.
            torch.manual_seed(random_stream(recipe.settings.seed, world().rank).initial_seed())
        state = start(model, recipe.settings, len(prepared.train))
        about = prepared.about(recipe)
        record = {
            "status": "running",
            "recipe": name,
            "specification": about["recipe"],
            "init": str(init) if init is not None else None,
            "seed": recipe.settings.seed,
            "data": {"name": dataset.name, **prepared.counts},
            **records.circumstances(device, recipe.settings.amp),
        }
        if going_on:
            checkpoint.restore(out, state, about, callbacks.note)
            callbacks.note(f"going on in epoch {state.epoch + 1} after batch {state.batch}")
            record |= records.earlier_progress(out)
        elif init is None and recipe.pruning is not None and prepared.dense is None:
            callbacks.note(
                "the network starts from random weights; the method starts from a trained dense "
                "network, give it as init (--init RUN)"
            )
        task = {} if recipe.task == LABELLED else {"task": about["recipe"]["task"]}
        card = card_of(recipe, dataset, {"recipe": name, **task})
        folder = _Folder(out, record, card, about, callbacks, recipe)
        folder.warn(hints.before(len(prepared.train)))
        on_main(lambda: folder.begin(prepared.dense))
        try:
            with needing_others(), listening(twice=world().size == 1) as asked:
                fit(
                    state, prepared.objective, recipe.settings, prepared.train, prepared.validation,
                    task=recipe.task, before_phase=before_phase, after_step=callbacks.step,
                    after_epoch=folder.after_epoch,
                    checkpointer=Checkpointer(folder.keep, checkpoint_every, asked),
                )  # fmt: skip
        except FtwtError as error:
            raise folder.stopped(error, state) from None
        on_main(lambda: folder.finish(model))
        return model.eval(), record


def finished_or_trained(
    recipe: Recipe, dataset: Dataset | Loaders, out: Path, **options: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """The finished run of a recipe in a folder, or that which `train_run` begins or goes on with.

    Raises:
        FtwtError: the folder holds a finished run of another recipe; or as `train_run`.
    """
    file = out / "run.json"
    if not file.is_file() or status(out) != "finished":
        return train_run(recipe, dataset, out, resume=file.is_file(), **options)
    record = records.read_record(out)
    was = {"recipe": specs.renewed(record["specification"])}
    checkpoint.check_same(out, was, {"recipe": specs.recorded(recipe)})
    return storage.load(out, recipe.own_network)[0], record


@dataclass(frozen=True)
class _Folder:
    """A run's files."""

    out: Path
    record: dict[str, Any]
    card: storage.Card
    about: dict[str, Any]
    callbacks: Callbacks
    recipe: Recipe

    def warn(self, warnings: Iterable[str]) -> None:
        """Tell, and note in the record."""
        for text in warnings:
            self.record.setdefault("warnings", []).append(text)
            self.callbacks.note(text)

    def begin(self, dense: nn.Module | None) -> None:
        with self._writing():
            # First: a folder without it is no run, and could not be resumed.
            records.write_record(self.out, self.record)
            kept = self.out / "dense.safetensors"
            # What a run began with stays: by now a plain network may have learned something.
            if dense is not None and not kept.is_file():
                storage.save(dense, kept, self.card)

    def after_epoch(self, row: Epoch, state: TrainingState) -> None:
        if not world().main:
            return
        self.record.update(records.progress(state, row.validation, self.recipe.task))
        with self._writing():
            records.append_metrics(self.out, row)
            if state.best_epoch == row.epoch:
                storage.save(state.validated, self.out / "model.safetensors", self.card)
            records.write_record(self.out, self.record)
        self.callbacks.epoch(row)

    def keep(self, state: TrainingState) -> None:
        with self._writing():
            checkpoint.save_checkpoint(self.out, state, self.about)

    def stopped(self, error: FtwtError, state: TrainingState) -> FtwtError:
        """Note why the run stopped; gives the error to raise."""
        status = "failed"
        if isinstance(error, Interrupted):
            status = "interrupted"
            error = Interrupted(
                f"train: stopped by {signal.Signals(error.number).name} in epoch "
                f"{state.epoch + 1} after batch {state.batch}; the state is saved in {self.out}, "
                "go on with the same command and --resume",
                error.number,
            )
        if world().main:
            self.record.update(status=status, error=str(error))
            # The disk may be full: that is then what the error says.
            with suppress(OSError):
                records.write_record(self.out, self.record)
        return error

    def finish(self, model: nn.Module) -> None:
        held = gated_in(model)
        cost = 0.0 if held is None else held.gate_macs / held.dense_macs
        self.warn(hints.after(self.recipe, self.record, self.card.num_classes, cost))
        self.record["status"] = "finished"
        self.record.pop("error", None)
        with self._writing():
            storage.save(model, self.out / "model.safetensors", self.card)
            records.write_record(self.out, self.record)
        checkpoint.remove(self.out)

    def _writing(self) -> AbstractContextManager[None]:
        mend = "what was saved before is whole: free space and go on with --resume"
        return writing("train", self.out, mend)


def _claim(stack: ExitStack, out: Path, resume: bool) -> bool:
    """Make the folder this process's own; gives whether it holds a state to go on from."""
    check_free(out, resume)
    stack.enter_context(claimed(out))
    # Again: another process may have begun, or finished, before this one had the folder.
    check_free(out, resume)
    remove_partials(out)
    return resume and checkpoint.exists(out)


def _start(out: Path, init: Path | str | None) -> Path | str | None:
    """What a run that goes on started from: its state holds the model, but not its teacher."""
    kept = out / "dense.safetensors"
    return kept if kept.is_file() else init


def check_device(device: torch.device | str) -> None:
    """Raise FtwtError unless torch can put a tensor on the device."""
    kind = str(device).partition(":")[0]
    if kind not in _DEVICES:
        near = difflib.get_close_matches(kind.lower(), ("cpu", "cuda"), n=1)
        guess = near[0] if near and "gpu" not in kind.lower() else "cuda"
        raise FtwtError(
            f"train: device {str(device)!r} cannot be used; did you mean {guess}? cpu and cuda work"
        )
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error).rstrip(".")
        raise FtwtError(
            f"train: device {str(device)!r} cannot be used ({reason}); give cpu, or cuda on a "
            "machine with a GPU"
        ) from None
