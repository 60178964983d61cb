"""A tiny pipeline folder of each family, of 8x8 grey images: real diffusers classes, weights drawn from a seed."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from conftest import tiny_params, write_params
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    LDMPipeline,
    PNDMScheduler,
    RePaintScheduler,
    SchedulerMixin,
    ScoreSdeVePipeline,
    ScoreSdeVeScheduler,
    UnCLIPScheduler,
    UNet2DConditionModel,
    UNet2DModel,
    UniPCMultistepScheduler,
    VQModel,
)
from ruamel.yaml import YAML

from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.files import write_json
from leakgauge.options import RoleLeaks
from leakgauge.tables import image_table, write_table

WIDTH = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}


def unet(size: int = 8, channels: int = 1, **options: object) -> UNet2DModel:
    return UNet2DModel(
        **{"sample_size": size, "in_channels": channels, "out_channels": channels, "add_attention": False}
        | {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
        | WIDTH
        | options
    )


def kl_autoencoder(channels: int = 4, **options: object) -> AutoencoderKL:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    colours = {"in_channels": 1, "out_channels": 1}
    scale = {"scaling_factor": 0.7}
    return AutoencoderKL(**colours, **blocks, **WIDTH, **scale, **options, latent_channels=channels, sample_size=8)


def vq_autoencoder() -> VQModel:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    colours = {"in_channels": 1, "out_channels": 1}
    return VQModel(
        **colours, **blocks, **WIDTH, latent_channels=3, sample_size=8, num_vq_embeddings=16, scaling_factor=0.7
    )


def dit() -> DiTTransformer2DModel:
    shape = {"num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 1, "sample_size": 4, "patch_size": 2}
    model = DiTTransformer2DModel(**shape, in_channels=4, out_channels=8, num_embeds_ada_norm=1000, norm_num_groups=4)
    return model


def write_pixels(folder: Path, scheduler: SchedulerMixin, **options: object) -> None:
    DDPMPipeline(unet(**options), scheduler).save_pretrained(folder)


def text_part(folder: Path, kind: str, **options: object) -> tuple[object, object]:
    """A tiny tokenizer, of two words, and a tiny text encoder of a class of transformers."""
    transformers = pytest.importorskip("transformers", reason="the text extra is not installed")
    if kind == "T5EncoderModel":
        vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -1.0), ("\u2581", -2.0), ("a", -2.5), ("\u2581a", -2.0)]
        tokenizer = transformers.T5TokenizerFast(vocab=vocabulary, extra_ids=0, model_max_length=6)
        shape = {"d_model": 12, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
        config = transformers.T5Config(vocab_size=6, **shape | options)
        return tokenizer, transformers.T5EncoderModel(config)
    if kind == "BertModel":
        ids = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])}
        shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        tokenizer = transformers.BertTokenizer(vocab=ids, model_max_length=6)
        return tokenizer, transformers.BertModel(transformers.BertConfig(vocab_size=6, **shape))
    if kind == "Gemma2Model":
        ids = {
            word: number for number, word in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "a", "\u2581", "\u2581a"])
        }
        tokenizer = transformers.GemmaTokenizerFast(vocab=ids, merges=[("\u2581", "a")], model_max_length=6)
        shape = {"hidden_size": 12, "intermediate_size": 8, "num_hidden_layers": 2, "head_dim": 4}
        config = transformers.Gemma2Config(vocab_size=7, num_attention_heads=2, num_key_value_heads=1, **shape)
        return tokenizer, transformers.Gemma2Model(config)
    words = ["<|startoftext|>", "<|endoftext|>", "a", "a</w>"]
    tokens = folder / "tokens"
    tokens.mkdir(parents=True, exist_ok=True)
    (tokens / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (tokens / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        str(tokens / "vocab.json"), str(tokens / "merges.txt"), model_max_length=6, pad_token="<|endoftext|>"
    )
    shutil.rmtree(tokens)
    config = transformers.CLIPTextConfig(
        **{"vocab_size": len(words), "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
        | {"num_attention_heads": 2, "max_position_embeddings": 6, "bos_token_id": 0, "eos_token_id": 1}
        | options
    )
    return tokenizer, getattr(transformers, kind)(config)


def text_unet(**options: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        **{"sample_size": 4, "cross_attention_dim": 8, "attention_head_dim": 2}
        | {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
        | {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
        | WIDTH
        | options
    )


def write_text(folder: Path) -> None:
    tokenizer, encoder = text_part(folder, "CLIPTextModel")
    diffusers.StableDiffusionPipeline(
        vae=kl_autoencoder(),
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=text_unet(),
        scheduler=DDIMScheduler(clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def write_sdxl(folder: Path, vae: dict[str, object] | None = None, **options: object) -> None:
    tokenizer, encoder = text_part(folder, "CLIPTextModel")
    tokenizer_2, encoder_2 = text_part(folder, "CLIPTextModelWithProjection", hidden_size=12, projection_dim=6)
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4}
    diffusers.StableDiffusionXLPipeline(
        vae=kl_autoencoder(**vae or {}),
        text_encoder=encoder,
        text_encoder_2=encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=text_unet(cross_attention_dim=20, projection_class_embeddings_input_dim=6 * 4 + 6, **added),
        scheduler=DDIMScheduler(clip_sample=False),
        add_watermarker=False,
        **options,
    ).save_pretrained(folder)


def write_sd3(folder: Path, t5: bool = True) -> None:
    tokenizer, encoder = text_part(folder, "CLIPTextModelWithProjection", hidden_size=4, projection_dim=4)
    tokenizer_2, encoder_2 = text_part(folder, "CLIPTextModelWithProjection", hidden_size=4, projection_dim=6)
    tokenizer_3, encoder_3 = text_part(folder, "T5EncoderModel") if t5 else (None, None)
    network = diffusers.SD3Transformer2DModel(
        **{"sample_size": 4, "in_channels": 16, "out_channels": 16, "num_layers": 2, "attention_head_dim": 8},
        **{"num_attention_heads": 2, "joint_attention_dim": 12, "caption_projection_dim": 16},
        **{"pooled_projection_dim": 10, "pos_embed_max_size": 4, "qk_norm": "rms_norm", "dual_attention_layers": (0,)},
    )
    diffusers.StableDiffusion3Pipeline(
        vae=kl_autoencoder(16, shift_factor=0.3),
        text_encoder=encoder,
        text_encoder_2=encoder_2,
        text_encoder_3=encoder_3,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        tokenizer_3=tokenizer_3,
        transformer=network,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(folder)


def write_flux(folder: Path, **options: object) -> None:
    tokenizer, encoder = text_part(folder, "CLIPTextModel")
    tokenizer_2, encoder_2 = text_part(folder, "T5EncoderModel")
    network = diffusers.FluxTransformer2DModel(
        **{"in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8}
        | {"num_attention_heads": 2, "joint_attention_dim": 12, "pooled_projection_dim": 8}
        | {"axes_dims_rope": (2, 2, 4)}
        | options
    )
    diffusers.FluxPipeline(
        vae=kl_autoencoder(4, shift_factor=0.3),
        text_encoder=encoder,
        text_encoder_2=encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        transformer=network,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    ).save_pretrained(folder)


def write_chroma(folder: Path) -> None:
    tokenizer, encoder = text_part(folder, "T5EncoderModel")
    network = diffusers.ChromaTransformer2DModel(
        **{"in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8},
        **{"num_attention_heads": 2, "joint_attention_dim": 12, "axes_dims_rope": (2, 2, 4)},
        **{"approximator_num_channels": 8, "approximator_hidden_dim": 16, "approximator_layers": 1},
    )
    scheduler = FlowMatchEulerDiscreteScheduler()
    diffusers.ChromaPipeline(
        scheduler, kl_autoencoder(4, shift_factor=0.3), encoder, tokenizer, network
    ).save_pretrained(folder)


def write_pixart(folder: Path, kind: str, **options: object) -> None:
    tokenizer, encoder = text_part(folder, "T5EncoderModel")
    network = diffusers.PixArtTransformer2DModel(
        **{"sample_size": 4, "num_attention_heads": 2, "attention_head_dim": 6, "num_layers": 1}
        | {"cross_attention_dim": 12, "caption_channels": 12, "norm_num_groups": 4}
        | options
    )
    getattr(diffusers, kind)(
        vae=kl_autoencoder(),
        text_encoder=encoder,
        tokenizer=tokenizer,
        transformer=network,
        scheduler=DDIMScheduler(clip_sample=False),
    ).save_pretrained(folder)


def write_hunyuan(folder: Path) -> None:
    tokenizer, encoder = text_part(folder, "BertModel")
    tokenizer_2, encoder_2 = text_part(folder, "T5EncoderModel", d_model=16)
    network = diffusers.HunyuanDiT2DModel(
        **{"in_channels": 4, "patch_size": 2, "sample_size": 4, "hidden_size": 16, "num_layers": 4},
        **{"num_attention_heads": 2, "attention_head_dim": 8, "pooled_projection_dim": 8},
        **{"cross_attention_dim": 8, "cross_attention_dim_t5": 16},
    )
    diffusers.HunyuanDiTPipeline(
        vae=kl_autoencoder(),
        text_encoder=encoder,
        tokenizer=tokenizer,
        transformer=network,
        scheduler=DDIMScheduler(prediction_type="v_prediction", clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        text_encoder_2=encoder_2,
        tokenizer_2=tokenizer_2,
    ).save_pretrained(folder)


def write_sana(folder: Path) -> None:
    tokenizer, encoder = text_part(folder, "Gemma2Model")
    network = diffusers.SanaTransformer2DModel(
        **{"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 1},
        **{"num_cross_attention_heads": 2, "cross_attention_head_dim": 4, "cross_attention_dim": 8},
        **{"caption_channels": 12, "sample_size": 4, "timestep_scale": 0.5},
    )
    autoencoder = diffusers.AutoencoderDC(
        **{"in_channels": 1, "latent_channels": 4, "attention_head_dim": 4, "scaling_factor": 0.4},
        **{f"{part}_block_out_channels": (8, 16) for part in ("encoder", "decoder")},
        **{f"{part}_layers_per_block": (1, 1) for part in ("encoder", "decoder")},
        **{f"{part}_qkv_multiscales": ((), ()) for part in ("encoder", "decoder")},
    )
    diffusers.SanaPipeline(tokenizer, encoder, autoencoder, network, FlowMatchEulerDiscreteScheduler()).save_pretrained(
        folder
    )


def write_lumina(folder: Path) -> None:
    tokenizer, encoder = text_part(folder, "Gemma2Model")
    network = diffusers.Lumina2Transformer2DModel(
        **{"sample_size": 4, "in_channels": 4, "hidden_size": 16, "num_layers": 1, "num_refiner_layers": 1},
        **{"num_attention_heads": 2, "num_kv_heads": 1, "multiple_of": 8, "axes_dim_rope": (4, 2, 2)},
        **{"axes_lens": (300, 16, 16), "cap_feat_dim": 12},
    )
    diffusers.Lumina2Pipeline(
        transformer=network,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=kl_autoencoder(4, shift_factor=0.3),
        text_encoder=encoder,
        tokenizer=tokenizer,
    ).save_pretrained(folder)


def tiny_autoencoder() -> diffusers.AutoencoderTiny:
    return diffusers.AutoencoderTiny(
        **{"in_channels": 1, "out_channels": 1, "scaling_factor": 1.5, "shift_factor": 0.1},
        **{f"{part}_block_out_channels": (8, 8) for part in ("encoder", "decoder")},
        **{f"num_{part}_blocks": (1, 1) for part in ("encoder", "decoder")},
    )


Writer = Callable[[Path], None]


def of_pixels(scheduler: Callable[[], SchedulerMixin], **options: object) -> Writer:
    """A family of pixels.  scheduler : makes it.  options : of the UNet."""
    return lambda folder: write_pixels(folder, scheduler(), **options)


def saved(pipeline: Callable[[], diffusers.DiffusionPipeline]) -> Writer:
    """A family of which `pipeline` makes the pipeline."""
    return lambda folder: pipeline().save_pretrained(folder)


def noise_prediction() -> DDIMPipeline:
    return DDIMPipeline(unet(), DDIMScheduler(clip_sample=False))


def score_sde() -> ScoreSdeVePipeline:
    network = unet(time_embedding_type="fourier")
    return ScoreSdeVePipeline(network, ScoreSdeVeScheduler(num_train_timesteps=1000, sigma_max=50.0))


def dit_pipeline() -> DiTPipeline:
    return DiTPipeline(dit(), kl_autoencoder(), DDIMScheduler(clip_sample=False))


def latent_vq() -> LDMPipeline:
    return LDMPipeline(vq_autoencoder(), unet(4, 3), DDIMScheduler(clip_sample=False))


def latent_kl() -> LDMPipeline:
    return LDMPipeline(kl_autoencoder(), unet(4, 4), DDIMScheduler())


def latent_tiny() -> LDMPipeline:
    return LDMPipeline(tiny_autoencoder(), unet(4, 4), DDIMScheduler())


def sdxl_empty(folder: Path) -> None:
    """As Playground 2.5."""
    vae = {"latents_mean": (-0.3, 0.1, 0.2, 0.0), "latents_std": (0.5, 2.0, 1.5, 1.0)}
    write_sdxl(folder, vae, force_zeros_for_empty_prompt=False)


DPM, SAMPLE, V = DPMSolverMultistepScheduler, {"prediction_type": "sample"}, {"prediction_type": "v_prediction"}
OF_PIXELS: dict[str, Writer] = {
    "sample": of_pixels(partial(DDIMScheduler, **SAMPLE, clip_sample=False, beta_schedule="squaredcos_cap_v2")),
    "v": of_pixels(partial(DDIMScheduler, **V, clip_sample=False)),
    "zero_snr": of_pixels(partial(DDPMScheduler, **V, rescale_betas_zero_snr=True)),
    "pndm": of_pixels(partial(PNDMScheduler, beta_schedule="scaled_linear")),
    "dpm_solver": of_pixels(partial(DPM, **SAMPLE)),
    "dpm_solver_flow": of_pixels(partial(DPM, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)),
    "unipc_flow": of_pixels(partial(UniPCMultistepScheduler, use_flow_sigmas=True)),
    "repaint": of_pixels(RePaintScheduler),
    "unclip": of_pixels(partial(UnCLIPScheduler, **SAMPLE)),
    "edm_solver": of_pixels(EDMDPMSolverMultistepScheduler),
    "flow_heun": of_pixels(partial(FlowMatchHeunDiscreteScheduler, shift=2.0)),
    "flow_lcm": of_pixels(FlowMatchLCMScheduler),
    "euler": of_pixels(partial(EulerDiscreteScheduler, **V, use_karras_sigmas=True)),
    "learned_variance": of_pixels(partial(DDPMScheduler, variance_type="learned_range"), out_channels=2),
    "edm": of_pixels(EDMEulerScheduler),
    "edm_v": of_pixels(partial(EDMEulerScheduler, **V, sigma_schedule="exponential")),
    "flow": of_pixels(FlowMatchEulerDiscreteScheduler),
    "flow_shifted": of_pixels(partial(FlowMatchEulerDiscreteScheduler, shift=3.0)),
    "by_class": of_pixels(DDIMScheduler, num_class_embeds=11),
}
OF_TEXTS: dict[str, Writer] = {
    "text": write_text,
    "sdxl": write_sdxl,
    "sdxl_empty": sdxl_empty,
    "sd3": write_sd3,
    "sd3_no_t5": partial(write_sd3, t5=False),
    "flux": write_flux,
    "flux_guided": partial(write_flux, guidance_embeds=True),
    "chroma": write_chroma,
    "pixart": partial(write_pixart, kind="PixArtAlphaPipeline", use_additional_conditions=True),
    "pixart_sigma": partial(write_pixart, kind="PixArtSigmaPipeline"),
    "hunyuan": write_hunyuan,
    "sana": write_sana,
    "lumina": write_lumina,
}
WRITERS: dict[str, Writer] = {
    "epsilon": saved(noise_prediction),
    **OF_PIXELS,
    "ve": saved(score_sde),
    "dit": saved(dit_pipeline),
    "latent_vq": saved(latent_vq),
    "latent_kl": saved(latent_kl),
    "latent_tiny": saved(latent_tiny),
    **OF_TEXTS,
}
FAMILIES, TEXTS = tuple(WRITERS), tuple(OF_TEXTS)  # the latter are conditional on captions


def write_family(name: str, folder: Path) -> Path:
    """Write the pipeline of a family; returns its folder."""
    torch.manual_seed(0)
    WRITERS[name](folder)
    return folder


def open_family(folder: Path) -> Denoiser:
    """The denoiser of a folder, bound to classes 0, 1, 2, ... where it takes classes."""
    target = Denoiser.from_pipeline(folder, torch.device("cpu"))
    return target.with_condition(target.condition.sample_conditions(4))


def put_roles(name: str, size: int = 8, label: int | None = 9, count: int = 6) -> None:
    """Images of every role of the target `name`, as `split` leaves them, of classes up to `label`."""
    rng = np.random.default_rng(0)
    for role in ("member", "auxiliary", "holdout"):
        pixels = rng.integers(0, 256, (count, size, size, 1), dtype=np.uint8)
        ids = [f"{role}-{number}" for number in range(count)]
        labels: list[int | None] = [None] * count if label is None else list(range(label, label - count, -1))
        write_table(Path(f"data/roles/{name}/{role}.parquet"), image_table(ids, pixels, labels, [None] * count), {})


def put_target(folder: Path, size: int = 8, label: int | None = 9, **options: object) -> None:
    """params.yaml with the target `theirs`, a pipeline folder, its options of `score`, and its images.

    No label or caption tells a role.
    """
    params = tiny_params()
    overrides = {"score": options, "fit": {"scores": ["t_error_t0"]}}  # which every walk has
    params["targets"]["theirs"] = {"images": "digits", "model": str(folder), "source": "path", **overrides}
    write_params(params)
    write_json(Path("data/checks/theirs.json"), RoleLeaks(seed=0, leaks={}).model_dump())
    put_roles("theirs", size, label)


def run_code() -> None:
    """Have the entry of the target `theirs` say that its code is run."""
    params = YAML(typ="safe").load(Path("params.yaml").read_text())
    params["targets"]["theirs"]["source"] = "python"
    write_params(params)
