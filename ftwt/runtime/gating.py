"""A site's gate as the runtime sees it: a module of logits, and a threshold."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.known_masks import compares, known_masks
from ftwt.gated.model import Gated
from ftwt.gated.site_gate import SiteGate
from ftwt.gates.interface import is_oracle


def gate_of(gate: SiteGate) -> tuple[nn.Module, int]:
    """The module whose logits say which filters run, and the number of filters."""
    pruning = gate.pruning
    if is_oracle(pruning.gate):
        raise FtwtError(
            "skip: an oracle reads the output that skipping would not compute, so there is "
            "nothing to skip; attach a real gate, for example gates.PooledLinear()"
        )
    module = gate.gate if compares(gate) or gate.follows else _Estimated(gate)
    return module, gate.site.out_channels


class _Estimated(nn.Module):
    """A gate with an estimator of the user's own, which may threshold in another way."""

    def __init__(self, gate: SiteGate) -> None:
        super().__init__()
        self.gate = gate

    def forward(
        self, inputs: Float[Tensor, "B C_in *space"], *context: Any
    ) -> Float[Tensor, "B C_out"]:
        """Above zero where the estimator's weight is one."""
        logits = self.gate.gate(inputs, *context) - self.gate.threshold
        return self.gate.pruning.estimator.weights(logits, training=False) - 0.5


class Thresholds:
    """What each site's logits have to be above; read anew at each call, as it may be moved."""

    def __init__(self, model: Gated) -> None:
        # Whether all thresholds can be moved without lowering again.
        self.all = all(map(compares, model.site_gates))
        # Sites whose masks are the same for every input.
        self.known = frozenset(known_masks(model))
        # Attribute access of modules is slow.
        self._gates = [(gate.site.name, vars(gate)) for gate in model.site_gates if compares(gate)]

    def __call__(self) -> dict[str, float]:
        """By site; those at zero are left out."""
        return {name: held["threshold"] for name, held in self._gates if held["threshold"]}

    def of_known(self, thresholds: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
        """Of such thresholds, those by which masks are known beforehand."""
        if not thresholds or not self.known:
            return ()
        return tuple(one for one in thresholds.items() if one[0] in self.known)
