"""A network as a value: what to build, from which seed, and as a script of its own."""

import inspect
import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tests.fuzz import blocks, nets

_BLOCKS = {one.__name__: one for one in blocks.BLOCKS}
_NETS = {one.__name__: one for one in nets.NETS}
WIDTHS = (4, 6, 8)
SIZES = ((8, 8), (9, 7), (12, 10), (5, 13))


@dataclass(frozen=True)
class Spec:
    """One network and the images that it is checked with."""

    seed: int
    net: str
    width: int
    blocks: tuple[str, ...]
    size: tuple[int, int]
    batch: int
    keep: float

    def build(self) -> nn.Module:
        """The network in eval mode; norms shift and scale, as those of a trained one do."""
        torch.manual_seed(self.seed)
        made = [_BLOCKS[name](self.width) for name in self.blocks]
        network = _NETS[self.net](self.width, made)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.5, 1.5)
        return network.eval()

    def images(self, *, batch: int | None = None, larger: int = 0) -> tuple[Tensor, ...]:
        """The network's inputs, each float (batch, 3, height, width)."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        height, width = self.size
        shape = (batch or self.batch, 3, height + larger, width + larger)
        return tuple(torch.randn(shape, generator=generator) for _ in range(_NETS[self.net].inputs))

    def smaller(self) -> list["Spec"]:
        """Networks that are a step simpler."""
        steps = [
            replace(self, blocks=self.blocks[:i] + self.blocks[i + 1 :])
            for i in range(len(self.blocks))
        ]
        if self.net != "Classifier":
            steps.append(replace(self, net="Classifier"))
        if self.width != WIDTHS[0]:
            steps.append(replace(self, width=WIDTHS[0]))
        if self.size != SIZES[0]:
            steps.append(replace(self, size=SIZES[0]))
        if self.batch > 1:
            steps.append(replace(self, batch=1))
        return steps

    def script(self, said: str) -> str:
        """A script that shows this network, with the source of all that it is made of."""
        used = [inspect.getsource(_BLOCKS[name]) for name in dict.fromkeys(self.blocks)]
        if self.net == "Library":
            used.append(inspect.getsource(nets.Answer))
        used.append(inspect.getsource(_NETS[self.net]))
        made = ", ".join(f"{name}({self.width})" for name in self.blocks)
        said = "\n".join(f"# {line}" for line in said.splitlines())
        return _SCRIPT.format(
            said=said, source="\n\n".join(used), net=self.net, width=self.width, made=made,
            seed=self.seed, batch=self.batch, size=self.size, inputs=_NETS[self.net].inputs,
            spec=repr(self),
        )  # fmt: skip


_SCRIPT = """{said}
# {spec}
# `python -m tests.fuzz --spec "..."` with the line above repeats the check.
import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

import ftwt
from ftwt import gates

{source}

torch.manual_seed({seed})
network = {net}({width}, [{made}]).eval()
images = [torch.randn({batch}, 3, *{size}) for _ in range({inputs})]
example = tuple(one[:1] for one in images)
model = ftwt.attach(network, ftwt.Pruning(gates.Fixed({{}})), example=example)
print(network(*images), model.eval()(*images))
"""


def draw(seed: int) -> Spec:
    """A random network; the same seed gives the same one."""
    chance = random.Random(seed)
    return Spec(
        seed=seed,
        net=chance.choice(sorted(_NETS)),
        width=chance.choice(WIDTHS),
        blocks=tuple(chance.choice(sorted(_BLOCKS)) for _ in range(chance.randint(1, 3))),
        size=chance.choice(SIZES),
        batch=chance.randint(1, 4),
        keep=chance.choice((0.0, 0.3, 0.6, 0.9)),
    )
