"""`make sanitize-threads`: many threads in one network, watched by ThreadSanitizer.

The kernels and `threads.c` are compiled with it; no Python and no torch run beside them.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import ftwt
from ftwt import gates

# Threads that call, threads that each call works with, and rounds.
RUNS = ((8, 1, 20), (4, 3, 10), (2, 8, 10))
_SOURCE = Path(__file__).parent / "threads.c"


def main() -> int:
    """Compile and run; exit 1 where an answer or a data race is wrong."""
    torch.manual_seed(0)
    # One of 1x1 and depthwise convolutions, one of 3x3 convolutions.
    networks = ftwt.backbones.mobilenet_v2(width=0.25), ftwt.backbones.resnet8()
    return min(1, sum(_watch(network) for network in networks))


def _watch(network: torch.nn.Module) -> bool:
    """Whether any run of it went wrong."""
    model = ftwt.attach(
        network, ftwt.Pruning(gates.PooledLinear()), example=torch.zeros(1, 3, 32, 32)
    ).eval()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "network"
        ftwt.export(model, folder, format="native")
        sources = [*map(str, (folder / "libftwt").glob("*.c")), str(_SOURCE)]
        program = folder / "threads"
        flags = ["-std=gnu11", "-O1", "-g", "-fsanitize=thread", "-rdynamic"]
        include = ["-I", str(folder / "libftwt")]
        compiler = os.environ.get("CC", "cc")
        libraries = ["-lm", "-ldl", "-lpthread"]
        subprocess.run(
            [compiler, *flags, *include, *sources, "-o", str(program), *libraries], check=True
        )
        failed = 0
        for threads, team, rounds in RUNS:
            numbers = map(str, (threads, team, rounds))
            failed |= subprocess.run(
                [str(program), str(folder / "model.ftwt"), *numbers]
            ).returncode
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
