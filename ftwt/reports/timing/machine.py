"""What a timing depends on beside the network."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from ftwt.training.records import versions


def machine() -> dict[str, Any]:
    """CPU, threads and versions."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "versions": versions(),
    }


class Others:
    """What share of the machine's processors other programs used, from construction to asking."""

    def __init__(self) -> None:
        self._start = _ticks()

    def share(self) -> float | None:
        """Fraction of all processors' time; None where the system does not tell."""
        now = _ticks()
        if now is None or self._start is None:
            return None
        passed, working, own = (b - a for a, b in zip(self._start, now, strict=True))
        return max(0.0, (working - own) / passed) if passed else 0.0


def _ticks() -> tuple[float, float, float] | None:
    """Seconds so far, over all processors: passed, worked, and worked for this process."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return None
    fields = [int(one) / os.sysconf("SC_CLK_TCK") for one in first.split()[1:9]]
    # The fourth and fifth are idle, and idle until a disk answers.
    own = os.times()
    return sum(fields), sum(fields) - fields[3] - fields[4], own.user + own.system


def _cpu() -> str:
    """The CPU's name; Linux alone tells one, with family and model where the name says little."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    pairs = (line.partition(":") for line in lines)
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    name = facts.get("model name") or platform.machine()
    numbers = [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return f"{name} ({', '.join(numbers)})" if numbers else name
