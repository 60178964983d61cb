"""The target as the attacks see it: epsilon(x_t, t) and the noise process it was trained on."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors import SafetensorError
from torch import Tensor

from stages.command import InputError
from stages.diffusion.process import NoiseProcess

SCHEDULERS = ("DDPMScheduler", "DDIMScheduler")  # of the variance-preserving process with discrete betas


class Denoiser:
    """A frozen UNet that predicts the noise in x_t, in float32."""

    def __init__(self, unet: UNet2DModel, process: NoiseProcess, device: torch.device) -> None:
        self.unet = unet.to(device).eval().requires_grad_(False)
        self.process = process
        self.device = device

    @classmethod
    def from_pipeline(cls, folder: Path, device: torch.device) -> "Denoiser":
        """Open a diffusers pipeline folder (`unet/`, `scheduler/`, safetensors only).

        Raises InputError for a folder that is none, a model this project cannot score, or damaged weights.
        """
        try:
            unet, loading = UNet2DModel.from_pretrained(
                folder,
                subfolder="unet",
                use_safetensors=True,
                local_files_only=True,
                low_cpu_mem_usage=False,
                torch_dtype=torch.float32,
                output_loading_info=True,
            )
            scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler", local_files_only=True)
            trained_with = DDPMScheduler.load_config(folder, subfolder="scheduler", local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise InputError(f"{folder}: not a diffusers pipeline folder with unet/ and scheduler/: {error}") from None
        if problem := _weights_problem(unet, loading) or _model_problem(unet, scheduler, trained_with["_class_name"]):
            raise InputError(f"{folder}: {problem}")
        return cls(unet, NoiseProcess.from_scheduler(scheduler), device)

    def check_images(self, folder: Path, channels: int, height: int, width: int) -> None:
        """Raise InputError, naming the target's folder, unless images of this shape are what it was made for."""
        size = self.unet.config.sample_size
        expected = (self.unet.config.in_channels, *((size, size) if isinstance(size, int) else size or (height, width)))
        if (channels, height, width) != expected:
            raise InputError(
                f"{folder}: takes {_shape(*expected)} images, the dataset has {_shape(channels, height, width)}"
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


def _weights_problem(unet: UNet2DModel, loading: dict[str, Any]) -> str | None:
    """What is wrong with the weights: diffusers fills what is missing with anything at all."""
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loading[kind]:
            return f"unet weights do not fit unet/config.json: {kind.replace('_', ' ')}: {sorted(loading[kind])[0]}"
    for name, weight in unet.named_parameters():
        if not torch.isfinite(weight).all():
            return f"weights are not finite (NaN or inf in '{name}')"
    return None


def _model_problem(unet: UNet2DModel, scheduler: DDPMScheduler, trained_with: str) -> str | None:
    """Why this is no model that can be scored."""
    if trained_with not in SCHEDULERS:
        return f"scheduler is a {trained_with}; supported are {', '.join(SCHEDULERS)}"
    if scheduler.config.prediction_type != "epsilon":
        return f"prediction_type is '{scheduler.config.prediction_type}'; only 'epsilon' is supported"
    if unet.config.out_channels != unet.config.in_channels:
        return (
            f"the unet returns {unet.config.out_channels} channels for {unet.config.in_channels}: a learned variance?"
        )
    if unet.config.class_embed_type or unet.config.num_class_embeds:
        return "the unet is class-conditional; only unconditional ones are supported"
    return None


def _shape(channels: int, height: int, width: int) -> str:
    return f"{width}x{height} {channels}-channel"
