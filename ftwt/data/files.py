"""Images on disk, too many for memory."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from ftwt.errors import check_whole


@dataclass(frozen=True, eq=False)
class Files:
    """A split on disk, whose images are decoded when they are served.

    Attributes:
        root: folder that `names` start from.
        names: each image's file, as encoded bytes in one array: a million paths as objects would
            be copied into every worker.
        labels: class of each image, an index into `Dataset.classes`.
        size: side in pixels that images are served with.
        workers: processes that decode; 0 decodes in the process that asks.

    Raises:
        FtwtError: `workers` is negative.
    """

    root: Path
    names: np.ndarray
    labels: Int64[Tensor, " N"]
    size: int
    workers: int

    def __post_init__(self) -> None:
        check_whole("load", "workers", self.workers, least=0)

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """Return the file of an image."""
        return self.root / os.fsdecode(self.names[index])

    def select(self, indices: Int64[Tensor, " M"]) -> Files:
        """Return the images at `indices`, in that order."""
        chosen = indices.cpu()
        return Files(
            self.root, self.names[chosen.numpy()], self.labels[chosen], self.size, self.workers
        )

    def digest(self) -> str:
        """Return a short text that is the same for the same files, labels and size.

        By name, not by content, which would take an hour to read; a broken file may be replaced.
        """
        digest = hashlib.sha256(str(self.size).encode())
        digest.update(self.names.tobytes())
        digest.update(self.labels.numpy().data)
        return digest.hexdigest()[:16]
