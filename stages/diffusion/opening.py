"""From a diffusers pipeline folder to its parts, read by diffusers' own classes, with every check.

Only folders that are named here are opened and only classes that are named here are made; weights are safetensors.  A
pipeline's safety checker is never loaded.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
from diffusers import ConfigMixin, ModelMixin, SchedulerMixin
from safetensors import SafetensorError

from stages.command import InputError
from stages.diffusion.conditions import UNCONDITIONAL, ByClass, Condition, open_text
from stages.diffusion.latent import Autoencoder
from stages.diffusion.prediction import Prediction, prediction_of
from stages.diffusion.process import NoiseProcess

NETWORKS = ("UNet2DModel", "UNet2DConditionModel", "DiTTransformer2DModel")
AUTOENCODERS = ("AutoencoderKL", "VQModel")
SCHEDULERS = (
    *("DDPMScheduler", "DDIMScheduler", "PNDMScheduler"),  # of the variance-preserving process with discrete betas
    *("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"),
    *("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler"),
    *("ScoreSdeVeScheduler", "EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler"),
)
DAMAGED = (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, SafetensorError)


class Parts(NamedTuple):
    """What a denoiser is made of."""

    network: ModelMixin
    process: NoiseProcess
    prediction: Prediction
    condition: Condition
    autoencoder: Autoencoder | None


def open_pipeline(folder: Path) -> Parts:
    """The parts of the pipeline in `folder`: `scheduler/`, `unet/` or `transformer/`, and what else it has.

    Raises InputError for a folder that is no pipeline, a model this project cannot score, or damaged weights.
    """
    network = _model(folder, "transformer" if (folder / "transformer").is_dir() else "unet", NETWORKS)
    scheduler = _scheduler(folder)
    autoencoders = [_model(folder, name, AUTOENCODERS) for name in ("vae", "vqvae") if (folder / name).is_dir()]
    autoencoder = Autoencoder(autoencoders[0]) if autoencoders else None
    prediction, process = prediction_of(scheduler), NoiseProcess.from_scheduler(scheduler)
    if prediction is None:
        raise InputError(
            f"{folder}: prediction_type is '{scheduler.config.prediction_type}'; supported are epsilon, v_prediction "
            "and, but for EDM, sample"
        )
    if problem := _channels_problem(network, scheduler, autoencoder):
        raise InputError(f"{folder}: {problem}")
    if not prediction.x0:
        process = process.with_signal()  # where alpha is 0, nothing tells x_0: the grid ends before it
    return Parts(network, process, prediction, _condition(folder, network), autoencoder)


def _class_name(folder: Path, file: str, known: tuple[str, ...]) -> str:
    """The class that a part's configuration names.  Raises InputError if it is none of the known ones."""
    try:
        name = json.loads((folder / file).read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: not a diffusers pipeline folder with unet/ and scheduler/: {error}") from None
    if name not in known:
        raise InputError(f"{folder}: {Path(file).parent} is a {name}; supported are {', '.join(known)}")
    return name


def _model(folder: Path, name: str, known: tuple[str, ...]) -> ModelMixin:
    """A network of the pipeline, in float32, with every weight it should have and no other."""
    kind = getattr(diffusers, _class_name(folder, f"{name}/config.json", known))
    try:
        model, loading = kind.from_pretrained(
            folder,
            subfolder=name,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            torch_dtype=torch.float32,
            output_loading_info=True,
        )
    except DAMAGED as error:
        raise InputError(f"{folder}: not a diffusers pipeline folder: {name}: {error}") from None
    if problem := _weights_problem(name, model, loading):
        raise InputError(f"{folder}: {problem}")
    return model


def _weights_problem(name: str, model: ModelMixin, loading: dict[str, Any]) -> str | None:
    """What is wrong with the weights: diffusers fills what is missing with anything at all."""
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loading[kind]:
            return f"{name} weights do not fit {name}/config.json: {kind.replace('_', ' ')}: {sorted(loading[kind])[0]}"
    for weight_name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            return f"{name} weights are not finite (NaN or inf in '{weight_name}')"
    return None


def _scheduler(folder: Path) -> SchedulerMixin:
    kind: type[ConfigMixin] = getattr(diffusers, _class_name(folder, "scheduler/scheduler_config.json", SCHEDULERS))
    try:
        scheduler = kind.from_pretrained(folder, subfolder="scheduler", local_files_only=True)
    except DAMAGED as error:
        raise InputError(f"{folder}: scheduler/scheduler_config.json: {error}") from None
    config = scheduler.config
    for option, value in {"timestep_type": "continuous", "invert_sigmas": True, "use_flow_sigmas": True}.items():
        if config.get(option) == value:
            raise InputError(f"{folder}: scheduler/scheduler_config.json: {option} is {value}, which is not supported")
    return scheduler


def _channels_problem(network: ModelMixin, scheduler: SchedulerMixin, autoencoder: Autoencoder | None) -> str | None:
    """Why what goes into the network or what comes out of it cannot be understood."""
    enters, leaves = network.config.in_channels, network.config.out_channels or network.config.in_channels
    if autoencoder and enters != autoencoder.latent_channels:
        return f"the network takes {enters} channels, the latents have {autoencoder.latent_channels}"
    learned = str(scheduler.config.get("variance_type")).startswith("learned")
    if leaves == 2 * enters and (learned or type(network).__name__ == "DiTTransformer2DModel"):
        return None  # epsilon in the first half, a variance in the second
    if leaves != enters:
        return (
            f"the network returns {leaves} channels for {enters}: a learned variance? "
            "Then the scheduler's variance_type must be learned or learned_range"
        )
    return None


def _condition(folder: Path, network: ModelMixin) -> Condition:
    """What the network must be told beside x_t and t."""
    config = network.config
    for option in ("class_embed_type", "addition_embed_type", "encoder_hid_dim_type"):
        if config.get(option):
            raise InputError(f"{folder}: the network has {option} '{config[option]}', which is not supported")
    if type(network).__name__ == "DiTTransformer2DModel":
        return ByClass(config.num_embeds_ada_norm, null=config.num_embeds_ada_norm)
    if type(network).__name__ == "UNet2DConditionModel":
        if config.num_class_embeds:
            raise InputError(f"{folder}: the network is conditional on text and on classes, which is not supported")
        text = open_text(folder)
        if (width := text.embed([""]).shape[-1]) != config.cross_attention_dim:
            raise InputError(
                f"{folder}: the text encoder gives {width} numbers a token, "
                f"the network takes {config.cross_attention_dim}"
            )
        return text
    return ByClass(config.num_class_embeds, config.num_class_embeds - 1) if config.num_class_embeds else UNCONDITIONAL
