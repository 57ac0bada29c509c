"""Blocks of branches: sums, concatenations, scales and pyramids."""

import torch
from torch import nn
from torch.nn import functional as F


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
