"""Open a diffusers pipeline: its network, process, autoencoder and conditioning, from its configuration.

The autoencoder of a latent diffusion model: images to what the diffusion runs on, always the same way.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022, Sec. 3.1.

From a diffusers pipeline folder to its parts, read by diffusers' own classes, with every check.

Only folders that are named here are opened and only classes that are named here are made; weights are safetensors. A
pipeline's safety checker is never loaded. Whatever a configuration says, what comes back is a model or an
InputError.
"""

import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
from diffusers import AutoencoderDC, AutoencoderKL, ConfigMixin, ModelMixin, SchedulerMixin
from safetensors import safe_open
from torch import Tensor, nn

from leakgauge.diffusion.calls import channels_of, returned_of
from leakgauge.diffusion.conditioning import UNCONDITIONAL, ByClass, Condition
from leakgauge.diffusion.process import NoiseProcess, Prediction, prediction_of
from leakgauge.diffusion.texts import open_text
from leakgauge.errors import InputError


class Autoencoder:
    """A frozen autoencoder, in float32."""

    def __init__(self, model: ModelMixin) -> None:
        self.model = model.eval().requires_grad_(False)

    @property
    def factor(self) -> int:
        """Pixels a side that make one latent."""
        config = self.model.config
        return 2 ** (len(config.get("encoder_block_out_channels") or config.block_out_channels) - 1)

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.model.config.in_channels

    @property
    def latent_channels(self) -> int:
        """Channels of its latents."""
        config = self.model.config
        return getattr(config, "vq_embed_dim", None) or config.latent_channels  # the former: the codebook's, VQ only

    @property
    def takes_tiles(self) -> bool:
        """Whether it can take an image in tiles."""
        return hasattr(self.model, "use_tiling")

    def tile(self, tiling: bool) -> None:
        """From now on, images larger than it was made for are taken in tiles, or are not."""
        if self.takes_tiles:
            self.model.use_tiling = tiling

    def encode(self, x: Tensor) -> Tensor:
        """The latents of images: of a KL autoencoder the mode, of a VQ one what comes before quantisation.

        x : (B, C, H, W) float32 in [-1, 1].  Returns (B, latent channels, H / factor, W / factor), scaled as the
        diffusion was trained on it.
        """
        encoded = self.model.encode(x)
        if isinstance(self.model, AutoencoderKL):
            latents = encoded.latent_dist.mode()
        else:
            latents = encoded.latent if isinstance(self.model, AutoencoderDC) else encoded.latents
        shift, scale = self._shift_and_scale(x.device)
        return scale * (latents - shift)

    def decode(self, latents: Tensor) -> Tensor:
        """Images from latents, the inverse of `encode` as far as there is one."""
        shift, scale = self._shift_and_scale(latents.device)
        return self.model.decode(latents / scale + shift).sample

    def _shift_and_scale(self, device: torch.device) -> tuple[float | Tensor, float | Tensor]:
        """Numbers, or (C, 1, 1) where each channel has a mean and a spread of its own (`StableDiffusionXLPipeline`)."""
        config = self.model.config
        shift, scale = config.get("shift_factor") or 0.0, config.scaling_factor
        if config.get("latents_mean") is None:
            return shift, scale
        mean, spread = (torch.tensor(config[name], device=device).reshape(-1, 1, 1) for name in STATISTICS)
        return shift + mean, scale / spread


STATISTICS = ("latents_mean", "latents_std")
NETWORKS = (
    *("UNet2DModel", "UNet2DConditionModel", "DiTTransformer2DModel"),
    *("PixArtTransformer2DModel", "SD3Transformer2DModel", "FluxTransformer2DModel", "ChromaTransformer2DModel"),
    *("HunyuanDiT2DModel", "SanaTransformer2DModel", "Lumina2Transformer2DModel"),
)
AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "VQModel")
SCHEDULERS = (
    *("DDPMScheduler", "DDPMParallelScheduler"),  # of the variance-preserving process with discrete betas
    *("DDIMScheduler", "DDIMParallelScheduler", "DDIMInverseScheduler", "PNDMScheduler", "DEISMultistepScheduler"),
    *("DPMSolverMultistepScheduler", "DPMSolverMultistepInverseScheduler", "DPMSolverSinglestepScheduler"),
    *("UniPCMultistepScheduler", "SASolverScheduler", "LMSDiscreteScheduler", "HeunDiscreteScheduler"),
    *("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"),
    *("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "LCMScheduler", "TCDScheduler"),
    *("RePaintScheduler", "UnCLIPScheduler"),
    *("ScoreSdeVeScheduler", "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"),
    *("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler"),
)
MOST_TIMESTEPS = 100_000
SCHEDULER = "scheduler/scheduler_config.json"
OF_PROCESS = (  # options of schedulers that decide scores; the others are of sampling
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr"),
    *("prediction_type", "variance_type", "sigma_min", "sigma_max", "sigma_data", "sigma_schedule", "rho", "shift"),
    *("use_flow_sigmas", "flow_shift"),
)
# Those whose variance is learned, whatever their scheduler says.
LEARNED_VARIANCE = ("DiTTransformer2DModel", "PixArtTransformer2DModel", "HunyuanDiT2DModel", "SanaTransformer2DModel")
OTHER_INPUTS = {  # channels of latents, and those beside them -> what the network is for
    (4, 1): "depth to image",
    (4, 3): "upscaling",
    (4, 4): "instruct-pix2pix or another editing network",
    (4, 5): "inpainting",
    (16, 17): "inpainting",
}


class Parts(NamedTuple):
    """What a denoiser is made of."""

    network: ModelMixin
    process: NoiseProcess
    prediction: Prediction
    condition: Condition
    autoencoder: Autoencoder | None


def open_pipeline(folder: Path, dtype: torch.dtype = torch.float32) -> Parts:
    """The parts of the pipeline in `folder`: `scheduler/`, `unet/` or `transformer/`, and what else it has.

    dtype : of the network's weights; those of the other parts are float32.  Raises InputError for a folder that is no
    pipeline, a model this project cannot score, a configuration that makes no sense, or damaged weights.
    """
    try:
        return _open(folder, dtype)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a configuration that makes no sense raises nearly anything
        raise InputError(f"{folder}: cannot be opened as it is configured: {_said(error)}") from None


def filled_in(folder: Path) -> dict[str, Any]:
    """The values that diffusers fills in where a pipeline's configurations name none: `part.option` -> value.

    Of networks and autoencoders all but what is switched off (None, False), of the scheduler what decides scores.
    """
    values: dict[str, Any] = {}
    for part in ("unet", "transformer", "vae", "vqvae", "scheduler"):
        file = folder / (SCHEDULER if part == "scheduler" else f"{part}/config.json")
        if not file.is_file():
            continue
        config = json.loads(file.read_text(encoding="utf-8"))
        for name, option in inspect.signature(getattr(diffusers, config["_class_name"]).__init__).parameters.items():
            counts = name in OF_PROCESS if part == "scheduler" else True
            if counts and name not in config and option.default not in (option.empty, None, False):
                values[f"{part}.{name}"] = option.default
    return values


def _open(folder: Path, dtype: torch.dtype) -> Parts:
    network = _model(folder, "transformer" if (folder / "transformer").is_dir() else "unet", NETWORKS, dtype)
    scheduler = _scheduler(folder)
    autoencoders = [_model(folder, name, AUTOENCODERS) for name in ("vae", "vqvae") if (folder / name).is_dir()]
    autoencoder = Autoencoder(autoencoders[0]) if autoencoders else None
    prediction, process = prediction_of(scheduler), NoiseProcess.from_scheduler(scheduler)
    if problem := process.problem():
        raise InputError(f"{folder}: {SCHEDULER}: {problem}")
    if prediction is None:
        raise InputError(
            f"{folder}: prediction_type is '{scheduler.config.prediction_type}'; supported are epsilon, v_prediction "
            "(not with use_flow_sigmas), sample (not of EDM) and flow_prediction (with use_flow_sigmas)"
        )
    if problem := _channels_problem(network, scheduler, autoencoder):
        raise InputError(f"{folder}: {problem}")
    if not prediction.x0:
        process = process.with_signal()  # where alpha is 0, x_0 is unknown: the grid ends before it
    return Parts(network, process, prediction, _condition(folder, network), autoencoder)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _config(folder: Path, file: str, known: tuple[str, ...]) -> dict[str, Any]:
    """A part's configuration.  Raises InputError unless it names one of the known classes."""
    try:
        config = json.loads((folder / file).read_text(encoding="utf-8"))
        name = config["_class_name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{folder}: not a diffusers pipeline folder with unet/ and scheduler/: {file}: {_said(error)}"
        ) from None
    if name not in known:
        raise InputError(f"{folder}: {Path(file).parent} is a {name}; supported are {', '.join(known)}")
    return config


def _model(folder: Path, name: str, known: tuple[str, ...], dtype: torch.dtype = torch.float32) -> ModelMixin:
    """A network of the pipeline, with every weight it should have and no other."""
    config = _config(folder, f"{name}/config.json", known)
    kind = getattr(diffusers, config["_class_name"])
    if problem := _numbers_problem(config, autoencoder=known is AUTOENCODERS):
        raise InputError(f"{folder}: {name}/config.json: {problem}")
    try:
        if problem := _size_problem(folder / name, kind, config):
            raise InputError(f"{folder}: {name}/config.json: {problem}")
        model, loading = kind.from_pretrained(
            folder,
            subfolder=name,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            torch_dtype=torch.float32,
            output_loading_info=True,
        )
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a configuration that makes no sense raises nearly anything
        raise InputError(f"{folder}: not a diffusers pipeline folder: {name}: {_said(error)}") from None
    nn.Module.to(model, dtype)  # its own `to` warns of what diffusers would keep in float32: nothing of these networks
    if problem := _weights_problem(name, model, loading):
        raise InputError(f"{folder}: {problem}")
    return model


def _numbers_problem(config: dict[str, Any], autoencoder: bool) -> str | None:
    """What is wrong with options that no fit of the weights to the network would tell."""
    size = config.get("sample_size")
    sides: list[Any] = size if isinstance(size, list) and len(size) == 2 else [size]
    if size is not None and not all(_is_number(side, int) and side > 0 for side in sides):
        return f"sample_size is {size!r}, expected one or two sides in pixels"
    if not autoencoder:
        return None
    if "scaling_factor" not in config:
        default = (
            inspect.signature(getattr(diffusers, config["_class_name"]).__init__).parameters["scaling_factor"].default
        )
        return (
            f"has no scaling_factor, and diffusers would take {default}: add the factor by which the latents were "
            "multiplied in training (of Stable Diffusion 1 and 2: 0.18215; of latents that were not scaled: 1.0)"
        )
    scale = config["scaling_factor"]
    if not (_is_number(scale) and scale > 0):
        return f"scaling_factor is {scale!r}, expected a positive number"
    statistics = [config.get(name) for name in STATISTICS]
    if any(statistics) and not all(_are_numbers(values, config.get("latent_channels")) for values in statistics):
        return (
            f"latents_mean and latents_std are {statistics}, expected a number for each channel of the latents, or none"
        )
    if config.get("shift_factor") is not None and not _is_number(config["shift_factor"]):
        return f"shift_factor is {config['shift_factor']!r}, expected a number"
    return None


def _is_number(value: Any, kind: type = float) -> bool:
    """Whether a value of JSON is a finite number; of kind int, a whole one."""
    kinds = (int,) if kind is int else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)


def _are_numbers(values: Any, count: Any) -> bool:
    """Whether a value of JSON is a list of so many finite numbers."""
    return isinstance(values, list) and len(values) == count and all(_is_number(value) for value in values)


def _size_problem(part: Path, kind: type[ModelMixin], config: dict[str, Any]) -> str | None:
    """Why a network as configured is larger than its weights: it is not made then, for it might not end, or fit."""
    shapes: list[list[int]] = []
    for file in sorted(part.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            shapes += [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118, it's no dict
    for name, value in config.items():
        if "layers" in name and _largest(value) > len(shapes):
            return f"{name} is {value}, more than the {len(shapes)} arrays of weights"
    with torch.device("meta"):
        model = kind.from_config(config)
    asked = sum(numbers.numel() for numbers in (*model.parameters(), *model.buffers()))
    held = sum(math.prod(shape) for shape in shapes)
    return f"asks for {asked} weights, there are {held}" if asked > 2 * held else None


def _largest(value: Any) -> float:
    """The largest number in a value of JSON, which may be nested; 0 if there is none."""
    if isinstance(value, Mapping | list):
        parts = value.values() if isinstance(value, Mapping) else value
        return max(map(_largest, parts), default=0)
    return abs(value) if isinstance(value, int | float) else 0


def _weights_problem(name: str, model: ModelMixin, loading: dict[str, Any]) -> str | None:
    """What is wrong with the weights: diffusers fills what is missing with anything at all."""
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loading[kind]:
            return f"{name} weights do not fit {name}/config.json: {kind.replace('_', ' ')}: {sorted(loading[kind])[0]}"
    for weight_name, weight in (*model.named_parameters(), *model.named_buffers()):
        if not torch.isfinite(weight).all():
            low = "" if weight.dtype == torch.float32 else f", as {str(weight.dtype)[6:]}"
            return f"{name} weights are not finite (NaN or inf in '{weight_name}'{low})"
    return None


def _scheduler(folder: Path) -> SchedulerMixin:
    config = _config(folder, SCHEDULER, SCHEDULERS)
    kind: type[ConfigMixin] = getattr(diffusers, config["_class_name"])
    count = config.get("num_train_timesteps", 1000)
    if not (_is_number(count, int) and 0 < count <= MOST_TIMESTEPS):
        raise InputError(f"{folder}: {SCHEDULER}: num_train_timesteps is {count!r}, expected 1 to {MOST_TIMESTEPS}")
    try:
        scheduler = kind.from_pretrained(folder, subfolder="scheduler", local_files_only=True)
    except Exception as error:  # a configuration that makes no sense raises nearly anything
        raise InputError(f"{folder}: {SCHEDULER}: {_said(error)}") from None
    config = scheduler.config
    for option, value in {"timestep_type": "continuous", "invert_sigmas": True}.items():
        if config.get(option) == value:
            raise InputError(f"{folder}: {SCHEDULER}: {option} is {value}, which is not supported")
    return scheduler


def _channels_problem(network: ModelMixin, scheduler: SchedulerMixin, autoencoder: Autoencoder | None) -> str | None:
    """Why what goes into the network or what comes out of it cannot be understood."""
    enters, leaves = channels_of(network), returned_of(network)
    latents = autoencoder.latent_channels if autoencoder else leaves
    if enters > latents and leaves in (latents, 2 * latents):
        purpose = OTHER_INPUTS.get((latents, enters - latents), "inpainting, editing, super-resolution or the like")
        return (
            f"the network takes {enters} channels, {enters - latents} more than the "
            f"{'latents' if autoencoder else 'images'} have: those of another image ({purpose}), and a network that is "
            "conditional on another image is not supported"
        )
    if autoencoder and enters != latents:
        return f"the network takes {enters} channels, the latents have {latents}"
    learned = str(scheduler.config.get("variance_type")).startswith("learned")
    if leaves == 2 * enters and (learned or type(network).__name__ in LEARNED_VARIANCE):
        return None  # epsilon in the first half, a variance in the second
    if leaves != enters:
        return (
            f"the network returns {leaves} channels for {enters}: a learned variance? "
            "Then the scheduler's variance_type must be learned or learned_range"
        )
    return None


def _condition(folder: Path, network: ModelMixin) -> Condition:
    """The network's conditioning."""
    config, name = network.config, type(network).__name__
    for option in ("class_embed_type", "addition_embed_type", "encoder_hid_dim_type"):
        if config.get(option) and config[option] != "text_time":  # the last is SDXL's
            raise InputError(f"{folder}: the network has {option} '{config[option]}', which is not supported")
    if config.get("time_cond_proj_dim") or (name == "SanaTransformer2DModel" and config.guidance_embeds):
        raise InputError(
            f"{folder}: the network is conditional on a guidance scale (time_cond_proj_dim or guidance_embeds: "
            "a latent consistency model, Sana Sprint), which is not supported"
        )
    if name == "DiTTransformer2DModel":
        return ByClass(config.num_embeds_ada_norm, null=config.num_embeds_ada_norm)
    if name == "UNet2DConditionModel" and config.num_class_embeds:
        raise InputError(f"{folder}: the network is conditional on text and on classes, which is not supported")
    if name != "UNet2DModel":
        return open_text(folder, network)
    return ByClass(config.num_class_embeds, config.num_class_embeds - 1) if config.num_class_embeds else UNCONDITIONAL
