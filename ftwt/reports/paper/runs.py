"""Finished runs: a model with its record."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from torch import nn

from ftwt.errors import FtwtError
from ftwt.gated.model import Gated
from ftwt.gates.interface import is_static
from ftwt.io import storage
from ftwt.io.reading import read_json
from ftwt.targets.interface import amount_of
from ftwt.training.records import Data, RunRecord


class _Specification(TypedDict):
    network: str


class _Record(RunRecord):
    """What a report needs of a run."""

    specification: _Specification  # type: ignore[misc]
    seed: int  # type: ignore[misc]
    data: Data  # type: ignore[misc]


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """A finished training: the folder of `ftwt train`, its model and what `run.json` says."""

    folder: Path
    model: nn.Module
    card: storage.Card
    record: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def network(self) -> str:
        """The network's name, as `ftwt.networks` knows it."""
        return str(self.record["specification"]["network"])

    @property
    def seed(self) -> int:
        """Seed of order, augmentation and gates."""
        return int(self.record["seed"])

    @property
    def gated(self) -> Gated | None:
        """The model where its gates were learned; None for plain networks and static masks."""
        return self.model if isinstance(self.model, Gated) and not self.static else None

    @property
    def static(self) -> bool:
        """Whether filters were pruned by masks that were given."""
        return isinstance(self.model, Gated) and is_static(self.model.pruning.gate)

    @property
    def trained_on(self) -> tuple[Any, ...]:
        """Network, training images and epochs: what alike runs share."""
        return self.network, self.record["data"]["train_images"], self.record["epochs"]

    def amount(self, name: str) -> float | None:
        """How much the gates' target keeps, if that is what it calls its amount."""
        return None if self.gated is None else amount_of(self.gated.pruning.target, name)

    @property
    def how(self) -> str:
        """How the network was pruned, in a few words."""
        if not isinstance(self.model, Gated):
            return "plain"
        if self.static:
            return "static"
        pruning = self.model.pruning
        mass, fraction = self.amount("mass"), self.amount("fraction")
        if mass is not None:
            text = f"r = {mass:g}"
        elif fraction is not None:
            text = f"top-k, {100 * fraction:.0f} % of filters"
        else:
            text = type(pruning.target).__name__
        normalize = getattr(pruning.gate, "normalize", "softmax")
        return text if normalize == "softmax" else f"{text}, {normalize} norm in gates"

    def start(self) -> nn.Module:
        """The plain network that a gated training started from.

        Raises:
            FtwtError: the run did not keep it.
        """
        file = self.folder / "dense.safetensors"
        if not file.is_file():
            raise FtwtError(
                f"paper: {self.folder} holds no dense.safetensors, the plain network that it "
                "started from; train it with --init"
            )
        return storage.load(file)[0]


def read_run(folder: Path) -> RecordedRun:
    """Read one finished run.

    Raises:
        FtwtError: no run there, or it has not finished.
    """
    file = folder / "run.json"
    if not file.is_file():
        raise FtwtError(f"paper: {folder} holds no run.json; give folders that ftwt train made")
    mend = "it may be truncated, train it again"
    record: Any = read_json(file, _Record, called="paper", mend=mend)
    if record["status"] != "finished":
        raise FtwtError(
            f"paper: the run in {folder} is {record['status']}; "
            "finish it with ftwt train --resume, or leave it out"
        )
    model, card = storage.load(folder)
    return RecordedRun(folder, model, card, record)


def read_runs(folders: Sequence[Path]) -> tuple[RecordedRun, ...]:
    """Read finished runs, of one data set.

    Raises:
        FtwtError: a folder holds no finished run, or they were trained on different data.
    """
    found = tuple(read_run(folder) for folder in folders)
    by_data: dict[str, list[str]] = {}
    for run in found:
        by_data.setdefault(run.record["data"]["name"], []).append(str(run.folder))
    if len(by_data) > 1:
        listed = "; ".join(f"{', '.join(names)} on {data}" for data, names in by_data.items())
        raise FtwtError(
            f"paper: the runs were trained on different data, so they cannot stand in one table: "
            f"{listed}; give runs of one data set"
        )
    return found
