"""A denoiser answers epsilon(x_t, t), whatever the network predicts."""

import copy
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ModelMixin
from diffusers.hooks import apply_group_offloading
from torch import Tensor, nn

from leakgauge.compute import best_device
from leakgauge.diffusion.calls import call_of, channels_of, takes_any_size, token_of
from leakgauge.diffusion.conditioning import UNCONDITIONAL, Captions, Condition, Conditioning, Labels, Use
from leakgauge.diffusion.loading import Autoencoder, open_pipeline
from leakgauge.diffusion.own import OwnNetwork, open_own
from leakgauge.diffusion.process import PREDICTIONS, NoiseProcess, Prediction
from leakgauge.errors import InputError, warn
from leakgauge.options import Precision

PLAIN = Precision(channels_last=False, precision="float32", compile=False)
LOW = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def plain(precision: Precision) -> Precision:
    """Plain float32 that fits where `precision` fits: the network waits in main memory where it must be large."""
    return PLAIN.model_copy(update={"offload": precision.offload or precision.low_weights})


def _memory_format(precision: Precision) -> torch.memory_format:
    return torch.channels_last if precision.channels_last else torch.contiguous_format


class Denoiser:
    """A frozen network that predicts the noise in x_t, in float32, whatever it was trained to predict.

    x_t stands in the space of the diffusion: pixels in [-1, 1], or the latents of an autoencoder (`encode`).  Its
    conditioning is bound beforehand (`with_condition`), so that epsilon(x_t, t) has two arguments.
    """

    def __init__(
        self,
        network: ModelMixin | OwnNetwork,
        process: NoiseProcess,
        device: torch.device,
        prediction: Prediction = PREDICTIONS["epsilon"],
        condition: Condition = UNCONDITIONAL,
        autoencoder: Autoencoder | None = None,
        precision: Precision = PLAIN,
    ) -> None:
        module: Any = network.eval().requires_grad_(False)  # the signature of `to` has no memory_format
        self.network = module.to(memory_format=_memory_format(precision))
        if precision.offload:
            apply_group_offloading(self.network, device, offload_type="leaf_level")
        else:
            self.network.to(device)
        # Every shape is compiled for itself: what came before must not decide the last digits.
        self.call = torch.compile(self.network, dynamic=False) if precision.compile else self.network
        self.form = call_of(network, process.num_train_timesteps)
        self.process = process
        self.device = device
        self.prediction = prediction
        self.condition = condition
        self.autoencoder = autoencoder
        self.precision = precision
        self.inputs: dict[str, Tensor] = {}
        if autoencoder:
            autoencoder.model.to(device)
            autoencoder.tile(precision.tiling)

    @classmethod
    def from_pipeline(
        cls, folder: str | Path, device: torch.device | None = None, precision: Precision = PLAIN
    ) -> "Denoiser":
        """Open a diffusers pipeline folder; see `loading`.  device : by default the GPU, if there is one.

        Raises InputError for a folder that is none, a model this project cannot score, or damaged weights.
        """
        dtype = LOW[precision.precision] if precision.low_weights else torch.float32
        network, process, prediction, condition, autoencoder = open_pipeline(Path(folder), dtype)
        if precision.tiling and not (autoencoder and autoencoder.takes_tiles):
            raise InputError(f"{folder}: has no autoencoder that takes images in tiles: leave `tiling` out")
        return cls(network, process, device or best_device(), prediction, condition, autoencoder, precision)

    @classmethod
    def from_code(cls, folder: Path, device: torch.device | None = None, precision: Precision = PLAIN) -> "Denoiser":
        """Run the code of a model of one's own; see `own`.  Raises InputError."""
        for option in ("low_weights", "tiling", "offload"):
            if getattr(precision, option):
                raise InputError(f"{folder}: {option} is of pipelines; the code of model.py decides it here")
        return cls(*open_own(folder), device or best_device(), precision=precision)

    def check_images(self, folder: Path, channels: int, height: int, width: int) -> None:
        """Raise InputError, naming the target's folder, unless images of this shape are what it was made for."""
        factor = self.factor
        sides = factor * token_of(self.network)
        if height % sides or width % sides:
            raise InputError(
                f"{folder}: takes images whose sides divide by {sides}, "
                f"the dataset has {_shape(channels, height, width)}"
            )
        _, rows, columns = self.x0_shape(height, width)
        colours = self.autoencoder.channels if self.autoencoder else channels_of(self.network)
        expected = (colours, rows * factor, columns * factor)
        if (channels, height, width) != expected:
            raise InputError(
                f"{folder}: takes {_shape(*expected)} images, the dataset has {_shape(channels, height, width)}"
            )

    @torch.inference_mode()
    def check_runs(self, folder: Path, height: int, width: int) -> None:
        """Raise InputError, naming the target's folder, unless the network says finite numbers of an image.

        height, width : of images, for a network that takes any size; 0 where it is unknown: unchecked.
        """
        factor = self.factor
        channels, rows, columns = self.x0_shape(height, width)
        if not rows * columns:
            return
        shape = 1, self.autoencoder.channels if self.autoencoder else channels, rows * factor, columns * factor
        pixels = torch.arange(math.prod(shape)).remainder(256).to(torch.uint8).reshape(shape)
        bound = self.with_condition(self.condition.sample_conditions(1))
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
        """Of one x_0, (C', H', W').  height, width : of images, for a network that was made for no one size; or 0."""
        asked, usual = (height // self.factor, width // self.factor), self.network.config.get("sample_size")
        size = asked if usual is None or (all(asked) and takes_any_size(self.network)) else usual
        return (channels_of(self.network), *((size, size) if isinstance(size, int) else size))

    def conditioning_of(self, labels: Labels, captions: Captions, use: Use) -> Conditioning:
        """The conditioning of N images, to be sliced as they are.  Raises InputError."""
        return self.condition.conditioning(labels, captions, use)

    def with_condition(self, conditioning: Conditioning) -> "Denoiser":
        """The same denoiser, bound to the conditioning of a batch."""
        bound = copy.copy(self)
        bound.inputs = {name: value.to(self.device) for name, value in self.condition.inputs(conditioning).items()}
        return bound

    def eager(self) -> "Denoiser":
        """The same denoiser, not compiled."""
        twin = copy.copy(self)
        twin.call = self.network
        return twin

    def encode(self, pixels: Tensor | np.ndarray) -> Tensor:
        """x_0 from images.  pixels : (B, C, H, W) uint8.  Returns (B, C', H', W') float32."""
        x = to_unit_range(torch.as_tensor(pixels).to(self.device))
        self._set_tf32()
        x0 = self.autoencoder.encode(x) if self.autoencoder else x
        return x0.contiguous(memory_format=_memory_format(self.precision))

    def decode(self, x0: Tensor) -> Tensor:
        """Images in [-1, 1] from x_0, (B, C, H, W) float32."""
        self._set_tf32()
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

    def _set_tf32(self) -> None:
        """Whether products take tf32 is set for the whole process, where another denoiser may have set it."""
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.precision.precision == "tf32"

    def _size(self, x: Tensor) -> tuple[int, int]:
        """Height and width of the images in pixels.  x : (B, C, H, W) of the diffusion."""
        return x.shape[-2] * self.factor, x.shape[-1] * self.factor

    @property
    def factor(self) -> int:
        """Pixels a side that make one number of x_0."""
        return self.autoencoder.factor if self.autoencoder else 1

    def _levels(self, t: int) -> tuple[float, float]:
        return self.process.alpha[t].item(), self.process.sigma[t].item()

    def _output(self, x: Tensor, t: int) -> Tensor:
        """What the network says of x_t, of x's shape; a learned variance, behind it, is left out."""
        time = torch.full((len(x),), self.process.time(t), device=self.device)
        scaled = self.prediction.scale(self.process.sigma[t].item()) * x
        low, inputs = LOW.get(self.precision.precision), self.inputs
        self._set_tf32()
        if low and self.precision.low_weights:  # as pipelines run: all in one type
            scaled, inputs = scaled.to(low), {name: _to_low(value, low) for name, value in inputs.items()}
            low = None
        with torch.autocast(self.device.type, low) if low else nullcontext():
            return self.form(self.call, scaled, time, inputs, self._size(x))[:, : x.shape[1]].float()


def open_taken(made: Path, source: Path | str, shape: tuple[int, ...], run_code: bool = False) -> Denoiser:
    """A model that was taken from elsewhere, once it is clear that it can be scored and takes these images.

    made : the pipeline folder; with run_code that of a model of one's own.  source : what errors name.  shape :
    (N, C, H, W) of the images.  Raises InputError.
    """
    try:
        try:
            denoiser = _that_runs(made, source, shape, run_code, PLAIN)
        except torch.OutOfMemoryError:  # of a GPU, which its layers enter one by one then
            denoiser = _that_runs(made, source, shape, run_code, PLAIN.model_copy(update={"offload": True}))
    except InputError as error:
        raise InputError(str(error).replace(str(made), str(source))) from None
    if shape[0] and (usual := denoiser.x0_shape(0, 0))[1] and denoiser.x0_shape(*shape[2:]) != usual:
        warn(
            f"{source}: makes images of {usual[2] * denoiser.factor}x{usual[1] * denoiser.factor}, these are "
            f"{shape[3]}x{shape[2]}: if it was trained on another size than theirs, set the dataset's `size` to it"
        )
    return denoiser


def _that_runs(
    made: Path, source: Path | str, shape: tuple[int, ...], run_code: bool, precision: Precision
) -> Denoiser:
    denoiser = (Denoiser.from_code if run_code else Denoiser.from_pipeline)(made, best_device(), precision)
    if shape[0]:
        denoiser.check_images(Path(source), *shape[1:])
    denoiser.check_runs(Path(source), *shape[2:])
    return denoiser


def _to_low(value: Tensor, low: torch.dtype) -> Tensor:
    """Numbers in `low`; classes and masks as they are."""
    return value.to(low) if value.is_floating_point() else value


def to_unit_range(pixels: Tensor) -> Tensor:
    """uint8 pixels to float32 in [-1, 1], as diffusion models are trained."""
    return pixels.float() / 127.5 - 1.0


def _shape(channels: int, height: int, width: int) -> str:
    return f"{width}x{height} {channels}-channel"


def untrained(target: Denoiser, seed: int) -> Denoiser:
    """The target's process, prediction, condition and autoencoder, with a network that has learnt nothing.

    It runs in plain float32.
    """
    network, process, device = reinitialised(target.network, seed), target.process, target.device
    precision = plain(target.precision).model_copy(update={"tiling": target.precision.tiling})  # one autoencoder
    return Denoiser(
        network, process, device, target.prediction, target.condition, target.autoencoder, precision=precision
    )


def reinitialised(network: ModelMixin | OwnNetwork, seed: int) -> ModelMixin | OwnNetwork:
    """A network of the same configuration on the CPU, its weights drawn by the seed as its layers draw them.

    A weight that its layer sets to zero, as the last one of many networks, is drawn like that of any other layer: the
    network would return a constant else.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(network, OwnNetwork):
            return network.reinitialised()
        fresh = type(network).from_config(network.config)
        for weight in fresh.parameters():
            if weight.ndim > 1 and not weight.any():
                nn.init.kaiming_uniform_(weight, a=5**0.5)  # as nn.Linear and nn.Conv2d do
    return fresh
