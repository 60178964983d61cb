"""resnet: a small residual network that looks at the image, and at its statistics if asked to.

The paper's base attackers have about 5.6e3, 2e4 and 8e4 parameters at first widths 1, 2 and 4; these come close, at
first widths 4, 8 and 16, without statistics.  No normalisation layers: they would wash out the contrast that a score
depends on.  Pixel differences enter beside the pixels, as they are and as logarithms: log scores follow log energies.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from stages.quantile.dropout import Dropout
from stages.quantile.network import Network, NetworkAttacker, NetworkOptions, hidden_layers

VIEWS = 7  # planes made of each channel: itself, three differences, and their logarithms
HIDDEN = 2  # layers above features and statistics together


class ResNetOptions(NetworkOptions):
    """An entry of the `learners` registry."""

    kind: Literal["resnet"]
    width: PositiveInt  # channels of the first stage; the next two have 2x and 4x
    blocks: PositiveInt  # residual blocks of a stage
    statistics: bool  # look at the image's statistics too
    hidden: PositiveInt  # units above features and statistics, where these are looked at


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which alone counts at first.  (B, in, H, W) -> (B, out, H/s, W/s)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        same = channels_in == channels_out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(x)
        return self.shortcut(x) + self.conv2(F.relu(self.conv1(active)))


class ImageBody(nn.Module):
    """Three residual stages; what each found, averaged over positions, goes on together with the statistics."""

    def __init__(self, channels: int, statistics: int, options: ResNetOptions) -> None:
        super().__init__()
        width = options.width
        self.stem = nn.Conv2d(VIEWS * channels, width, 3, 1, 1)
        self.stages = nn.ModuleList(
            [_stage(width, width, 1, options.blocks)]
            + [_stage(n * width, 2 * n * width, 2, options.blocks) for n in (1, 2)]
        )
        found = 2 * (1 + 2 + 4) * width
        self.norm = nn.LayerNorm(found)
        self.dropout = Dropout(options.dropout, found)
        self.hidden = nn.Sequential()
        self.features = found
        if options.statistics:
            self.hidden = hidden_layers(found + statistics, options.hidden, HIDDEN, options.dropout)
            self.features = options.hidden
        self.statistics = options.statistics

    def forward(self, images: Tensor, statistics: Tensor) -> Tensor:
        """images : (B, VIEWS * C, H, W) of `views`.  statistics : (B, F) standardised.  Returns (B, features)."""
        x = self.stem(images)
        found = []
        for stage in self.stages:
            x = stage(x)
            active = F.relu(x).float()
            found += [active.mean((2, 3)), torch.log(active.square().mean((2, 3)) + 1e-3)]  # (B, channels) each
        features = self.dropout(self.norm(torch.cat(found, 1)))
        return self.hidden(torch.cat([features, statistics], 1) if self.statistics else features)


class ResNetAttacker(NetworkAttacker):
    """A fitted residual network."""

    looks_at_images = True

    @staticmethod
    def build(channels: int, statistics: int, scores: int, options: ResNetOptions) -> Network:
        """The network before training."""
        body = ImageBody(channels, statistics, options)
        return Network(body, body.features, scores, options.head, statistics)

    @staticmethod
    def channels(tensors: dict[str, Tensor]) -> int:
        """The images' channels, read off the weights."""
        return tensors["body.stem.weight"].shape[1] // VIEWS

    @staticmethod
    def planes(images: Tensor) -> Tensor:
        """What the network is told of images."""
        return views(images)


def views(images: Tensor) -> Tensor:
    """(B, C, H, W) uint8 to (B, VIEWS * C, H, W) float32: pixels, their differences across, down and both, and the
    logarithms of the differences' sizes.  Differences are taken before any rounding to bfloat16, which would lose them.
    """
    x = images.float() / 127.5 - 1.0
    across, down = F.pad(x.diff(dim=3), (0, 1)), F.pad(x.diff(dim=2), (0, 0, 0, 1))
    both = F.pad(across.diff(dim=2), (0, 0, 0, 1))
    differences = torch.cat([across, down, both], 1)
    logarithms = torch.log1p(127.5 * differences.abs()) / 2 - 0.7
    return torch.cat([x, 2 * differences, logarithms], 1).contiguous(memory_format=torch.channels_last)


def _stage(channels_in: int, channels_out: int, stride: int, blocks: int) -> nn.Sequential:
    first = ResidualBlock(channels_in, channels_out, stride)
    return nn.Sequential(first, *(ResidualBlock(channels_out, channels_out, 1) for _ in range(blocks - 1)))
