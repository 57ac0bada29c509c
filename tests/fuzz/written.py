"""Blocks written in unusual ways: shared weights, views, modes, changes in place."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm


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
