"""The target as the attacks see it: epsilon(x_t, t) and the noise process it was trained on."""

import copy
import math
from pathlib import Path

import torch
from diffusers import ModelMixin
from torch import Tensor

from stages.command import InputError
from stages.diffusion.conditions import UNCONDITIONAL, Captions, Condition, Labels, Told, Use
from stages.diffusion.latent import Autoencoder
from stages.diffusion.opening import open_pipeline
from stages.diffusion.prediction import PREDICTIONS, Prediction
from stages.diffusion.process import NoiseProcess
from stages.diffusion.shortcuts import PLAIN, Shortcuts


class Denoiser:
    """A frozen network that tells the noise in x_t, in float32, whatever it was trained to predict.

    x_t stands in the space of the diffusion: pixels in [-1, 1], or the latents of an autoencoder (`encode`).  What the
    network is told beside x_t and t is bound beforehand (`given`), so that epsilon(x_t, t) has two arguments.
    """

    def __init__(
        self,
        network: ModelMixin,
        process: NoiseProcess,
        device: torch.device,
        prediction: Prediction = PREDICTIONS["epsilon"],
        condition: Condition = UNCONDITIONAL,
        autoencoder: Autoencoder | None = None,
        shortcuts: Shortcuts = PLAIN,
    ) -> None:
        self.network = shortcuts.prepare(network.to(device).eval().requires_grad_(False))
        self.call = shortcuts.compiled(self.network)
        self.process = process
        self.device = device
        self.prediction = prediction
        self.condition = condition
        self.autoencoder = autoencoder
        self.shortcuts = shortcuts
        self.inputs: dict[str, Tensor] = {}
        if autoencoder:
            autoencoder.model.to(device)

    @classmethod
    def from_pipeline(cls, folder: Path, device: torch.device, shortcuts: Shortcuts = PLAIN) -> "Denoiser":
        """Open a diffusers pipeline folder; see `opening`.

        Raises InputError for a folder that is none, a model this project cannot score, or damaged weights.
        """
        network, process, prediction, condition, autoencoder = open_pipeline(folder)
        return cls(network, process, device, prediction, condition, autoencoder, shortcuts)

    def check_images(self, folder: Path, channels: int, height: int, width: int) -> None:
        """Raise InputError, naming the target's folder, unless images of this shape are what it was made for."""
        factor = self.autoencoder.factor if self.autoencoder else 1
        if height % factor or width % factor:
            raise InputError(
                f"{folder}: its autoencoder takes images whose sides divide by {factor}, "
                f"the dataset has {_shape(channels, height, width)}"
            )
        _, rows, columns = self.x0_shape(height, width)
        colours = self.autoencoder.channels if self.autoencoder else self.network.config.in_channels
        expected = (colours, rows * factor, columns * factor)
        if (channels, height, width) != expected:
            raise InputError(
                f"{folder}: takes {_shape(*expected)} images, the dataset has {_shape(channels, height, width)}"
            )

    @torch.inference_mode()
    def check_runs(self, folder: Path, height: int, width: int) -> None:
        """Raise InputError, naming the target's folder, unless the network says finite numbers of an image.

        height, width : of images, for a network that was made for no one size; 0 where nothing tells it: unchecked.
        """
        factor = self.autoencoder.factor if self.autoencoder else 1
        channels, rows, columns = self.x0_shape(height, width)
        if not rows * columns:
            return
        shape = 1, self.autoencoder.channels if self.autoencoder else channels, rows * factor, columns * factor
        pixels = torch.arange(math.prod(shape)).remainder(256).to(torch.uint8).reshape(shape)
        bound = self.given(self.condition.in_turn(1))
        try:
            x0 = bound.encode(pixels)
            noise = [bound.epsilon(x0, t) for t in (0, self.process.num_train_timesteps - 1)]
            bound.decode(x0)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a configuration that makes no sense raises nearly anything
            raise InputError(
                f"{folder}: the network does not run as it is configured: {type(error).__name__}: {error}"
            ) from None
        if not all(one.shape == x0.shape and torch.isfinite(one).all() for one in noise):
            raise InputError(f"{folder}: what the network says is not finite, or not of the shape of an image")

    def x0_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Of one x_0, (C', H', W').  height, width : of images, for a network that was made for no one size."""
        factor, config = self.autoencoder.factor if self.autoencoder else 1, self.network.config
        size = config.sample_size or (height // factor, width // factor)
        return (config.in_channels, *((size, size) if isinstance(size, int) else size))

    def told_of(self, labels: Labels, captions: Captions, use: Use) -> Told:
        """What the network is told of each of N images, or of any slice of them.  Raises InputError."""
        return self.condition.told(labels, captions, use)

    def given(self, told: Told) -> "Denoiser":
        """The same denoiser, bound to what the network is told of a batch."""
        bound = copy.copy(self)
        bound.inputs = {name: value.to(self.device) for name, value in self.condition.inputs(told).items()}
        return bound

    def eager(self) -> "Denoiser":
        """The same denoiser, not compiled."""
        twin = copy.copy(self)
        twin.call = self.network
        return twin

    def encode(self, pixels: Tensor) -> Tensor:
        """x_0 from images.  pixels : (B, C, H, W) uint8.  Returns (B, C', H', W') float32."""
        x = to_unit_range(pixels.to(self.device))
        return self.shortcuts.arrange(self.autoencoder.encode(x) if self.autoencoder else x)

    def decode(self, x0: Tensor) -> Tensor:
        """Images in [-1, 1] from x_0, (B, C, H, W) float32."""
        return (self.autoencoder.decode(x0) if self.autoencoder else x0).clamp(-1, 1)

    def epsilon(self, x: Tensor, t: int) -> Tensor:
        """The predicted noise.  x : (B, C, H, W) float32; returns the same shape."""
        return self.prediction.epsilon(x, self._output(x, t), *self._levels(t))

    def x0(self, x: Tensor, epsilon: Tensor, t: int) -> Tensor:
        """The predicted x_0.  x, epsilon : (B, C, H, W) float32, `epsilon` = epsilon(x, t).

        Where no signal is left, epsilon does not tell it: the network is asked once more.
        """
        alpha, sigma = self._levels(t)
        if alpha == 0 and self.prediction.x0:
            return self.prediction.x0(x, self._output(x, t), alpha, sigma)
        return self.process.x0(x, epsilon, t)

    def ddim(self, x: Tensor, epsilon: Tensor, start: int, end: int) -> Tensor:
        """A deterministic move from timestep `start` to `end`; see NoiseProcess.ddim."""
        return self.process.add_noise(self.x0(x, epsilon, start), epsilon, end)

    def _levels(self, t: int) -> tuple[float, float]:
        return self.process.alpha[t].item(), self.process.sigma[t].item()

    def _output(self, x: Tensor, t: int) -> Tensor:
        """What the network says of x_t, of x's shape; a learned variance, behind it, is left out."""
        time = torch.full((len(x),), self.process.time(t), device=self.device)
        scaled = self.prediction.scale(self.process.sigma[t].item()) * x
        with self.shortcuts.autocast(self.device):
            return self.call(scaled, timestep=time, **self.inputs).sample[:, : x.shape[1]].float()


def to_unit_range(pixels: Tensor) -> Tensor:
    """uint8 pixels to float32 in [-1, 1], as diffusion models are trained."""
    return pixels.float() / 127.5 - 1.0


def _shape(channels: int, height: int, width: int) -> str:
    return f"{width}x{height} {channels}-channel"
