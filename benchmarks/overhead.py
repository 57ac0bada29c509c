"""What a training step costs more for the gates: `python -m benchmarks.overhead resnet56`.

One step is forward, losses, backward and both optimizers. A gated step (decoupled, the paper's
gates and targets) and a plain dense one run in turn on the same batch; the figure is the median of
the ratios of such pairs. Records go to benchmarks/records/overhead/, the page is docs/bench.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import ftwt
from benchmarks import pages
from ftwt import losses
from ftwt.reports.timing.machine import machine

RECORDS = pages.RECORDS / "overhead"
# Network and the goal: gated over dense.
GOALS = {"resnet56": 1.15, "vgg16_bn": 1.10, "mobilenet_v1": 1.3}


def steps(name: str, batch: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """A dense and a gated training step on the same batch."""
    torch.manual_seed(0)
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
    network = ftwt.networks.build(f"cifar10-{name}")
    gated = ftwt.attach(network, ftwt.Pruning(), example=images[:1]).train()
    network.train()
    objective = losses.CrossEntropy() + losses.GateBCE()
    dense_optimizer = _optimizer(list(network.parameters()))
    optimizers = [_optimizer(gated.backbone_parameters()), _optimizer(gated.gate_parameters())]

    def dense_step() -> None:
        loss = nn.functional.cross_entropy(network(images), labels)
        dense_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        dense_optimizer.step()

    def gated_step() -> None:
        loss = objective(gated.trace(images), labels).total
        for one in optimizers:
            one.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        for one in optimizers:
            one.step()

    return dense_step, gated_step


def measure(name: str, *, batch: int, pairs: int) -> dict[str, object]:
    """Time pairs of steps; which comes first changes from pair to pair."""
    dense, gated = steps(name, batch)
    dense(), gated()
    times: list[tuple[float, float]] = []
    for pair in range(pairs):
        if pair % 2:
            second, first = _seconds(gated), _seconds(dense)
        else:
            first, second = _seconds(dense), _seconds(gated)
        times.append((first, second))
    ratios = sorted(two / one for one, two in times)
    return {
        "network": f"cifar10-{name}",
        "batch": batch,
        "pairs": pairs,
        "dense_ms": 1e3 * statistics.median(one for one, _ in times),
        "gated_ms": 1e3 * statistics.median(two for _, two in times),
        "ratio": statistics.median(ratios),
        "low": ratios[round(0.25 * (pairs - 1))],
        "high": ratios[round(0.75 * (pairs - 1))],
        "goal": GOALS[name],
        "machine": machine(),
    }


def records() -> dict[str, dict[str, Any]]:
    """Recorded networks, in the order of the goals."""
    return pages.read_all(RECORDS, GOALS)


def profile(name: str, batch: int) -> str:
    """Where the time of one gated step goes, and of a dense one, by operation."""
    tables = []
    for label, step in zip(("dense", "gated"), steps(name, batch), strict=True):
        step()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            step()
        table = seen.key_averages().table(
            sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=50
        )
        tables.append(f"{label}\n{table}")
    return "\n".join(tables)


def _optimizer(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=5e-4)


def _seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    """Measure the networks that are asked for, and record them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    # argparse checks the default of any number of arguments as if it were one of them.
    parser.add_argument("networks", nargs="*", default=[], choices=[*GOALS, []])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="print operations, record nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.networks or GOALS:
        if options.profile:
            print(profile(name, options.batch))
            continue
        record = measure(name, batch=options.batch, pairs=options.pairs)
        pages.write(RECORDS / f"{name}.json", record)
        print(name, f"{record['ratio']:.3f}", record["dense_ms"], record["gated_ms"], flush=True)


if __name__ == "__main__":
    main()
