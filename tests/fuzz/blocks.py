"""Blocks as people write them. Each is made from a width and keeps it: (B, C, H, W) -> the same.

A failing network is written out with the source of its blocks, so each stands by itself.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm


class Plain(nn.Module):
    """Convolution, norm, activation."""

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(c)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Basic(nn.Module):
    """ResNet's basic block."""

    def __init__(self, c):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.conv2, self.bn2 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += x
        return F.relu(out, inplace=True)


class PreActivation(nn.Module):
    """The norm comes first, and the sum is not activated."""

    def __init__(self, c):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(c), nn.Conv2d(c, c, 3, padding=1)
        self.bn2, self.conv2 = nn.BatchNorm2d(c), nn.Conv2d(c, c, 1)

    def forward(self, x):
        y = self.conv1(self.bn1(x).relu())
        return x + self.conv2(torch.relu(self.bn2(y)))


class Dense(nn.Module):
    """DenseNet: a list of features that grows, concatenated each time."""

    def __init__(self, c):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c + 3 * i, 3, 3, padding=1) for i in range(2))
        self.out = nn.Conv2d(c + 6, c, 1)

    def forward(self, x):
        features = [x]
        for conv in self.convs:
            features.append(F.relu(conv(torch.cat(features, 1))))
        return F.relu(self.out(torch.cat(features, dim=1)))


class C2f(nn.Module):
    """YOLO's C2f: a list from chunk, extended by a generator."""

    def __init__(self, c):
        super().__init__()
        self.h = c // 2
        self.cv1 = nn.Conv2d(c, 2 * self.h, 1)
        self.cv2 = nn.Conv2d(4 * self.h, c, 1)
        self.m = nn.ModuleList(nn.Conv2d(self.h, self.h, 3, padding=1) for _ in range(2))

    def forward(self, x):
        y = list(F.silu(self.cv1(x)).chunk(2, 1))
        y.extend(F.silu(m(y[-1])) for m in self.m)
        return F.silu(self.cv2(torch.cat(y, 1)))


class Sppf(nn.Module):
    """Pooling of pooling, concatenated."""

    def __init__(self, c):
        super().__init__()
        self.cv1, self.cv2 = nn.Conv2d(c, 2, 1), nn.Conv2d(8, c, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x):
        y = [F.relu(self.cv1(x))]
        y.extend(self.pool(y[-1]) for _ in range(3))
        return F.relu(self.cv2(torch.cat(y, 1)))


class Res2(nn.Module):
    """Res2Net: splits in a loop, each added to the one before."""

    def __init__(self, c):
        super().__init__()
        self.w = c // 2
        self.convs = nn.ModuleList(nn.Conv2d(self.w, self.w, 3, padding=1) for _ in range(2))

    def forward(self, x):
        done, last = [], 0
        for part, conv in zip(torch.split(x, self.w, 1), self.convs, strict=False):
            last = F.relu(conv(part + last))
            done.append(last)
        return torch.cat(done, 1)


class UNet(nn.Module):
    """Down and up again with a skip connection, padded to odd sizes."""

    def __init__(self, c):
        super().__init__()
        self.down, self.mid = nn.Conv2d(c, c + 2, 3, padding=1), nn.Conv2d(c + 2, c + 2, 3, 1, 1)
        self.up = nn.ConvTranspose2d(c + 2, c, 2, stride=2)
        self.out = nn.Conv2d(2 * c, c, 3, padding=1)

    def forward(self, x):
        y = F.relu(self.down(F.max_pool2d(x, 2)))
        y = self.up(F.relu(self.mid(y)))
        dy, dx = x.size(2) - y.size(2), x.size(3) - y.size(3)
        y = F.pad(y, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return F.relu(self.out(torch.cat([x, y], dim=1)))


class Hourglass(nn.Module):
    """A lower branch at half of the size, added after interpolation."""

    def __init__(self, c):
        super().__init__()
        self.low, self.up = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 1)

    def forward(self, x):
        low = F.leaky_relu(self.low(F.avg_pool2d(x, 2, ceil_mode=True)), 0.1)
        return self.up(x).clamp(min=0) + F.interpolate(low, size=x.shape[-2:], mode="nearest")


class Pyramid(nn.Module):
    """FPN: two levels with one head for both."""

    def __init__(self, c):
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(c, 4, 1), nn.Conv2d(c, 4, 1)])
        self.stride = nn.Conv2d(c, c, 3, 2, 1)
        self.head = nn.Conv2d(4, c, 3, padding=1)

    def forward(self, x):
        small = F.relu(self.stride(x))
        top = self.lateral[1](small)
        levels = [self.lateral[0](x) + F.interpolate(top, x.shape[2:]), top]
        one, two = (F.relu(self.head(level)) for level in levels)
        return one + F.interpolate(two, size=x.shape[-2:])


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


class NormAct(nn.Module):
    """A norm that activates, as a subclass of the norm."""

    class Norm(nn.BatchNorm2d):
        """Batch norm and activation."""

        def forward(self, x):
            return F.relu(super().forward(x))

    def __init__(self, c):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(c, c, 3, padding=1, bias=False), self.Norm(c)
        self.out = nn.Conv2d(c, c, 1)

    def forward(self, x):
        return F.relu(self.out(self.bn(self.conv(x))))


class Weighted(nn.Module):
    """Weight norm, and a weight that is read as a value."""

    def __init__(self, c):
        super().__init__()
        self.conv = weight_norm(nn.Conv2d(c, c, 3, padding=1))
        self.out = nn.Conv2d(c, c, 1)

    def forward(self, x):
        y = F.elu(self.conv(x)).to(self.out.weight.dtype)
        return F.relu(self.out(y))


class Shared(nn.Module):
    """One convolution and one norm at two places."""

    def __init__(self, c):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c)

    def forward(self, x):
        for _ in range(2):
            x = F.relu(self.bn(self.conv(x)))
        return x


class Grouped(nn.Module):
    """Groups, group norm, unusual strides, dilation."""

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, 2 * c, 3, padding=2, dilation=2, groups=2)
        self.norm = nn.GroupNorm(2, 2 * c)
        self.out = nn.Conv2d(2 * c, c, (1, 3), padding=(0, 1))

    def forward(self, x):
        return F.relu(self.out(F.relu6(self.norm(self.conv(x)))))


class Rows(nn.Module):
    """Rows are left out, then put back."""

    def __init__(self, c):
        super().__init__()
        self.one = nn.Conv2d(c, c, (1, 3), (2, 1), (0, 1))
        self.two = nn.Conv2d(c, c, 3, padding="same", padding_mode="circular")

    def forward(self, x):
        y = F.relu(self.two(F.relu(self.one(x))))
        return F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)


class Shuffled(nn.Module):
    """Pixels to channels and back."""

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, 4 * c, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x):
        return F.avg_pool2d(self.shuffle(F.relu(self.conv(x))), 2)


class Windows(nn.Module):
    """Convolution in windows that are put into the batch, and back."""

    def __init__(self, c):
        super().__init__()
        self.conv, self.out = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        x = F.pad(F.relu(self.out(x)), (0, w % 2, 0, h % 2))
        b, c, hh, ww = x.shape
        y = x.view(b, c, 2, hh // 2, 2, ww // 2).permute(0, 2, 4, 1, 3, 5)
        y = F.relu(self.conv(y.reshape(b * 4, c, hh // 2, ww // 2)))
        y = y.view(b, 2, 2, c, hh // 2, ww // 2).permute(0, 3, 1, 4, 2, 5)
        return y.reshape(b, c, hh, ww)[:, :, :h, :w]


class Response(nn.Module):
    """Norms over channels, a global response norm, a softmax over channels."""

    def __init__(self, c):
        super().__init__()
        self.conv, self.out = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 1)

    def forward(self, x):
        x = F.relu(self.conv(x))
        g = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
        x = x * (g / (g.mean(1, keepdim=True) + 1e-6)) + x
        return F.local_response_norm(self.out(x), 3) * torch.softmax(x, dim=1)


class Across(nn.Module):
    """Maxima of neighbouring channels, by a pooling over three dimensions."""

    def __init__(self, c):
        super().__init__()
        self.conv, self.out = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 1)

    def forward(self, x):
        x = F.relu(self.conv(x))
        return F.relu(self.out(F.max_pool3d(x, (3, 1, 1), stride=1, padding=(1, 0, 0))))


class Maxout(nn.Module):
    """The larger of two halves, and a sum over parts."""

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, 2 * c, 3, padding=1)

    def forward(self, x):
        one, two = torch.tensor_split(self.conv(x), 2, dim=1)
        return torch.maximum(one, two) + torch.stack([one, two]).sum(0).relu()


class Checked(nn.Module):
    """An assertion on a shape, a switch, a counter of calls, features kept for later."""

    def __init__(self, c):
        super().__init__()
        self.c, self.conv, self.residual = c, nn.Conv2d(c, c, 3, padding=1), True

    def forward(self, x, extra=None):
        assert x.shape[1] == self.c, f"expected {self.c} channels"
        y = F.relu(self.conv(x))
        if extra is not None:
            y = y + extra
        return y + x if self.residual else y


class Frozen(nn.Module):
    """A part without gradient."""

    def __init__(self, c):
        super().__init__()
        self.conv, self.out = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 1)

    def forward(self, x):
        with torch.no_grad():
            y = F.relu(self.conv(x))
        return F.relu(self.out(y)) + x


class Dropped(nn.Module):
    """Dropout as a module and as a function, in training mode only."""

    def __init__(self, c):
        super().__init__()
        self.conv, self.drop = nn.Conv2d(c, c, 3, padding=1), nn.Dropout2d(0.2)

    def forward(self, x):
        x = self.drop(F.relu(self.conv(x)))
        return F.dropout(x, 0.1, self.training)


class Scaled(nn.Module):
    """Parameters that are given to modules and functions."""

    def __init__(self, c):
        super().__init__()
        self.conv, self.act = nn.Conv2d(c, c, 3, padding=1), nn.PReLU(c)
        self.implicit = nn.Parameter(torch.rand(1, c, 1, 1))
        self.mix = nn.Conv2d(c, c, 1)

    def forward(self, x):
        return self.act(self.conv(x)) * self.implicit + self.mix(self.implicit)


class InPlace(nn.Module):
    """Changes in place that are read under old names and through views."""

    def __init__(self, c):
        super().__init__()
        self.one, self.two = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 1)

    def forward(self, x):
        a, b = self.one(x), F.relu_(self.two(x))
        half = a[:, : a.shape[1] // 2]
        a.add_(b).mul_(0.5)
        return torch.cat([half, b[:, b.shape[1] // 2 :]], 1)


BLOCKS = (
    Plain, Basic, PreActivation, Dense, C2f, Sppf, Res2, UNet, Hourglass, Pyramid, Squeeze,
    SqueezeLinear, Cbam, ConvNeXt, Inverted, Shuffle, Ghost, Blur, LowRank, Attention,
    SelfAttention, NormAct, Weighted, Shared, Grouped, Rows, Shuffled, Windows, Response, Across,
    Maxout, Checked, Frozen, Dropped, Scaled, InPlace,
)  # fmt: skip
