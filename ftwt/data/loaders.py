"""The loader that fits a split."""

from __future__ import annotations

from ftwt.data.augment import Augment, ResizedCrop
from ftwt.data.batches import Batches
from ftwt.data.dataset import Split
from ftwt.data.images import Images
from ftwt.data.streamed import StreamedBatches


def serve(
    split: Split,
    batch_size: int,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    augment: Augment | ResizedCrop | None = None,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> Batches | StreamedBatches:
    """Serve a split from where it is, memory or disk; the arguments are those of `Batches`."""
    kind = Batches if isinstance(split, Images) else StreamedBatches
    return kind(
        split,  # type: ignore[arg-type]
        batch_size,
        mean=mean,
        std=std,
        augment=augment,
        shuffle=shuffle,
        seed=seed,
        drop_last=drop_last,
        shard=shard,
    )


def evaluation_batch(split: Split) -> int:
    """Images of a batch without gradients: 500 small ones, 40 of 224 pixels."""
    return min(500, max(1, 2_007_040 // split.size**2))
