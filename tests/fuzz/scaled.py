"""Blocks that weigh, spread or attend: what channels are multiplied with."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Squeeze(nn.Module):
    """Squeeze and excitation with keepdims as numpy spells it."""

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)
        self.fc1, self.fc2 = nn.Conv2d(c, 2, 1), nn.Conv2d(2, c, 1)

    def forward(self, x):
        x = F.relu(self.conv(x))
        s = x.mean(axis=(2, 3), keepdims=True)
        return x * self.fc2(F.relu(self.fc1(s))).sigmoid()


class SqueezeLinear(nn.Module):
    """The same through linear layers and a view."""

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)
        self.fc = nn.Sequential(nn.Linear(c, 2), nn.ReLU(), nn.Linear(2, c), nn.Hardsigmoid())

    def forward(self, x):
        x = F.hardswish(self.conv(x))
        b, c, _, _ = x.size()
        return x * self.fc(F.adaptive_avg_pool2d(x, 1).view(b, c)).view(b, c, 1, 1)


class Cbam(nn.Module):
    """Attention over channels, then over space."""

    def __init__(self, c):
        super().__init__()
        self.conv, self.space = nn.Conv2d(c, c, 1), nn.Conv2d(2, 1, 3, padding=1)
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(c, 2), nn.ReLU(), nn.Linear(2, c))

    def forward(self, x):
        x = F.relu(self.conv(x))
        pooled = self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1))
        x = x * torch.sigmoid(pooled).unsqueeze(2).unsqueeze(3).expand_as(x)
        both = torch.cat((torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1, keepdim=True)), 1)
        return x * self.space(both).sigmoid()


class ConvNeXt(nn.Module):
    """Depthwise, channels last, linear layers, a layer scale."""

    def __init__(self, c):
        super().__init__()
        self.dw = nn.Conv2d(c, c, 5, padding=2, groups=c)
        self.norm = nn.LayerNorm(c, eps=1e-6)
        self.pw1, self.pw2 = nn.Linear(c, 2 * c), nn.Linear(2 * c, c)
        self.gamma = nn.Parameter(0.3 * torch.ones(c))

    def forward(self, x):
        y = self.dw(x).permute(0, 2, 3, 1)
        y = self.gamma * self.pw2(F.gelu(self.pw1(self.norm(y))))
        return x + y.permute(0, 3, 1, 2)


class Inverted(nn.Module):
    """MobileNetV2's block."""

    def __init__(self, c):
        super().__init__()
        e = 2 * c
        self.conv = nn.Sequential(
            nn.Conv2d(c, e, 1, bias=False), nn.BatchNorm2d(e), nn.ReLU6(inplace=True),
            nn.Conv2d(e, e, 3, 1, 1, groups=e, bias=False), nn.BatchNorm2d(e), nn.ReLU6(True),
            nn.Conv2d(e, c, 1, bias=False), nn.BatchNorm2d(c),
        )  # fmt: skip

    def forward(self, x):
        return x + self.conv(x)


class Shuffle(nn.Module):
    """ShuffleNet's block: half passes by, then channels are shuffled."""

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c // 2, c // 2, 3, padding=1)

    def forward(self, x):
        one, two = x.chunk(2, dim=1)
        x = torch.cat((one, F.relu(self.conv(two))), dim=1)
        b, c, h, w = x.shape
        return x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)


class Ghost(nn.Module):
    """Cheap features beside the real ones, cut to the width."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.primary = nn.Conv2d(c, (c + 1) // 2, 1)
        self.cheap = nn.Conv2d((c + 1) // 2, (c + 1) // 2, 3, padding=1, groups=(c + 1) // 2)

    def forward(self, x):
        x1 = F.relu(self.primary(x))
        return torch.cat([x1, F.relu(self.cheap(x1))], dim=1)[:, : self.c, :, :]


class Blur(nn.Module):
    """A fixed filter for each channel, with as many groups as the input has channels."""

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)
        a = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("filt", (a[:, None] * a[None] / 16)[None, None].repeat(c, 1, 1, 1))

    def forward(self, x):
        x = F.relu(self.conv(x))
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.filt, groups=x.shape[1])


class LowRank(nn.Module):
    """A convolution whose weight has a product of two small matrices added."""

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)
        self.a, self.b = nn.Parameter(torch.randn(2, 9 * c) / 9), nn.Parameter(torch.randn(c, 2))

    def forward(self, x):
        weight = self.conv.weight + (self.b @ self.a).view_as(self.conv.weight)
        return F.relu(F.conv2d(x, weight, self.conv.bias, padding=1))


class Attention(nn.Module):
    """Multi-head attention over positions."""

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 1)
        self.att = nn.MultiheadAttention(c, 2, batch_first=True)

    def forward(self, x):
        y = F.relu(self.conv(x)).flatten(2).transpose(1, 2)
        y, _ = self.att(y, y, y, need_weights=False)
        return x + y.transpose(1, 2).reshape(x.shape)


class SelfAttention(nn.Module):
    """The same by hand, with scaled dot products."""

    def __init__(self, c):
        super().__init__()
        self.qkv = nn.Conv2d(c, 3 * c, 1)
        self.proj = nn.Conv2d(c, c, 1)
        self.scale = 1 / math.sqrt(c)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).reshape(b, 3, c, h * w).unbind(1)
        att = (q.transpose(-2, -1) @ k * self.scale).softmax(dim=-1)
        return x + self.proj((v @ att.transpose(-2, -1)).reshape(b, c, h, w))
