"""`bench`: every form of one network in one interleaved run."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.model import Gated
from ftwt.reports.timing import subjects
from ftwt.reports.timing.machine import Others, machine
from ftwt.reports.timing.measure import Timing, interleave, paired_speedup


def bench(
    network: nn.Module,
    model: Gated,
    images: Float[Tensor, "N C H W"],
    *,
    batch: int = 1,
    rounds: int = 15,
) -> dict[str, Any]:
    """Time a network dense, masked, skipping and cut, interleaved; threads are torch's.

    Args:
        network: the plain network that `model` was attached to; its weights are not used.
        model: the gated network.
        images: at least one batch; the rounds go through the batches in turn.
        batch: images a call.
        rounds: how often each form is timed; reported are the median and the quartiles.

    Returns:
        `rows`: name, ms (median), low and high (quartiles) of each form, speedup against the best
        of the dense ones. `mac_ratio`: dense MACs over the mean exact MACs, gates counted.
        `share_of_bound`: time of the sliced bound over that of the native back end, or of the
        torch back end if there is no native one (`share_of_bound_of` says which). `layers`: each
        step of the planned form, where it runs and what that took when it was planned. `others`:
        share of the machine's processors that other programs used meanwhile, which disturbs.
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
    dense = subjects.dense(network, model, batches[0])
    skipping = subjects.skipping(model, batches[0])
    bound, bound_macs = subjects.bound(model, images)
    runs: dict[str, subjects.Run] = {**dense.runs, subjects.MASKED: model}
    runs |= {**skipping.runs, subjects.BOUND: bound}
    others = Others()
    times = interleave(runs, batches, rounds)
    disturbed = others.share()
    model.train(was_training)
    best = min((name for name in subjects.DENSE if name in times), key=lambda name: times[name].ms)
    rows = [_row(name, timing, times[best]) for name, timing in times.items()]
    mean = macs.mean().item()
    measured = subjects.NATIVE if subjects.NATIVE in times else subjects.TORCH
    return {
        "batch": batch,
        "rounds": rounds,
        "rows": rows,
        "missing": {**dense.missing, **skipping.missing},
        "best_dense": best,
        "dense_macs": model.dense_macs,
        "macs": mean,
        "bound_macs": bound_macs,
        "mac_ratio": model.dense_macs / mean,
        "reduction_exact": 1 - mean / model.dense_macs,
        "share_of_bound": paired_speedup(times[subjects.BOUND], times[measured]),
        "share_of_bound_of": measured,
        "layers": subjects.layers(skipping, batch),
        "others": disturbed,
        "machine": machine(),
    }


def _row(name: str, timing: Timing, best: Timing) -> dict[str, Any]:
    return {
        "name": name,
        "ms": timing.ms,
        "low": timing.low,
        "high": timing.high,
        "speedup": paired_speedup(best, timing),
    }
