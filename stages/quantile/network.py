"""How a network becomes an attacker: standardised, trained with AdamW on one cycle of step sizes, applied, saved."""

import math
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stages.device import best_device
from stages.params import Options
from stages.quantile import heads
from stages.quantile.heads import Head
from stages.quantile.inputs import Inputs
from stages.quantile.predictions import Prediction

PREDICT_BATCH = 500
WATCHES = 8  # looks at the loss while fitting
FARTHEST = 5.0  # deviations: statistics beyond are clipped, so that a strange image is not extrapolated to


class NetworkOptions(Options):
    """What the entries of all networks share."""

    head: Head
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat  # at the top of the cycle
    weight_decay: float = Field(ge=0)
    dropout: float = Field(ge=0, lt=1)
    precision: Literal["float32", "bfloat16"]  # of activations; bfloat16 is fast where the hardware has it


def hidden_layers(inputs: int, width: int, depth: int, dropout: float) -> nn.Sequential:
    """`depth` layers of `width` units.  (B, inputs) -> (B, width)."""
    layers: list[nn.Module] = []
    for layer in range(depth):
        layers += [nn.Linear(width if layer else inputs, width), nn.SiLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


class Network(nn.Module):
    """A body that makes features of images and statistics, and a linear head that starts out at N(0, 1)."""

    statistics_mean: Tensor  # (F,) float32
    statistics_spread: Tensor
    score_mean: Tensor  # (S,) float64
    score_spread: Tensor

    def __init__(self, body: nn.Module, features: int, scores: int, head: Head, statistics: int) -> None:
        super().__init__()
        self.body = body
        bias = heads.standard_normal_bias(head, scores)
        self.head = nn.Linear(features, len(bias))
        nn.init.zeros_(self.head.weight)
        self.head.bias.data.copy_(bias)
        self.register_buffer("statistics_mean", torch.zeros(statistics))
        self.register_buffer("statistics_spread", torch.ones(statistics))
        self.register_buffer("score_mean", torch.zeros(scores, dtype=torch.float64))
        self.register_buffer("score_spread", torch.ones(scores, dtype=torch.float64))

    def forward(self, images: Tensor, statistics: Tensor) -> Tensor:
        """images : (B, C, H, W) uint8.  statistics : (B, F) float32.  Returns (B, outputs)."""
        standardised = ((statistics - self.statistics_mean) / self.statistics_spread).clamp(-FARTHEST, FARTHEST)
        return self.head(self.body(images, standardised).float())

    def standardise(self, statistics: Tensor, log_scores: Tensor) -> None:
        """Take means and spreads from what the network is to be fitted on."""
        spread = statistics.double().std(0).float()  # of a constant column exactly 0, in float64 alone
        self.statistics_mean.copy_(statistics.double().mean(0))
        self.statistics_spread.copy_(spread.where(spread > 0, torch.inf))  # what never varied tells nothing
        self.score_mean.copy_(log_scores.mean(0))
        self.score_spread.copy_(log_scores.std(0).clamp(min=1e-6))


class NetworkAttacker:
    """A fitted network.  Subclasses say how it is built, and whether it looks at images mirrored too."""

    flips = False  # mirror images at random while fitting, and average over both while predicting

    def __init__(self, network: Network, options: Any) -> None:
        self.network, self.options = network, options

    @staticmethod
    @abstractmethod
    def build(channels: int, statistics: int, scores: int, options: Any) -> Network:
        """The network before training."""

    @classmethod
    def fit(
        cls,
        inputs: Inputs,
        log_scores: np.ndarray,
        options: Any,
        seed: int,
        watch: Callable[[int, Self], None],
    ) -> Self:
        """log_scores : (N, S) float64.  watch : called with the epoch and the attacker `WATCHES` times."""
        device = best_device()
        torch.manual_seed(seed)
        network = cls.build(inputs.images.shape[1], inputs.statistics.shape[1], log_scores.shape[1], options).to(device)
        images, statistics = torch.from_numpy(inputs.images), torch.from_numpy(inputs.statistics)
        network.standardise(statistics, torch.from_numpy(log_scores))
        y = (torch.from_numpy(log_scores).to(device) - network.score_mean) / network.score_spread  # (N, S)
        attacker = cls(network, options)
        optimizer = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=options.weight_decay)
        steps = options.epochs * math.ceil(len(y) / options.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, steps, pct_start=0.2)
        for epoch in range(options.epochs):
            network.train()
            for rows in torch.randperm(len(y)).split(options.batch_size):
                batch = images[rows].to(device)
                if cls.flips:
                    batch = torch.where(torch.rand(len(rows), 1, 1, 1, device=device) < 0.5, batch.flip(3), batch)
                outputs = attacker._outputs(batch, statistics[rows].to(device))
                loss = heads.loss(outputs, y[rows.to(device)].float(), options.head)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            if (epoch + 1) * WATCHES // options.epochs > epoch * WATCHES // options.epochs:
                watch(epoch + 1, attacker)
        return attacker

    @torch.inference_mode()
    def predict(self, inputs: Inputs) -> Prediction:
        """What the network says of every image, on average over its mirror image where it was fitted on both."""
        self.network.eval()
        device = self.network.score_mean.device
        outputs = []
        for start in range(0, len(inputs), PREDICT_BATCH):
            part = inputs[start : start + PREDICT_BATCH]
            images, statistics = (torch.tensor(a, device=device) for a in (part.images, part.statistics))
            views = [images, images.flip(3)] if self.flips else [images]
            outputs.append(torch.stack([self._outputs(view, statistics).float() for view in views]).mean(0).cpu())
        mean, spread = self.network.score_mean.cpu(), self.network.score_spread.cpu()
        return heads.prediction(torch.cat(outputs), mean, spread, self.options.head)

    def save(self, folder: Path) -> None:
        """Write network.safetensors."""
        tensors = {name: value.cpu().contiguous() for name, value in self.network.state_dict().items()}
        save_file(tensors, folder / "network.safetensors")

    @classmethod
    def load(cls, folder: Path, options: Any) -> Self:
        """Read what `save` wrote."""
        tensors = load_file(folder / "network.safetensors")
        network = cls.build(cls.channels(tensors), len(tensors["statistics_mean"]), len(tensors["score_mean"]), options)
        network.load_state_dict(tensors)
        return cls(network, options)

    @staticmethod
    def channels(tensors: dict[str, Tensor]) -> int:
        """The images' channels, read off the weights."""
        return 1

    def _outputs(self, images: Tensor, statistics: Tensor) -> Tensor:
        fast = self.options.precision == "bfloat16"
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=fast):
            return self.network(images, statistics)
