"""Take a pipeline in: a folder or a download is checked, and only what is opened is copied.

A diffusers pipeline folder, taken as it is; weights that come pickled only where they are asked for by name.

Only what is opened is copied: `model_index.json`, and of each part its configuration and its weights. Other files
are listed as not taken. Weights among them are refused by name: an adapter or a second set would make another model.
"""

import hashlib
import json
import re
import shutil
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import disable_progress_bars, filter_repo_objects, logging
from safetensors.torch import save_file
from torch import Tensor

from leakgauge.errors import InputError
from leakgauge.files import file_hash, files_below
from leakgauge.options import HubPipeline


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The dictionary in a file of `torch.save`, on the CPU.  Raises InputError for anything else."""
    if not path.is_file():
        raise InputError(f"{path}: not found")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # bytes that are no checkpoint raise nearly anything, and advise to unpickle them
        raise InputError(
            f"{path}: not a checkpoint of tensors that torch can read ({type(error).__name__}): "
            "damaged, or it holds objects, which are never unpickled here"
        ) from None
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path}: holds a {type(checkpoint).__name__}, expected a dictionary of weights")
    return checkpoint


def check_weights(path: Path, weights: Any) -> dict[str, Tensor]:
    """`weights` once it is clear that they are names with tensors of finite numbers.  Raises InputError."""
    if not isinstance(weights, dict) or not weights:
        raise InputError(f"{path}: holds no weights: expected a dictionary of tensors")
    for name, weight in weights.items():
        if not isinstance(weight, Tensor) or not weight.is_floating_point():
            kind = weight.dtype if isinstance(weight, Tensor) else type(weight).__name__
            raise InputError(f"{path}: '{name}' is no tensor of floating-point numbers but {kind}")
        if not torch.isfinite(weight).all():
            raise InputError(f"{path}: weights are not finite (NaN or inf in '{name}')")
    return weights


PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
WEIGHTS = (".safetensors", ".msgpack", ".h5", ".onnx", ".pb", ".gguf", *PICKLES)
TEXTS = (".json", ".txt")  # configurations, vocabularies
UNUSED = ("safety_checker", "feature_extractor")  # parts that no score depends on
TEXT_ENCODER = "text_encoder"
INDEX = "model_index.json"


def copy_pipeline(source: Path, destination: Path, pickle: str | None, leave_out: list[str]) -> list[str]:
    """Copy what is opened of a pipeline folder.  `destination` then holds safetensors, whatever `source` has.

    pickle : a pickled file of weights, relative to `source`, to be taken in place of its folder's safetensors; it is
    read as tensors alone.  leave_out : patterns of files that are no part of the model.  Returns the names of the files
    that were not taken.  Raises InputError for a link that leads out of the folder, and for weights that are not taken:
    to leave them out in silence might take another model than was meant.
    """
    names = [file.relative_to(source).as_posix() for file in files_below(source)]
    if INDEX not in names:
        raise InputError(f"{source}: not a diffusers pipeline folder: it has no {INDEX}")
    _check_index(source / INDEX)
    if pickle and pickle not in names:
        raise InputError(f"{source}: has no {pickle}, which target.pickle names")
    left_out = {name for name in names if any(fnmatchcase(name, pattern) for pattern in leave_out)}
    parts = _parts([name for name in names if name not in left_out])
    taken = [name for name in names if name == INDEX or (_is_of(name, parts) and name not in left_out)]
    if pickle:
        if Path(pickle).parent.as_posix() not in parts:
            raise InputError(f"{source}: target.pickle: {pickle} lies in no part of the pipeline ({', '.join(parts)})")
        taken = [name for name in taken if not _replaced(name, pickle)]
    for name in sorted({*names} - {*taken} - left_out - {pickle}):
        if name.endswith(WEIGHTS) and Path(name).parts[0] not in UNUSED and not (pickle and _replaced(name, pickle)):
            _refuse(source, name)
    for name in taken:
        (destination / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, destination / name)
    if pickle:
        _convert(source / pickle, destination / Path(pickle).parent)
    return [name for name in names if name not in taken and name != pickle]


def _check_index(path: Path) -> None:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(index, dict):
        raise InputError(f"{path}: holds a {type(index).__name__}, expected the parts of a pipeline by name")


def _parts(names: list[str]) -> list[str]:
    """The folders that are opened: one network, one autoencoder at most, and what goes with them."""
    there = {name.partition("/")[0] for name in names if "/" in name}
    texts = [(f"{part}{number}",) for number in ("", "_2", "_3") for part in ("tokenizer", TEXT_ENCODER)]
    one_of = (("transformer", "unet"), ("vae", "vqvae"), ("scheduler",), *texts)
    found = [[part for part in choice if part in there][:1] for choice in one_of]
    return [part for choice in found for part in choice]


def _is_of(name: str, parts: list[str]) -> bool:
    """Whether a file is the configuration or the weights of one of these parts, by diffusers' names."""
    part, _, file = name.partition("/")
    return part in parts and "/" not in file and (file.endswith(TEXTS) or _is_main(part, file))


def _is_main(part: str, file: str) -> bool:
    return bool(re.fullmatch(rf"{_stem(part)}(-\d{{5}}-of-\d{{5}})?\.safetensors", file))


def _stem(part: str) -> str:
    """What the weights of a part are called."""
    return "model" if part.startswith(TEXT_ENCODER) else "diffusion_pytorch_model"


def _replaced(name: str, pickle: str) -> bool:
    """Whether a file is among the weights that the pickle stands in for; shards have an index."""
    return Path(name).parent == Path(pickle).parent and ".safetensors" in Path(name).name


def _refuse(source: Path, name: str) -> None:
    leave = f"name it in target.leave_out: ['{name}'] if it is no part of the model"
    if not name.endswith(PICKLES):
        if "lora" in name.lower() or "adapter" in name.lower():
            raise InputError(
                f"{source}: {name} are weights of an adapter, which is not supported: merge it into the network "
                f"(diffusers: fuse_lora, unload_lora_weights, save_pretrained), or {leave}"
            )
        raise InputError(
            f"{source}: {name} are weights beside those that are taken (<part>/diffusion_pytorch_model.safetensors, "
            f"text_encoder/model.safetensors): {leave}, or move it away"
        )
    if any((source / name).parent.glob("*.safetensors")):
        raise InputError(
            f"{source}: {name} is a pickle where safetensors exist: remove it, "
            f"or name it in target.pickle to take it in their stead; {leave}"
        )
    raise InputError(
        f"{source}: {name} is a pickle, and there are no safetensors beside it: convert it, "
        f"or name it in target.pickle to take it (as tensors alone: nothing in it is run); {leave}"
    )


def _convert(pickle: Path, part: Path) -> None:
    """Put the tensors of a pickle where the copied part has its safetensors."""
    weights = check_weights(pickle, load_checkpoint(pickle))
    tensors = {name: weight.clone().contiguous() for name, weight in weights.items()}  # none may share memory
    part.mkdir(parents=True, exist_ok=True)
    save_file(tensors, part / f"{_stem(part.name)}.safetensors", metadata={"format": "pt"})


def download(pipeline: HubPipeline, pickle: str | None, leave_out: list[str], destination: Path) -> None:
    """Put the pipeline's JSON and safetensors, and the one pickle that is asked for by name, into `destination`.

    leave_out : patterns of files that are not fetched.  The others stay in the Hub's cache, so that another run needs
    no network.  Raises InputError if the Hub cannot be reached, does not have them, or if their bytes are not those it
    names.
    """
    patterns = ["*.json", "*.safetensors", "*.txt", *([pickle] if pickle else [])]
    cached = _cached(pipeline, patterns, leave_out)
    present = [file.relative_to(cached).as_posix() for file in sorted(cached.rglob("*")) if file.is_file()]
    # other programs may have cached others
    names = list(filter_repo_objects(present, allow_patterns=patterns, ignore_patterns=leave_out))
    if not pickle and not any(name.endswith(".safetensors") for name in names):
        raise InputError(
            f"{_place(pipeline)}: has no safetensors: if its weights are pickled, name their file in "
            "target.pickle, like unet/diffusion_pytorch_model.bin (it is read as tensors alone, never run)"
        )
    for name in names:
        blob = (cached / name).resolve()
        if _content_hash(blob) != blob.name:
            raise InputError(f"{_place(pipeline)}: {name} is damaged: delete {blob} and run again")
        (destination / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(blob, destination / name)


def take_from_hub(
    pipeline: HubPipeline, pickle: str | None, leave_out: list[str], work: Path, destination: Path
) -> list[str]:
    """`copy_pipeline` of a repository on the Hub, by way of the folder `work`."""
    downloaded = work / pipeline.repo
    shutil.rmtree(downloaded, ignore_errors=True)
    try:
        download(pipeline, pickle, leave_out, downloaded)
        return copy_pipeline(downloaded, destination, pickle, leave_out)
    except InputError as error:
        raise InputError(str(error).replace(str(downloaded), pipeline.repo)) from None


def _cached(pipeline: HubPipeline, patterns: list[str], leave_out: list[str]) -> Path:
    """The commit's folder in the Hub's cache, with its files of these patterns and perhaps others."""
    logging.set_verbosity_error()  # not a line for every retry
    if not sys.stderr.isatty():
        disable_progress_bars()
    place = _place(pipeline)
    offline = (
        f"download it where it can be (`hf download {pipeline.repo} --revision {pipeline.revision} "
        "--exclude '*.bin' --local-dir FOLDER`) and use `model: FOLDER`"
    )
    try:
        return Path(
            snapshot_download(
                pipeline.repo, revision=pipeline.revision, allow_patterns=patterns, ignore_patterns=leave_out
            )
        )
    except LocalEntryNotFoundError:
        raise InputError(f"{place}: the Hub cannot be reached: {offline}") from None
    except HfHubHTTPError as error:
        raise InputError(f"{place}: the Hub does not hand it out: {str(error).splitlines()[0]}") from None
    except (HTTPError, ValueError) as error:  # a proxy that refuses, a name that no repository has
        raise InputError(f"{place}: cannot be downloaded ({error}): {offline}") from None


def _place(pipeline: HubPipeline) -> str:
    return f"{pipeline.repo} at {pipeline.revision}"


def _content_hash(blob: Path) -> str:
    """What the Hub's cache names a file: its SHA-256 if it is stored as a large file, else its Git blob's SHA-1."""
    if len(blob.name) == 64:
        return file_hash(blob)
    content = blob.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
