"""A gate and a target of one's own, saved and loaded."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import ftwt
from ftwt import gates


@ftwt.register
@dataclass(frozen=True)
class Variances:
    """A gate that looks at how much each input channel varies over its positions."""

    hidden: int = 8

    def build(self, site: gates.SiteShape) -> nn.Module:
        """Make the module: (B, C_in, H, W) to logits (B, C_out)."""
        first = nn.Linear(site.in_channels, self.hidden)
        return nn.Sequential(Variance(), first, nn.Linear(self.hidden, site.out_channels))

    def macs(self, live: Tensor, site: gates.SiteShape) -> Tensor:
        """Count what it costs where so many inputs are live."""
        return self.hidden * (live + site.out_channels)


class Variance(nn.Module):
    """Variance over positions, by channel."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (B, C)."""
        return inputs.var((2, 3), unbiased=False)


@ftwt.register
@dataclass(frozen=True)
class AboveMedian:
    """A target that keeps the stronger half of the filters."""

    def keep(self, features: Tensor) -> Tensor:
        """Return which filters were worth running, (B, C)."""
        strength = features.amax((2, 3))
        return strength >= strength.median(1, keepdim=True).values


example = torch.zeros(1, 3, 32, 32)
pruning = ftwt.Pruning(gate=Variances(hidden=4), target=AboveMedian())
model = ftwt.attach(ftwt.backbones.resnet8(), pruning, example=example).eval()
print(f"the gates cost {model.gate_macs / model.dense_macs:.2%} of the network")
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.safetensors"
    ftwt.save(model, path, ftwt.Card("cifar10-resnet8", 10))
    again, _ = ftwt.load(path)
assert torch.equal(again(example), model(example))
