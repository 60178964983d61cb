"""Adapters, fused into the pipeline that they were trained for: what remains is a pipeline like any other.

So is a whole model in one file, whose weights replace those of its base.

| form | what it is |
|---|---|
| a .safetensors file, or a folder with pytorch_lora_weights.safetensors | a LoRA of diffusers or kohya |
| a folder with adapter_config.json, or with such folders unet/, transformer/, text_encoder/ | an adapter of PEFT |
| a .safetensors file with `model.diffusion_model.` weights | a whole model, as the original codes and ComfyUI have it |
| a .safetensors file with an embedding alone, or learned_embeds.safetensors in a folder | a textual inversion |
| a .safetensors file with clip_l and clip_g | the same of SDXL |

`adapter_files` says which files of a folder are taken.  diffusers and PEFT read and fuse them.  Both pass over weights
that they do not know, with a warning at most; here every pair of matrices that is not zero must have changed a weight.

Hu et al., "LoRA", ICLR 2022: W + scale * alpha / rank * B A.  Gal et al., "An Image is Worth One Word", ICLR 2023.
"""

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from leakgauge.diffusion import loading
from leakgauge.diffusion.adapter_files import PEFT_CONFIG, PEFT_WEIGHTS, plan_adapter
from leakgauge.diffusion.pipelines import INDEX, TEXT_ENCODER, TOKENIZER, TOKENS, UNUSED, check_weights
from leakgauge.errors import InputError
from leakgauge.files import write_json

PIPELINES = (  # for which diffusers reads a LoRA
    *("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline"),
    *("SanaPipeline", "Lumina2Pipeline"),
)
PEFT_KINDS = ("LORA", "LOHA", "LOKR")  # that merge into weights, and say so by their configuration alone
NETWORKS = ("unet", "transformer")
CONFIG = "config.json"  # of a part, beside its weights
ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel", "Gemma2Model", "BertModel")
KNOWN = re.compile(  # weights of a LoRA that diffusers fuses
    r".*(lora_(down|up|A|B)|lora\.(down|up)|lora_linear_layer\.(down|up))(\.weight)?|.*\.alpha|.*lora_magnitude_vector.*"
)
PART_OF = {  # what the names of weights begin with -> the part of the pipeline; others are the network's
    **{"lora_te_": "text_encoder", "lora_te1_": "text_encoder", "text_encoder.": "text_encoder"},
    **{"lora_te2_": "text_encoder_2", "text_encoder_2.": "text_encoder_2"},
    **{"lora_te3_": "text_encoder_3", "text_encoder_3.": "text_encoder_3"},
}
# Embeddings of SDXL -> what the names of their tokenizer and encoder end in.
OF_ENCODERS = {"clip_l": "", "clip_g": "_2"}
UNNAMED = ("emb_params", "clip_l")  # one embedding, by AUTOMATIC1111 or diffusers' advanced scripts: the file names it
WHOLE = "model.diffusion_model."  # what the names of a network's weights begin with in a file of a whole model
DOWN = re.compile(
    r"(.*)(lora_down|lora\.down|lora_A|lora_linear_layer\.down|hada_w1_a|lokr_w1)(\.weight|\.default\.weight)?"
)
Weights = dict[str, Tensor]


def fuse(adapter: Path, scale: float, folder: Path, first: bool = True) -> list[str]:
    """Fuse an adapter into the pipeline in `folder`, by `scale`; of a textual inversion, add its token.

    first : whether none was fused before, which a whole model would undo.  Returns the names of the adapter's files
    that were not taken.  Raises InputError for what is no adapter, does not fit the pipeline, or has weights that would
    change nothing.
    """
    try:
        import peft  # noqa: F401, diffusers needs it too
        import transformers
    except ImportError:
        raise InputError(f"{adapter}: is an adapter: needs `pip install -e '.[lora]'`") from None
    for library in (diffusers, transformers):  # what they warn of ends the stage here
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    try:
        plan = plan_adapter(adapter)
        found = _peft_folders(adapter, plan.taken, folder)
        if found:
            for part, of_part in found.items():
                _fuse_peft(of_part, scale, folder, part)
            return plan.not_taken
        file = adapter / next(iter(plan.taken)) if adapter.is_dir() else adapter
        weights = _read(file)
        whole = any(name.startswith(WHOLE) for name in weights)
        token = all(weight.ndim <= 2 and "lora" not in name for name, weight in weights.items())
        if scale != 1 and (whole or token):
            raise InputError(f"{file}: is no LoRA: a scale of {scale:g} means nothing to it")
        if whole and not first:
            raise InputError(f"{file}: is a whole model: name it as `model`, and adapters of it in target.adapters")
        if whole:
            _replace(file, weights, folder)
        elif token:
            _add_token(file, weights, folder)
        else:
            _fuse_lora(file, weights, scale, folder)
        return plan.not_taken
    except (InputError, MemoryError):
        raise
    except Exception as error:  # what does not fit raises nearly anything
        said = str(error).strip().splitlines()[:1]
        raise InputError(f"{adapter}: cannot be fused into its base: {type(error).__name__}: {''.join(said)}") from None


def _read(file: Path) -> Weights:
    try:
        return check_weights(file, load_file(file))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: no safetensors that can be read: {error}") from None


def _kind(adapter: Path, folder: Path) -> tuple[type[DiffusionPipeline], dict[str, Any]]:
    """The base's own class of diffusers, and what it is opened without."""
    name = json.loads((folder / INDEX).read_text(encoding="utf-8")).get("_class_name")
    if name not in PIPELINES:
        raise InputError(
            f"{adapter}: its base is a {name}, for which diffusers reads no LoRA (but for {', '.join(PIPELINES)}); "
            f"an adapter of PEFT, a folder with {PEFT_CONFIG}, fits any network"
        )
    kind = getattr(diffusers, name)
    unused: dict[str, Any] = {part: None for part in UNUSED if part in inspect.signature(kind).parameters}
    return kind, unused


def _pipeline(adapter: Path, folder: Path) -> DiffusionPipeline:
    """The base, opened."""
    kind, unused = _kind(adapter, folder)
    return kind.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, torch_dtype=torch.float32, **unused
    )


def _replace(file: Path, weights: Weights, folder: Path) -> None:
    """Put the weights of a whole model in the place of those of the pipeline, which gives its configuration.

    diffusers fills in at random what the file lacks: it is opened twice, and must be the same.
    """
    kind, unused = _kind(file, folder)
    states: list[dict[tuple[str, str], Tensor]] = []
    parts: dict[str, Any] = {}
    for seed in (0, 1):
        torch.manual_seed(seed)
        pipeline = kind.from_single_file(
            str(file), config=str(folder), local_files_only=True, torch_dtype=torch.float32, **unused
        )
        parts = {part: of for part, of in pipeline.components.items() if isinstance(of, nn.Module)}
        states.append({(part, name): of for part in parts for name, of in parts[part].state_dict().items()})
    for (part, name), weight in states[0].items():
        if not torch.equal(weight, states[1][part, name]):
            raise InputError(f"{file}: has no {part}: {name}, which its base {folder.name} has")
    given = sum(name.startswith(WHOLE) for name in weights)
    if "unet" in parts and given != (needed := len(parts["unet"].state_dict())):
        raise InputError(f"{file}: has {given} weights of a network, its base has {needed}: it is of another model")
    for part, network in parts.items():
        _save(network, folder / part)


def _save(network: Any, folder: Path) -> None:
    """Save a part in the place of its former weights, which may have been in other files.

    Its configuration does not name the folder that it was opened from: equal weights have equal bytes.
    """
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    network.save_pretrained(folder)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    write_json(folder / CONFIG, config)


def _fuse_lora(file: Path, weights: Weights, scale: float, folder: Path) -> None:
    if unknown := sorted(name for name, of in weights.items() if not KNOWN.fullmatch(name) and of.any()):
        raise InputError(
            f"{file}: diffusers passes over {len(unknown)} of its weights, like '{unknown[0]}' (DoRA of kohya, biases, "
            "another form?): fuse it with the trainer's own program, and audit the pipeline"
        )
    pipeline = _pipeline(file, folder)
    parts = {part: getattr(pipeline, part) for part in pipeline._lora_loadable_modules if getattr(pipeline, part, None)}
    before = {part: _copy(network) for part, network in parts.items()}
    pipeline.load_lora_weights(str(file.parent), weight_name=file.name, local_files_only=True, adapter_name="taken")
    touched = [part for part, network in parts.items() if getattr(network, "peft_config", None)]
    pipeline.fuse_lora(components=touched, lora_scale=scale)
    pipeline.unload_lora_weights()
    _check_changed(file, weights, scale, {part: (before[part], parts[part]) for part in parts})
    for part in touched:
        _save(parts[part], folder / part)


def _peft_folders(adapter: Path, taken: Iterable[str], folder: Path) -> dict[str, Path]:
    """The folders of an adapter of PEFT, by the part of the pipeline that they change.  taken : its files' names."""
    configs = [Path(name) for name in taken if Path(name).name == PEFT_CONFIG]
    if configs == [Path(PEFT_CONFIG)]:
        return {next(part for part in NETWORKS if (folder / part).is_dir()): adapter}
    found = {config.parent.name: adapter / config.parent for config in configs}
    for part, of_part in found.items():
        if (part not in NETWORKS and not part.startswith(TEXT_ENCODER)) or not (folder / part).is_dir():
            raise InputError(f"{of_part}: its base has no part '{part}'")
    return found


def _fuse_peft(adapter: Path, scale: float, folder: Path, part: str) -> None:
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    weights = _read(adapter / PEFT_WEIGHTS)
    config = json.loads((adapter / PEFT_CONFIG).read_text(encoding="utf-8"))
    if config.get("peft_type") not in PEFT_KINDS:
        raise InputError(
            f"{adapter}: peft_type is {config.get('peft_type')!r}; those that are fused are {', '.join(PEFT_KINDS)}"
        )
    network = _network(folder, part)
    before = _copy(network)
    model: Any = PeftModel.from_pretrained(network, str(adapter), local_files_only=True)
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.set_scale("default", scale)
    merged = model.merge_and_unload()
    _check_changed(adapter, weights, scale, {part: (before, merged)})
    _save(merged, folder / part)


def _network(folder: Path, part: str) -> Any:
    """A part of a pipeline, in float32."""
    options = {"local_files_only": True, "use_safetensors": True}
    config = json.loads((folder / part / CONFIG).read_text(encoding="utf-8"))
    if part in NETWORKS:
        if config["_class_name"] not in loading.NETWORKS:
            raise InputError(
                f"{folder / part}: is a {config['_class_name']}; supported are {', '.join(loading.NETWORKS)}"
            )
        kind = getattr(diffusers, config["_class_name"])
        return kind.from_pretrained(folder, subfolder=part, torch_dtype=torch.float32, **options)
    import transformers

    if (name := config["architectures"][0]) not in ENCODERS:
        raise InputError(f"{folder / part}: is a {name}; supported are {', '.join(ENCODERS)}")
    kind = getattr(transformers, name)
    return kind.from_pretrained(folder, subfolder=part, dtype=torch.float32, **options)


def _copy(network: nn.Module) -> Weights:
    return {name: weight.clone() for name, weight in network.state_dict().items()}


def _check_changed(adapter: Path, weights: Weights, scale: float, parts: dict[str, tuple[Weights, nn.Module]]) -> None:
    """Raise InputError unless in each part as many weights changed as the adapter has pairs that are not zero.

    parts : name -> weights before, and the network after.  A pair changes one weight, or several of a network that has
    apart what the adapter has in one.
    """
    if scale == 0:
        return
    network = next((part for part in parts if part in NETWORKS), next(iter(parts)))
    pairs = Counter(_part_of(name, network) for name in weights if _acts(name, weights))
    changed = {
        part: sum(not torch.equal(before[name], of) for name, of in after.state_dict().items() if name in before)
        for part, (before, after) in parts.items()
    }
    for part, count in pairs.items():
        if changed.get(part, 0) < count:
            raise InputError(
                f"{adapter}: has {count} pairs of matrices for {part}, and only {changed.get(part, 0)} of its weights "
                "change: it was trained for another network, or has a form that diffusers does not read"
            )
    if not any(changed.values()):
        raise InputError(f"{adapter}: changes no weight of its base: it was not trained")


def _part_of(name: str, network: str) -> str:
    return next((part for begin, part in PART_OF.items() if name.startswith(begin)), network)


def _acts(name: str, weights: Weights) -> bool:
    """Whether this is the first matrix of a pair that is not zero."""
    found = DOWN.fullmatch(name)
    if not found:
        return False
    return all(bool(of.any()) for other, of in weights.items() if other.startswith(found[1]) and of.ndim > 1)


def _add_token(file: Path, weights: Weights, folder: Path) -> None:
    """Add the token of a textual inversion to the tokenizers, its embeddings to the text encoders.

    Of several vectors each has a token, '<mine>', '<mine>_1', ..., and prompts name the first: see `texts`.
    """
    pipeline = _pipeline(file, folder)
    if _is_sdxl(pipeline) and set(weights) == set(OF_ENCODERS):
        token, embeddings = file.stem, {OF_ENCODERS[name]: embedding for name, embedding in weights.items()}
    elif len(weights) == 1 and not (folder / f"{TEXT_ENCODER}_2").is_dir():
        (name, embedding), *_ = weights.items()
        token = file.stem if name in UNNAMED else name
        embeddings = {"": embedding}
    else:
        raise InputError(
            f"{file}: holds {len(weights)} arrays, and no LoRA: a textual inversion has one, for a pipeline with one "
            "text encoder, or clip_l and clip_g, for SDXL"
        )
    counts = {embedding.numel() // embedding.shape[-1] for embedding in embeddings.values()}
    if len(counts) > 1:
        raise InputError(f"{file}: clip_l and clip_g have {' and '.join(map(str, sorted(counts)))} vectors")
    names = [token, *(f"{token}_{number}" for number in range(1, *counts))]
    if len(names) > (most := pipeline.tokenizer.model_max_length - 2):  # but for those of start and end
        raise InputError(f"{file}: has {len(names)} vectors, and a prompt of its base {most} tokens")
    for number, embedding in embeddings.items():
        width = getattr(pipeline, f"{TEXT_ENCODER}{number}").get_input_embeddings().weight.shape[-1]
        if embedding.shape[-1] != width:
            raise InputError(
                f"{file}: has vectors of {embedding.shape[-1]} numbers for {TEXT_ENCODER}{number}, which takes {width} "
                "in its base: it was trained for another model"
            )
    for number, embedding in embeddings.items():
        tokenizer, encoder = (getattr(pipeline, f"{part}{number}") for part in (TOKENIZER, TEXT_ENCODER))
        pipeline.load_textual_inversion(embedding, token=token, tokenizer=tokenizer, text_encoder=encoder)
        tokenizer.save_pretrained(folder / f"{TOKENIZER}{number}")
        encoder.save_pretrained(folder / f"{TEXT_ENCODER}{number}")
    several = f", of {len(names)} vectors" if len(names) > 1 else ""
    print(f"{file}: its token is '{token}'{several}: without it in a caption it changes no score")
    known = json.loads((folder / TOKENS).read_text(encoding="utf-8")) if (folder / TOKENS).is_file() else {}
    write_json(folder / TOKENS, known | {token: names})


def _is_sdxl(pipeline: Any) -> bool:
    return type(pipeline).__name__.startswith("StableDiffusionXL")
