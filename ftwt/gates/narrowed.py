"""Gates of a network that some filters were removed from."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gates.forms import AffineForm, Form, TableForm, form_of
from ftwt.gates.interface import Gate, follows_input
from ftwt.gates.pooling import POOLS, values_of
from ftwt.graph.channels import Spread
from ftwt.graph.sites import SiteShape


@dataclass(frozen=True)
class Part:
    """A site's gate in the whole network, and which of its inputs and outputs are left, in order.

    `in_channels`, `out_channels` and `macs` are the site's in the whole network; the channels that
    are not left were zero there. With `sheds` the gate does without the outputs that are not left,
    and costs nothing for them.
    """

    gate: Gate
    in_channels: int
    out_channels: int
    macs: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    sheds: bool = True
    depthwise: bool = False

    def whole(self, name: str) -> SiteShape:
        """The site in the whole network."""
        return SiteShape(name, self.in_channels, self.out_channels, self.macs, self.depthwise)


@dataclass(frozen=True)
class Narrowed:
    """What gates of a whole network answer, for the filters that are left of it.

    `slicing.narrow` makes it. A gate normalises over all inputs of the whole site, of which those
    that are gone count as the zeros they were, so that logits stay the same.
    """

    parts: Mapping[str, Part]

    def __init__(self, parts: Mapping[str, Part]) -> None:
        object.__setattr__(self, "parts", dict(parts))

    def __hash__(self) -> int:
        return hash(tuple(self.parts.items()))

    @property
    def named_sites(self) -> tuple[str, ...]:
        """The sites that have a part."""
        return tuple(self.parts)

    def part(self, site: SiteShape) -> Part:
        """The part of a site, which has to have the channels that the part names."""
        part = self.parts.get(site.name)
        if part is None or (len(part.inputs), len(part.outputs)) != site[1:3]:
            raise FtwtError(
                f"Narrowed: {site.name!r} with {site.in_channels} inputs and {site.out_channels} "
                "filters is no site that it was made for; let slicing.narrow make it"
            )
        return part

    def build(self, site: SiteShape) -> nn.Module:
        """Return the whole gate's module, with the outputs that are left."""
        return NarrowedGate(self.part(site), site.name)

    def macs(self, live: Shaped[Tensor, "B"], site: SiteShape) -> Shaped[Tensor, "B"]:
        """MACs of the gate with the outputs that are left; of the whole one if it sheds none."""
        part = self.part(site)
        shape = part.whole(site.name)
        if part.sheds:
            shape = shape._replace(out_channels=site.out_channels)
        return part.gate.macs(live, shape)


class NarrowedGate(nn.Module):
    """A whole site's gate, for the inputs and outputs that are left of the site."""

    def __init__(self, part: Part, site: str) -> None:
        super().__init__()
        place = {channel: i for i, channel in enumerate(part.inputs)}
        indices = [place.get(channel, -1) for channel in range(part.in_channels)]
        self.spread = Spread(indices, rank=3)
        self.register_buffer("outputs", torch.tensor(part.outputs), persistent=False)
        self.picks = not part.sheds
        self.take(part.gate.build(part.whole(site)))

    @property
    def follows(self) -> bool:
        """See `follows_input`."""
        return follows_input(self.gate)

    def form(self) -> Form | None:
        """See `HasForm`: the rows of a table, for the outputs that are left."""
        form = form_of(self.gate)
        if not isinstance(form, TableForm):
            return None
        return replace(form, logits=self._left(form.logits))

    def _left(self, logits: Float[Tensor, "rows C"]) -> Float[Tensor, "rows C_out"]:
        return logits.index_select(1, self.get_buffer("outputs")) if self.picks else logits

    def take(self, whole: nn.Module) -> None:
        """Become the narrowed form of a whole site's gate, with its weights; it is left alone."""
        self.gate = copy.deepcopy(whole)
        if not self.picks:
            _keep(self.gate, self.get_buffer("outputs"))

    def forward(self, inputs: Float[Tensor, "B C_in *space"]) -> Float[Tensor, "B C_out"]:
        """Return the logits of the filters that are left."""
        form = form_of(self.gate)
        if isinstance(form, AffineForm) and values_of(form.pool) == 1:
            # It pools again, which leaves one number as it is.
            inputs = POOLS[form.pool](inputs)[..., None]
        # Not len(), which tracers take for a constant.
        whole = self.spread(inputs.flatten(2)).view(inputs.shape[0], -1, *inputs.shape[2:])
        return self._left(self.gate(whole))


def can_shed(gate: nn.Module) -> bool:
    """Whether a gate's outputs are rows of its own tensors, so that it can do without some."""
    return len(_rows(gate)) > 0


def _keep(gate: nn.Module, outputs: Tensor) -> None:
    """Leave a gate that can shed with these outputs alone."""
    for owner, name, tensor, dim in _rows(gate):
        kept = tensor.detach().index_select(dim, outputs.to(tensor.device))
        setattr(owner, name, nn.Parameter(kept) if isinstance(tensor, nn.Parameter) else kept)
        if isinstance(owner, nn.Linear):
            owner.out_features = len(outputs)


def _rows(gate: nn.Module) -> list[tuple[nn.Module, str, Tensor, int]]:
    """Where a gate holds what makes its outputs: module, name, tensor, and dimension of outputs.

    Empty where it does not tell, or computes that from other tensors.
    """
    wanted: list[tuple[Tensor, int]] = []
    match form_of(gate):
        case AffineForm() as form:
            wanted = [(form.weight, 0), (form.bias, 0)]
        case TableForm(logits):
            wanted = [(logits, 1)]
    found = [
        (owner, name, tensor, dim)
        for tensor, dim in wanted
        for owner in gate.modules()
        for name, own in (*owner._parameters.items(), *owner._buffers.items())
        if own is tensor
    ]
    return found if len(found) == len(wanted) else []
