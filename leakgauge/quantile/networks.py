"""Attackers that are neural networks: an MLP on features, a ResNet on pixels.

resnet: a small residual network that looks at the image, and at its features if asked to.

The paper's base attackers have about 5.6e3, 2e4 and 8e4 parameters at first widths 1, 2 and 4; these come close, at
first widths 4, 8 and 16, without features.  No normalisation layers: they would wash out the contrast that a score
depends on.  Pixel differences enter beside the pixels, as they are and as logarithms: log scores follow log energies.
"""

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from leakgauge.compute import best_device
from leakgauge.options import MLPOptions, ResNetOptions
from leakgauge.quantile.base import Prediction
from leakgauge.quantile.inputs import PART, Inputs, TrainingSet
from leakgauge.quantile.training import Dropout, Head, head_prediction, standard_normal_bias, train

PREDICT_BATCH = 500
FARTHEST = 5.0  # deviations: features beyond are clipped, so that a strange image is not extrapolated to


def hidden_layers(inputs: int, width: int, depth: int, dropout: float) -> nn.Sequential:
    """`depth` layers of `width` units.  (B, inputs) -> (B, width)."""
    layers: list[nn.Module] = []
    for layer in range(depth):
        layers += [nn.Linear(width if layer else inputs, width), nn.SiLU(), Dropout(dropout, width)]
    return nn.Sequential(*layers)


class Network(nn.Module):
    """A body on images and features, with `units` outputs, and a linear head that starts out at N(0, 1)."""

    features_mean: Tensor  # (F,) float32
    features_spread: Tensor
    score_mean: Tensor  # (S,) float64
    score_spread: Tensor

    def __init__(self, body: nn.Module, units: int, scores: int, head: Head, features: int) -> None:
        super().__init__()
        self.body = body
        bias = standard_normal_bias(head, scores)
        self.head = nn.Linear(units, len(bias))
        nn.init.zeros_(self.head.weight)
        self.head.bias.data.copy_(bias)
        self.register_buffer("features_mean", torch.zeros(features))
        self.register_buffer("features_spread", torch.ones(features))
        self.register_buffer("score_mean", torch.zeros(scores, dtype=torch.float64))
        self.register_buffer("score_spread", torch.ones(scores, dtype=torch.float64))

    def forward(self, images: Tensor, features: Tensor) -> Tensor:
        """images : (B, ...), as `planes` made them.  features : (B, F) float32.  Returns (B, outputs)."""
        standardised = ((features - self.features_mean) / self.features_spread).clamp(-FARTHEST, FARTHEST)
        return self.head(self.body(images, standardised).float())

    def standardise(self, training_set: TrainingSet) -> None:
        """Take means and spreads from what the network is to be fitted on."""
        features, rows = training_set.inputs.features, training_set.resample.rows
        parts = [rows[start : start + PART] for start in range(0, len(rows), PART)]

        def total(of: Callable[[Tensor], Tensor]) -> Tensor:
            result = torch.zeros(features.shape[1], dtype=torch.float64)  # a list of results would pin freed memory
            for part in parts:
                result += of(torch.from_numpy(features[part]).double())
            return result

        mean = total(lambda values: values.sum(0)) / len(rows)
        spread = (total(lambda values: (values - mean).square().sum(0)) / (len(rows) - 1)).sqrt().float()
        self.features_mean.copy_(mean)  # of a constant column exact, and its spread 0, in float64 alone
        self.features_spread.copy_(spread.where(spread > 0, torch.inf))  # a constant feature counts nothing
        log_scores = torch.from_numpy(training_set.log_scores[rows])
        self.score_mean.copy_(log_scores.mean(0))
        self.score_spread.copy_(log_scores.std(0).clamp(min=1e-6))


class NetworkAttacker:
    """A fitted network.  Subclasses say how it is built, and whether it looks at images.

    One that does sees them mirrored at random while it is fitted, and averages over both while it predicts.
    """

    needs_pixels = False

    def __init__(self, network: Network, options: Any) -> None:
        self.network, self.options = network, options

    @staticmethod
    @abstractmethod
    def build(channels: int, features: int, scores: int, options: Any) -> Network:
        """The network before training."""

    @classmethod
    def fit(cls, training_set: TrainingSet, options: Any, seed: int) -> Self:
        """Train one network on its training set."""
        return cls.fit_together([training_set], options, [seed])[0]

    @classmethod
    def fit_together(cls, training_sets: list[TrainingSet], options: Any, seeds: list[int]) -> list[Self]:
        """Train several networks at once, each as `fit` would by itself."""
        attackers, generators = [], []
        for training_set, seed in zip(training_sets, seeds, strict=True):
            torch.manual_seed(seed)
            channels, features = training_set.inputs.images.shape[1], training_set.inputs.features.shape[1]
            network = cls.build(channels, features, training_set.log_scores.shape[1], options)
            generators.append(torch.Generator().set_state(torch.get_rng_state()))  # goes on from the weights' draws
            network.standardise(training_set)
            attackers.append(cls(network.to(best_device()), options))
        train(attackers, training_sets, generators, options)
        return attackers

    @torch.inference_mode()
    def predict(self, inputs: Inputs) -> Prediction:
        """What the network says of every image, on average over its mirror image where it was fitted on both."""
        self.network.eval()
        device = self.network.score_mean.device
        outputs = []
        for start in range(0, len(inputs), PREDICT_BATCH):
            part = inputs[start : start + PREDICT_BATCH]
            images, features = (torch.tensor(a, device=device) for a in (part.images, part.features))
            with self.precision(device):
                views = [images, images.flip(3)] if self.needs_pixels else [images]
                said = [self.network(self.planes(view), features).float() for view in views]
            outputs.append(torch.stack(said).mean(0).cpu())
        mean, spread = self.network.score_mean.cpu(), self.network.score_spread.cpu()
        return head_prediction(torch.cat(outputs), mean, spread, self.options.head)

    def save(self, folder: Path) -> None:
        """Write network.safetensors."""
        tensors = {name: value.cpu().contiguous() for name, value in self.network.state_dict().items()}
        save_file(tensors, folder / "network.safetensors")

    @classmethod
    def load(cls, folder: Path, options: Any) -> Self:
        """Read what `save` wrote."""
        tensors = load_file(folder / "network.safetensors")
        network = cls.build(cls.channels(tensors), len(tensors["features_mean"]), len(tensors["score_mean"]), options)
        network.load_state_dict(tensors)
        return cls(network, options)

    @staticmethod
    def channels(tensors: dict[str, Tensor]) -> int:
        """The images' channels, read off the weights."""
        return 1

    def standardised(self, training_set: TrainingSet) -> Tensor:
        """The log scores that it is fitted on, (n, S) float64, in units of their mean and spread."""
        log_scores = torch.from_numpy(training_set.log_scores[training_set.resample.rows])
        return (log_scores - self.network.score_mean.cpu()) / self.network.score_spread.cpu()

    def precision(self, device: torch.device) -> torch.autocast:
        """Where outputs are computed as the options say."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.options.precision == "bfloat16")

    @staticmethod
    def planes(images: Tensor) -> Tensor:
        """The network's input planes of images, (B, C, H, W) uint8."""
        return images


class FeaturesBody(nn.Module):
    """Hidden layers on the features; the images are not looked at."""

    def __init__(self, features: int, options: MLPOptions) -> None:
        super().__init__()
        self.layers = hidden_layers(features, options.width, options.depth, options.dropout)

    def forward(self, images: Tensor, features: Tensor) -> Tensor:
        """features : (B, F) standardised.  Returns (B, width)."""
        return self.layers(features)


class MLPAttacker(NetworkAttacker):
    """A fitted MLP."""

    @staticmethod
    def build(channels: int, features: int, scores: int, options: MLPOptions) -> Network:
        """The network before training."""
        return Network(FeaturesBody(features, options), options.width, scores, options.head, features)


VIEWS = 7  # planes made of each channel: itself, three differences, and their logarithms
HIDDEN = 2  # layers above units and features together


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
    """Three residual stages; what each found, averaged over positions, goes on together with the features."""

    def __init__(self, channels: int, features: int, options: ResNetOptions) -> None:
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
        self.units = found
        if options.features:
            self.hidden = hidden_layers(found + features, options.hidden, HIDDEN, options.dropout)
            self.units = options.hidden
        self.features = options.features

    def forward(self, images: Tensor, features: Tensor) -> Tensor:
        """images : (B, VIEWS * C, H, W) of `views`.  features : (B, F) standardised.  Returns (B, units)."""
        x = self.stem(images)
        found = []
        for stage in self.stages:
            x = stage(x)
            active = F.relu(x).float()
            found += [active.mean((2, 3)), torch.log(active.square().mean((2, 3)) + 1e-3)]  # (B, channels) each
        units = self.dropout(self.norm(torch.cat(found, 1)))
        return self.hidden(torch.cat([units, features], 1) if self.features else units)


class ResNetAttacker(NetworkAttacker):
    """A fitted residual network."""

    needs_pixels = True

    @staticmethod
    def build(channels: int, features: int, scores: int, options: ResNetOptions) -> Network:
        """The network before training."""
        body = ImageBody(channels, features, options)
        return Network(body, body.units, scores, options.head, features)

    @staticmethod
    def channels(tensors: dict[str, Tensor]) -> int:
        """The images' channels, read off the weights."""
        return tensors["body.stem.weight"].shape[1] // VIEWS

    @staticmethod
    def planes(images: Tensor) -> Tensor:
        """The network's input planes of images."""
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
