"""`bench`: every form of one network in one interleaved run."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.export.engines import RunEngine
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.model import Gated
from ftwt.macs import dense_macs
from ftwt.reports.timing import subjects
from ftwt.reports.timing.machine import machine
from ftwt.reports.timing.measure import Timing, interleave, latency, paired_speedup
from ftwt.runtime import native


def bench(
    network: nn.Module,
    model: Gated | Escalating,
    images: Float[Tensor, "N C H W"],
    *,
    batch: int = 1,
    rounds: int = 15,
) -> dict[str, Any]:
    """Time a network dense, masked, skipping and cut, interleaved; threads are torch's.

    Args:
        network: the plain network that `model` was attached to, of an escalating network that of
            the last setting; its weights are not used.
        model: the gated or escalating network.
        images: at least one batch; the rounds go through the batches in turn.
        batch: images a call.
        rounds: how often each form is timed; reported are the median and the quartiles.

    Returns:
        `rows`: name, ms (median), low and high (quartiles) and spread (how far they are apart, of
        the median) of each form, speedup over the best of the dense ones (torch, ONNX Runtime,
        OpenVINO), which `best_dense` names. `mac_ratio`: dense MACs over the mean exact MACs, gates
        counted. `share_of_bound`: time of the sliced bound, run by the same kernels, over that of
        the native back end, or of the torch back end if there is no native one (`share_of_bound_of`
        says which); `over_best_bound` the same against the fastest of all forms of the cut network,
        `best_bound`. `engine_alone`: speed-up of the own kernels with every filter on, without
        gates; `skipping_adds` what skipping makes of that; None without kernels. `layers`: each
        step of the planned form, where it runs, what that took when it was planned, and how that
        stands to `peak_gmacs`, the most that the processor multiplies and adds (10^9 MACs/s).
        `others`: share of the processors that other programs used meanwhile, which disturbs;
        `disturbed`: rounds in which that was much, though they were taken twice.

        Of an escalating network calls take as long as their images need. There are then as many
        rounds as batches, or more; each row has `latency` too (mean, median and 99th percentile
        over batches), and its speedup is that of the mean. There is no one bound and no plan of
        layers: what would tell of these is None or empty.
    """
    if not 1 <= batch <= len(images):
        raise FtwtError(
            f"bench: batch={batch} with {len(images)} images; give at least one whole batch"
        )
    batches = [images[i : i + batch] for i in range(0, len(images) - batch + 1, batch)]
    was_training = model.training
    model.eval()
    with torch.no_grad():
        macs = model.trace(images, targets=False).macs.double()
    escalates = isinstance(model, Escalating)
    if escalates:
        rounds = max(rounds, len(batches))
    last = model.gated[-1] if isinstance(model, Escalating) else model
    dense = subjects.dense(network, last, batches[0])
    skipping = subjects.skipping(model, batches[0])
    bounds, bound_macs = subjects.Subjects({}, {}), None
    if isinstance(model, Gated):
        cut, bound_macs = subjects.bound(model, images)
        bounds = subjects.bounds(cut, batches[0])
    runs: dict[str, RunEngine] = {
        **dense.runs,
        subjects.MASKED: model,
        **skipping.runs,
        **bounds.runs,
    }
    times, others, disturbed = interleave(runs, batches, rounds)
    model.train(was_training)
    best = _best(times, subjects.DENSE)
    best_bound = _best(times, subjects.BOUNDS) if bounds.runs else None
    mean = macs.mean().item()
    # A narrow network counts itself alone.
    whole = max(model.dense_macs, dense_macs(network, images[:1]))
    ours = subjects.NATIVE if subjects.NATIVE in times else subjects.TORCH

    def speedup(slow: str | None, fast: str) -> float | None:
        if slow is None or slow not in times or fast not in times:
            return None
        if escalates:
            means = (latency(times[one], len(batches)).mean for one in (slow, fast))
            return next(means) / next(means)
        return paired_speedup(times[slow], times[fast])

    def row(name: str) -> dict[str, Any]:
        timing = times[name]
        found = {
            "name": name,
            "ms": timing.ms,
            "low": timing.low,
            "high": timing.high,
            "spread": timing.spread,
            "speedup": speedup(best, name),
        }
        more = {"latency": latency(timing, len(batches))._asdict()} if escalates else {}
        return found | more

    peak = native.peak()
    return {
        "batch": batch,
        "rounds": rounds,
        "rows": [row(name) for name in times],
        "missing": {**dense.missing, **skipping.missing, **bounds.missing},
        "best_dense": best,
        "dense_macs": whole,
        "macs": mean,
        "bound_macs": bound_macs,
        "mac_ratio": whole / mean,
        "reduction_exact": 1 - mean / whole,
        "share_of_bound": speedup(subjects.BOUND, ours),
        "share_of_bound_of": ours,
        "best_bound": best_bound,
        "over_best_bound": speedup(best_bound, ours),
        "engine_alone": speedup(best, subjects.ALONE),
        "skipping_adds": speedup(subjects.ALONE, ours),
        "layers": [] if escalates else subjects.layers(skipping, batch, peak),
        "peak_gmacs": peak,
        "others": others,
        "disturbed": disturbed,
        "machine": machine(),
    }


def _best(times: Mapping[str, Timing], among: Sequence[str]) -> str:
    return min((name for name in among if name in times), key=lambda name: times[name].ms)
