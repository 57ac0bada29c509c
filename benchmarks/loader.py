"""Does loading ever bound training? The loader alone beside training steps of ResNet-20.

    python -m benchmarks.loader    # writes benchmarks/records/loader.json, and docs/training.md

Both run on two threads, in turns; rates are medians over the turns, in images per second. Images
are of CIFAR's size and number, with the recipe's crops and flips, in batches of 128.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import pages
from ftwt import backbones, data, losses
from ftwt.data.augment import Augment
from ftwt.training.phases import Phase
from ftwt.training.records import versions
from ftwt.training.step import TrainingStep

RECORD, PAGE = pages.RECORDS / "loader.json", pages.DOCS / "training.md"
THREADS, BATCH, TURNS = 2, 128, 5
LOADED, TRAINED = 20, 2


def main() -> None:
    """Measure, print and record."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    pixels = torch.randint(256, (50_000, 3, 32, 32), dtype=torch.uint8)
    images = data.Images(pixels, torch.arange(50_000) % 10)
    loader = data.Batches(
        images, BATCH, mean=(0.49,) * 3, std=(0.2,) * 3, augment=Augment(), shuffle=True
    )
    batches = iter(loader)
    load = rate(lambda: next(batches), LOADED)
    batch = next(batches)
    train = {amp: training(amp, *batch) for amp in (None, "bf16")}
    seen: dict[str, list[float]] = {"loader": [], "float32": [], "bf16": []}
    for _ in range(TURNS):
        seen["loader"].append(load())
        seen["float32"].append(train[None]())
        seen["bf16"].append(train["bf16"]())
    rates = {name: round(statistics.median(values)) for name, values in seen.items()}
    fastest = max(rates["float32"], rates["bf16"])
    record = {
        "images_per_second": rates,
        "ratio": round(rates["loader"] / fastest, 1),
        "threads": THREADS,
        "batch": BATCH,
        "versions": versions(),
    }
    print(json.dumps(record, indent=1))
    pages.write(RECORD, record)
    PAGE.write_text(page(record, PAGE.read_text()))


def page(record: dict[str, Any], text: str) -> str:
    """The page with its line on loading made anew."""
    rates = record["images_per_second"]
    line = (
        f"Loading does not bound training: on {record['threads']} threads the loader gives "
        f"{rates['loader']} augmented CIFAR images per second, a ResNet-20 trains "
        f"{rates['float32']} (bf16: {rates['bf16']}), {record['ratio']} times fewer "
        "(`python -m benchmarks.loader`)."
    )
    return pages.with_part(text, "loader", line)


def rate(action: Callable[[], object], times: int) -> Callable[[], float]:
    """A function that gives images per second of `times` batches."""

    def measure() -> float:
        begin = time.perf_counter()
        for _ in range(times):
            action()
        return times * BATCH / (time.perf_counter() - begin)

    return measure


def training(amp: str | None, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], float]:
    """A function that gives the rate of whole training steps on a batch that is there already."""
    model = backbones.resnet20().to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
    objective = losses.Objective.of(losses.CrossEntropy())
    step = TrainingStep(model, objective, phase=Phase("dense", 1), amp=amp)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    def once() -> None:
        loss, _ = step(images, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    once()
    return rate(once, TRAINED)


if __name__ == "__main__":
    main()
