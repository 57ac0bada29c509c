"""A site's gate as the runtime sees it: a module of logits, and a threshold."""

from jaxtyping import Float
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gates.estimators import Hard, StraightThrough
from ftwt.gates.interface import Estimator
from ftwt.gates.untrained import Oracle
from ftwt.model import Gated, SiteGate


def gate_of(gate: SiteGate) -> tuple[nn.Module, int]:
    """The module whose logits say which filters run, and the number of filters."""
    pruning = gate.pruning
    if isinstance(pruning.gate, Oracle):
        raise FtwtError(
            "skip: an oracle reads the output that skipping would not compute, so there is "
            "nothing to skip; attach a real gate, for example gates.PooledLinear()"
        )
    module = gate.gate
    if not isinstance(pruning.estimator, (Hard, StraightThrough)):
        module = _Estimated(module, pruning.estimator)
    return module, gate.site.out_channels


class _Estimated(nn.Module):
    """A gate with an estimator of the user's own, which may threshold in another way."""

    def __init__(self, gate: nn.Module, estimator: Estimator) -> None:
        super().__init__()
        self.gate, self.estimator = gate, estimator

    def forward(self, inputs: Float[Tensor, "B C_in *space"]) -> Float[Tensor, "B C_out"]:
        """Above zero where the estimator's weight is one."""
        return self.estimator(self.gate(inputs)) - 0.5


class Thresholds:
    """What each site's logits have to be above; read anew at each call, as it may be moved."""

    def __init__(self, model: Gated) -> None:
        gates = [gate for gate in model.gates.values() if isinstance(gate, SiteGate)]
        self._gates = [(gate.site.name, vars(gate)) for gate in gates]

    def __call__(self) -> dict[str, float]:
        """By site; those at zero are left out."""
        return {name: held["threshold"] for name, held in self._gates if held.get("threshold", 0.0)}
