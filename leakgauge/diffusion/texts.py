"""Text encoders of pipelines: from a prompt to what its network takes, as the pipeline's `encode_prompt` does.

| network | encoders | per token | per prompt |
|---|---|---|---|
| Stable Diffusion 1, 2 | CLIP | last hidden states | |
| SDXL | CLIP; CLIP with projection | penultimate hidden states of both, side by side | projected, of the second |
| SD 3, 3.5 | two CLIP with projection; T5, or zeros | penultimate ones of both CLIP, then T5's | projected, of both |
| Flux | CLIP; T5 | T5's | pooled, of CLIP |
| Chroma | T5 | its own, and which tokens the network attends to | |
| PixArt | T5 | its own, and which tokens are no padding | |
| Hunyuan-DiT | BERT; T5 | last hidden states of each, and which tokens are no padding | |
| Sana | Gemma 2 | last hidden states, and which tokens are no padding | |
| Lumina 2 | Gemma 2 | penultimate hidden states, and which tokens are no padding | |

A prompt that is too long loses its end.  Every encoder runs on the CPU, in float32.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.functional import pad

from leakgauge.diffusion.conditioning import ByText, Inputs
from leakgauge.diffusion.pipelines import TOKENS
from leakgauge.errors import InputError

SD3_TOKENS, FLUX_TOKENS = 256, 512  # of T5: `max_sequence_length` of the pipelines and of diffusers' training scripts
SANA_TOKENS, LUMINA_TOKENS = 300, 256
LUMINA_SYSTEM = (  # `Lumina2Pipeline.system_prompt`
    "You are an assistant designed to generate superior images with the superior degree of image-text alignment based "
    "on textual prompts or user prompts."
)
PIXART_TOKENS = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300}


@dataclass(frozen=True)
class Encoder:
    """A tokenizer and its frozen text encoder.

    length : tokens of a prompt, padded or cut.  expands : a token with others behind it, '<mine>' with '<mine>_1', ...,
    stands for all of them: a textual inversion of several vectors, where the pipeline knows such.
    """

    tokenizer: Any
    model: Any
    length: int
    expands: bool = False

    def __call__(self, prompt: str) -> Any:
        """What the encoder returns of a prompt, hidden states too; padding is attended to."""
        return self.model(self.tokens(prompt).input_ids, output_hidden_states=True)

    def masked(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Last hidden states, (1, L, D), and which tokens are no padding, (1, L) int64; padding is not attended to."""
        tokens = self.tokens(prompt)
        states = self.model(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        return states, tokens.attention_mask

    def tokens(self, prompt: str) -> Any:
        """A prompt's tokens, (1, L), and which of them are no padding."""
        if self.expands:
            from diffusers.loaders import TextualInversionLoaderMixin  # which is there where transformers is

            prompt = TextualInversionLoaderMixin().maybe_convert_prompt(prompt, self.tokenizer)
        return self.tokenizer(
            prompt, padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        )


def open_text(folder: Path, network: ModelMixin) -> ByText:
    """The text conditioning of a pipeline's network.  Raises InputError.

    folder : with a `tokenizer/` and a `text_encoder/`, and those of the same names with _2 and _3.
    """
    try:
        import transformers
    except ImportError:
        raise InputError(f"{folder}: is conditional on text: needs `pip install -e '.[text]'`") from None
    transformers.utils.logging.disable_progress_bar()
    text = OPEN[_kind(network)](folder, network)
    _check_widths(folder, network, text)
    return text


def _kind(network: ModelMixin) -> str:
    name = type(network).__name__
    return "SDXL" if name == "UNet2DConditionModel" and network.config.addition_embed_type else name


def _open_stable_diffusion(folder: Path, network: ModelMixin) -> ByText:
    """As `StableDiffusionPipeline.encode_prompt`."""
    clip = _clip(folder, "")
    return ByText(
        lambda prompt: {"encoder_hidden_states": clip(prompt).last_hidden_state}, learnt=_learnt(folder, clip)
    )


def _learnt(folder: Path, encoder: Encoder) -> dict[str, Callable[[str], bool]]:
    """The token of each textual inversion in the pipeline -> whether a prompt, once cut, has all its vectors."""
    file = folder / TOKENS
    learnt = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def contained(names: list[str]) -> Callable[[str], bool]:
        vectors = torch.tensor(encoder.tokenizer.convert_tokens_to_ids(names))
        return lambda prompt: bool(torch.isin(vectors, encoder.tokens(prompt).input_ids).all())

    return {token: contained(names) for token, names in learnt.items()}


def _open_sdxl(folder: Path, network: ModelMixin) -> ByText:
    """As `StableDiffusionXLPipeline.encode_prompt`; no prompt is zeros where the pipeline's negative prompt is."""
    index = _index(folder)
    if index.get("requires_aesthetics_score") or not (folder / "text_encoder").is_dir():
        raise InputError(f"{folder}: is a refiner of SDXL, conditional on an aesthetic score, which is not supported")
    encoders = _clip(folder, ""), _clip(folder, "_2", projected=True)

    def embed(prompt: str) -> Inputs:
        first, second = (encoder(prompt) for encoder in encoders)
        states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return {"encoder_hidden_states": states, "text_embeds": second.text_embeds}

    def zeros() -> Inputs:
        return {name: torch.zeros_like(value) for name, value in embed("").items()}

    none = zeros if index.get("force_zeros_for_empty_prompt", True) else None
    return ByText(embed, none, learnt=_learnt(folder, encoders[0]))


def _open_sd3(folder: Path, network: ModelMixin) -> ByText:
    """As `StableDiffusion3Pipeline.encode_prompt`: without T5 its tokens are zeros; no textual inversion is known."""
    encoders = [_clip(folder, number, projected=True, expands=False) for number in ("", "_2")]
    t5 = _t5(folder, "_3", SD3_TOKENS) if (folder / "text_encoder_3").is_dir() else None
    width = network.config.joint_attention_dim

    def embed(prompt: str) -> Inputs:
        said = [encoder(prompt) for encoder in encoders]
        states = torch.cat([one.hidden_states[-2] for one in said], dim=-1)
        others = t5(prompt).last_hidden_state if t5 else torch.zeros(1, SD3_TOKENS, width)
        return {
            "encoder_hidden_states": torch.cat([pad(states, (0, width - states.shape[-1])), others], dim=1),
            "pooled_projections": torch.cat([one.text_embeds for one in said], dim=-1),
        }

    return ByText(embed)


def _open_flux(folder: Path, network: ModelMixin) -> ByText:
    """As `FluxPipeline.encode_prompt`."""
    name = str(_index(folder).get("_class_name"))
    if "Kontext" in name:  # its network is that of Flux
        raise InputError(f"{folder}: is a {name}, conditional on another image, which is not supported")
    clip, t5 = _clip(folder, ""), _t5(folder, "_2", FLUX_TOKENS)
    return ByText(
        lambda prompt: {
            "encoder_hidden_states": t5(prompt).last_hidden_state,
            "pooled_projections": clip(prompt).pooler_output,
        }
    )


def _open_chroma(folder: Path, network: ModelMixin) -> ByText:
    """As `ChromaPipeline.encode_prompt`: the network attends to the first token of padding, and to no other."""
    t5 = _t5(folder, "", FLUX_TOKENS)

    def embed(prompt: str) -> Inputs:
        states, mask = t5.masked(prompt)
        attended = torch.arange(FLUX_TOKENS) <= mask.sum(dim=1, keepdim=True)
        return {"encoder_hidden_states": states, "attention_mask": attended.float()}

    return ByText(embed)


def _open_pixart(folder: Path, network: ModelMixin) -> ByText:
    """As `PixArtAlphaPipeline.encode_prompt` or `PixArtSigmaPipeline.encode_prompt`."""
    name = _index(folder).get("_class_name")
    if name not in PIXART_TOKENS:
        raise InputError(
            f"{folder}: model_index.json: _class_name is {name!r}: PixArtAlphaPipeline (120 tokens a prompt) or "
            "PixArtSigmaPipeline (300) must be named"
        )
    return ByText(_lowered(_t5(folder, "", PIXART_TOKENS[name])))


def _open_sana(folder: Path, network: ModelMixin) -> ByText:
    """As `SanaPipeline.encode_prompt` without `complex_human_instruction` (train_dreambooth_lora_sana.py: none)."""
    return ByText(_lowered(_gemma(folder, SANA_TOKENS)))


def _lowered(encoder: Encoder) -> Callable[[str], Inputs]:
    """Last hidden states and the mask of a prompt in lower case, without outer blanks (`clean_caption` off)."""

    def embed(prompt: str) -> Inputs:
        states, mask = encoder.masked(prompt.lower().strip())
        return {"encoder_hidden_states": states, "encoder_attention_mask": mask}

    return embed


def _open_lumina(folder: Path, network: ModelMixin) -> ByText:
    """As `Lumina2Pipeline.encode_prompt`; no prompt is its negative prompt, without the system prompt."""
    gemma = _gemma(folder, LUMINA_TOKENS)

    def embed(prompt: str) -> Inputs:
        tokens = gemma.tokens(prompt)
        said = gemma.model(tokens.input_ids, attention_mask=tokens.attention_mask, output_hidden_states=True)
        return {"encoder_hidden_states": said.hidden_states[-2], "encoder_attention_mask": tokens.attention_mask}

    return ByText(lambda prompt: embed(f"{LUMINA_SYSTEM} <Prompt Start> {prompt}"), lambda: embed(""))


def _open_hunyuan(folder: Path, network: ModelMixin) -> ByText:
    """As `HunyuanDiTPipeline.encode_prompt`."""
    from transformers import BertModel, BertTokenizer

    bert = _encoder(folder, "", BertTokenizer, BertModel, network.config.text_len)
    t5 = _t5(folder, "_2", network.config.text_len_t5)

    def embed(prompt: str) -> Inputs:
        (states, mask), (states_t5, mask_t5) = bert.masked(prompt), t5.masked(prompt)
        return {
            **{"encoder_hidden_states": states, "text_embedding_mask": mask},
            **{"encoder_hidden_states_t5": states_t5, "text_embedding_mask_t5": mask_t5},
        }

    return ByText(embed)


OPEN: dict[str, Callable[[Path, ModelMixin], ByText]] = {
    "UNet2DConditionModel": _open_stable_diffusion,
    "SDXL": _open_sdxl,
    "SD3Transformer2DModel": _open_sd3,
    "FluxTransformer2DModel": _open_flux,
    "ChromaTransformer2DModel": _open_chroma,
    "PixArtTransformer2DModel": _open_pixart,
    "HunyuanDiT2DModel": _open_hunyuan,
    "SanaTransformer2DModel": _open_sana,
    "Lumina2Transformer2DModel": _open_lumina,
}


def _widths(network: ModelMixin) -> dict[str, int | None]:
    """Numbers a token or a prompt that a network takes, by the name of its input."""
    config, kind = network.config, _kind(network)
    if kind == "SDXL":
        sizes = 6 * config.addition_time_embed_dim  # two sizes and a corner of a crop
        return {
            "encoder_hidden_states": config.cross_attention_dim,
            "text_embeds": config.projection_class_embeddings_input_dim - sizes,
        }
    if kind in ("SD3Transformer2DModel", "FluxTransformer2DModel"):
        return {
            "encoder_hidden_states": config.joint_attention_dim,
            "pooled_projections": config.pooled_projection_dim,
        }
    if kind == "ChromaTransformer2DModel":
        return {"encoder_hidden_states": config.joint_attention_dim}
    if kind == "PixArtTransformer2DModel":
        return {"encoder_hidden_states": config.caption_channels or config.cross_attention_dim}
    if kind == "HunyuanDiT2DModel":
        return {
            "encoder_hidden_states": config.cross_attention_dim,
            "encoder_hidden_states_t5": config.cross_attention_dim_t5,
        }
    if kind == "SanaTransformer2DModel":
        return {"encoder_hidden_states": config.caption_channels}
    if kind == "Lumina2Transformer2DModel":
        return {"encoder_hidden_states": config.cap_feat_dim}
    return {"encoder_hidden_states": config.cross_attention_dim}


def _check_widths(folder: Path, network: ModelMixin, text: ByText) -> None:
    embedded = text.embed([""])
    for name, width in _widths(network).items():
        found, unit = embedded[name].shape[-1], "token" if embedded[name].ndim == 3 else "prompt"
        if found != width:
            raise InputError(f"{folder}: the text encoder gives {found} numbers a {unit}, the network takes {width}")


def _index(folder: Path) -> dict[str, Any]:
    """`model_index.json`; empty where there is none."""
    file = folder / "model_index.json"
    index = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return index if isinstance(index, dict) else {}


def _clip(folder: Path, number: str, projected: bool = False, expands: bool = True) -> Encoder:
    """CLIP's tokenizer and text encoder.  number : what their folders' names end in."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    return replace(_encoder(folder, number, CLIPTokenizer, kind), expands=expands)


def _t5(folder: Path, number: str, length: int) -> Encoder:
    """T5's tokenizer and encoder.  number : what their folders' names end in.  length : tokens of a prompt."""
    from transformers import T5EncoderModel, T5TokenizerFast

    return _encoder(folder, number, T5TokenizerFast, T5EncoderModel, length)


def _gemma(folder: Path, length: int) -> Encoder:
    """Gemma 2's tokenizer, padding behind the prompt, and its hidden layers.  length : tokens of a prompt."""
    from transformers import Gemma2Model, GemmaTokenizerFast

    encoder = _encoder(folder, "", GemmaTokenizerFast, Gemma2Model, length)
    encoder.tokenizer.padding_side = "right"
    return encoder


def _encoder(folder: Path, number: str, tokenizer_kind: Any, kind: Any, length: int | None = None) -> Encoder:
    """A tokenizer and its encoder, with every weight it should have and no other.

    length : tokens of a prompt; by default the tokenizer's own.
    """
    part = f"text_encoder{number}"
    _check_tokenizer(folder, f"tokenizer{number}", tokenizer_kind.__name__)
    try:
        tokenizer = tokenizer_kind.from_pretrained(folder, subfolder=f"tokenizer{number}", local_files_only=True)
        model, loading = kind.from_pretrained(
            folder,
            subfolder=part,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder}: has no text encoder that can be read: {part}: {error}") from None
    for problem in ("missing", "unexpected", "mismatched"):
        if names := sorted(str(name) for name in loading[f"{problem}_keys"]):
            raise InputError(f"{folder}: {part} weights are {problem}: {names[0]}")
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise InputError(f"{folder}: {part} weights are not finite (NaN or inf in '{name}')")
    return Encoder(tokenizer, model.eval().requires_grad_(False), length or tokenizer.model_max_length)


def _check_tokenizer(folder: Path, part: str, kind: str) -> None:
    """Raise InputError where a tokenizer's vocabulary is absent: transformers would make an empty one in silence."""
    there = {file.name for file in (folder / part).glob("*")}
    others = {"CLIPTokenizer": {"vocab.json", "merges.txt"}, "BertTokenizer": {"vocab.txt"}}
    if "tokenizer.json" in there or (kind in others and others[kind] <= there):
        return
    raise InputError(
        f"{folder}: has no tokenizer that can be read: {part}/tokenizer.json is missing: where there is another "
        f"vocabulary (spiece.model), transformers.{kind}.from_pretrained('{part}').save_pretrained('{part}') writes it"
    )
