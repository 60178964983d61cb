"""The target as the attacks see it: epsilon(x_t, t) and the noise process it was trained on."""

from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor

from stages.command import InputError
from stages.diffusion.process import NoiseProcess


class Denoiser:
    """A frozen UNet that predicts the noise in x_t, in float32."""

    def __init__(self, unet: UNet2DModel, process: NoiseProcess, device: torch.device) -> None:
        self.unet = unet.to(device).eval().requires_grad_(False)
        self.process = process
        self.device = device

    @classmethod
    def from_pipeline(cls, folder: Path, device: torch.device) -> "Denoiser":
        """Open a diffusers pipeline folder (`unet/`, `scheduler/`, safetensors only).

        Raises InputError for a folder that is none, another prediction type, or weights that are not finite.
        """
        try:
            unet = UNet2DModel.from_pretrained(
                folder,
                subfolder="unet",
                use_safetensors=True,
                local_files_only=True,
                low_cpu_mem_usage=False,
                torch_dtype=torch.float32,
            )
            scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler", local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{folder}: not a diffusers pipeline folder with unet/ and scheduler/: {error}") from None
        if scheduler.config.prediction_type != "epsilon":
            found = scheduler.config.prediction_type
            raise InputError(f"{folder}/scheduler: prediction_type is '{found}'; only 'epsilon' is supported")
        for name, weight in unet.named_parameters():
            if not torch.isfinite(weight).all():
                raise InputError(f"{folder}/unet: weights are not finite (NaN or inf in '{name}')")
        return cls(unet, NoiseProcess.from_scheduler(scheduler), device)

    def check_images(self, channels: int, height: int, width: int) -> None:
        """Raise InputError unless images of this shape are what the target was made for."""
        size = self.unet.config.sample_size
        expected = (self.unet.config.in_channels, *((size, size) if isinstance(size, int) else size or (height, width)))
        if (channels, height, width) != expected:
            raise InputError(
                f"the target takes {_shape(*expected)} images, the dataset has {_shape(channels, height, width)}"
            )

    def epsilon(self, x: Tensor, t: int) -> Tensor:
        """The predicted noise.  x : (B, C, H, W) float32; returns the same shape."""
        return self.unet(x, t).sample

    def ddim(self, x: Tensor, epsilon: Tensor, start: int, end: int) -> Tensor:
        """A deterministic move from timestep `start` to `end`; see NoiseProcess.ddim."""
        return self.process.ddim(x, epsilon, start, end)


def to_unit_range(pixels: Tensor) -> Tensor:
    """uint8 pixels to float32 in [-1, 1], as diffusion models are trained."""
    return pixels.float() / 127.5 - 1.0


def best_device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _shape(channels: int, height: int, width: int) -> str:
    return f"{width}x{height} {channels}-channel"
