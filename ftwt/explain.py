"""What attach made of a network, for a reader."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftwt.model import Anatomy


@dataclass(frozen=True)
class Explanation:
    """Sites, convolutions without a gate, and what the analysis could not follow."""

    sites: tuple[str, ...]
    # Convolution and why it is no site.
    left_out: tuple[tuple[str, str], ...]
    # Operation without a rule and how often it is called. All channels are live after it.
    unknown: tuple[tuple[str, int], ...]
    # Modules whose `if self.training` was decided when traced, for eval mode.
    frozen: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.sites)} sites: {', '.join(self.sites)}"]
        lines += [f"no site: {name} ({reason})" for name, reason in self.left_out]
        for operation, times in self.unknown:
            lines += [
                f"unknown operation: {operation}, called {_times(times)}; all channels count as "
                "live after it, which costs MACs but is never wrong"
            ]
        for name in self.frozen:
            lines += [
                f"eval mode for good: {name} reads self.training where tracing cannot follow; "
                "its other branch, such as an auxiliary classifier, never runs"
            ]
        return "\n".join(lines)


def explain(anatomy: "Anatomy") -> Explanation:
    """Report on a gated network's anatomy."""
    chosen = tuple(site.name for site in anatomy.sites)
    left_out = tuple(
        (one.name, one.left_out or "not chosen by where=")
        for one in anatomy.candidates
        if one.name not in chosen
    )
    unknown = Counter(anatomy.liveness.unknown.values())
    return Explanation(chosen, left_out, tuple(unknown.items()), anatomy.traced.frozen)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
