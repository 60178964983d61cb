"""resnet: a small residual network that reads the image and predicts the distribution of its log score.

The paper's base attackers have about 5.6e3, 2e4 and 8e4 parameters at first widths 1, 2 and 4; these come close, at
first widths 4, 8 and 16.  Two heads: `quantiles` (pinball loss, never crossing) and `location_scale` (Gaussian).
"""

import math
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributions import Normal

from stages.device import best_device
from stages.params import Options
from stages.quantile.losses import gaussian_loss, pinball_loss
from stages.quantile.predictions import LEVELS, LocationScale, Prediction, Quantiles

PREDICT_BATCH = 1024


class ResNetOptions(Options):
    """An entry of the `learners` registry."""

    kind: Literal["resnet"]
    head: Literal["quantiles", "location_scale"]
    width: PositiveInt = Field(multiple_of=4)  # channels of the first stage; the next two have 2x and 4x
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: float = Field(ge=0)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut.  (B, in, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(4, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(4, channels_out)
        same = channels_in == channels_out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class QuantileNet(nn.Module):
    """A stem, three residual stages, an average over positions and a linear head.  (B, C, H, W) -> (B, outputs)."""

    def __init__(self, channels: int, width: int, head_bias: Tensor) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1),
            nn.ReLU(),
            ResidualBlock(width, width, stride=1),
            ResidualBlock(width, 2 * width, stride=2),
            ResidualBlock(2 * width, 4 * width, stride=2),
        )
        self.head = nn.Linear(4 * width, len(head_bias))
        nn.init.zeros_(self.head.weight)
        self.head.bias.data.copy_(head_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean(dim=(2, 3)))


class ResNetAttacker:
    """One fitted network, and the mean and spread of the log scores it was fitted on."""

    def __init__(self, net: QuantileNet, mean: float, spread: float, head: str) -> None:
        self.net, self.mean, self.spread, self.head = net, mean, spread, head

    @classmethod
    def fit(cls, images: np.ndarray, log_scores: np.ndarray, options: ResNetOptions, seed: int) -> Self:
        """images : (N, C, H, W) uint8.  log_scores : (N,) float64.  AdamW with a cosine step size."""
        device = best_device()
        torch.manual_seed(seed)
        net = QuantileNet(images.shape[1], options.width, _standard_normal_bias(options.head)).to(device)
        mean, spread = float(log_scores.mean()), max(float(log_scores.std()), 1e-6)
        x = _scaled(images).to(device)
        y = torch.from_numpy((log_scores - mean) / spread).float().to(device)
        optimizer = torch.optim.AdamW(net.parameters(), options.learning_rate, weight_decay=options.weight_decay)
        steps = options.epochs * math.ceil(len(x) / options.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(options.epochs):
            for batch in torch.randperm(len(x)).split(options.batch_size):
                loss = _loss(net(x[batch]), y[batch], options.head)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return cls(net.eval(), mean, spread, options.head)

    @torch.inference_mode()
    def predict(self, images: np.ndarray) -> Prediction:
        """images : (N, C, H, W) uint8."""
        device = next(self.net.parameters()).device
        batches = np.array_split(images, math.ceil(len(images) / PREDICT_BATCH))
        outputs = torch.cat([self.net(_scaled(batch).to(device)).cpu() for batch in batches]).double()
        if self.head == "quantiles":
            return Quantiles((_increasing(outputs) * self.spread + self.mean).numpy())
        location, log_scale = outputs.unbind(1)
        scale = log_scale.exp() * self.spread
        return LocationScale((location * self.spread + self.mean).numpy(), scale.numpy())

    def save(self, stem: Path) -> None:
        """Write <stem>.safetensors."""
        standard = torch.tensor([self.mean, self.spread], dtype=torch.float64)
        tensors = {name: value.cpu().contiguous() for name, value in self.net.state_dict().items()}
        save_file({**tensors, "log_score_mean_spread": standard}, stem.with_suffix(".safetensors"))

    @classmethod
    def load(cls, stem: Path, options: ResNetOptions) -> Self:
        """Read what `save` wrote."""
        tensors = load_file(stem.with_suffix(".safetensors"))
        mean, spread = tensors.pop("log_score_mean_spread").tolist()
        channels = tensors["body.0.weight"].shape[1]
        net = QuantileNet(channels, options.width, _standard_normal_bias(options.head))
        net.load_state_dict(tensors)
        return cls(net.eval(), mean, spread, options.head)


def _scaled(images: np.ndarray) -> Tensor:
    """uint8 to float32 in [-1, 1]."""
    return torch.from_numpy(images).float() / 127.5 - 1.0


def _standard_normal_bias(head: str) -> Tensor:
    """The head's bias that makes an untrained network predict N(0, 1) for every image."""
    if head == "location_scale":
        return torch.zeros(2)
    quantiles = Normal(0.0, 1.0).icdf(torch.tensor(LEVELS))  # (K,)
    return torch.cat([quantiles[:1], torch.log(torch.expm1(quantiles.diff()))])  # softplus, inverted


def _increasing(outputs: Tensor) -> Tensor:
    """The lowest quantile and positive steps up from it: quantiles that cannot cross.  (B, K) -> (B, K)."""
    return torch.cat([outputs[:, :1], F.softplus(outputs[:, 1:])], dim=1).cumsum(dim=1)


def _loss(outputs: Tensor, y: Tensor, head: str) -> Tensor:
    if head == "quantiles":
        return pinball_loss(_increasing(outputs), y, torch.tensor(LEVELS, device=y.device))
    return gaussian_loss(outputs[:, 0], outputs[:, 1], y)
