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
from dataclasses import dataclass
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
from leakgauge.files import file_hash, files_below, write_json
from leakgauge.options import BaseFolder, BaseOnHub, HubPipeline, Taking


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
ROUNDED = ("fp16", "bf16")  # variants that are the same weights in half precision, by convention
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")  # parts that no score depends on
TEXT_ENCODER, TOKENIZER = "text_encoder", "tokenizer"
TEXTS = tuple(f"{part}{number}" for number in ("", "_2", "_3", "_4") for part in (TOKENIZER, TEXT_ENCODER))
KEPT = ("transformer", "unet", "vae", "vqvae", "scheduler", *TEXTS)  # parts that are opened
LIBRARIES = ("diffusers", "transformers")
INDEX, BASE, DEFAULT = "model_index.json", "target.base", Taking()
TOKENS = "learnt_tokens.json"  # beside it, of textual inversions: token -> the names of its vectors, itself the first
# What diffusers' training scripts leave beside the pipeline that they save: states to go on from.
TRAINING = re.compile(r"checkpoint-\d+/.*|(optimizer|scheduler|sampler)\w*\.bin|scaler\.pt|random_states_\d+\.pkl")


@dataclass(frozen=True)
class Plan:
    """What becomes of each file of a pipeline folder.  taken : name -> what it is called in a copy."""

    taken: dict[str, str]
    not_taken: list[str]


def copy_pipeline(
    source: Path, destination: Path, options: Taking = DEFAULT, pickle: str | None = None, key: str = "target"
) -> list[str]:
    """Copy what is opened of a pipeline folder.  `destination` then holds safetensors of diffusers' plain names.

    Returns the names of the files that were not taken.  Raises InputError, as `plan` does.
    """
    found = plan(source, options, pickle, key)
    for name, plain in found.taken.items():
        _copy(source / name, destination / plain)
    if pickle:
        _convert(source / pickle, destination / Path(pickle).parent)
    return found.not_taken


def plan(source: Path, options: Taking = DEFAULT, pickle: str | None = None, key: str = "target") -> Plan:
    """Which files of a pipeline folder are taken, by their names alone.

    pickle : a pickled file of weights, relative to `source`, to be taken in place of its folder's safetensors; it is
    read as tensors alone.  key : of the options, for errors.

    Raises InputError for a link that leads out of the folder, for a part that cannot be scored, and for weights that
    are not taken: to leave them out in silence might take another model than was meant.
    """
    variant, names = options.variant, [file.relative_to(source).as_posix() for file in files_below(source)]
    if INDEX not in names:
        raise InputError(f"{source}: not a diffusers pipeline folder: it has no {INDEX}{_instead(source, names)}")
    if pickle and pickle not in names:
        raise InputError(f"{source}: has no {pickle}, which {key}.pickle names")
    left_out = {name for name in names if any(fnmatchcase(name, pattern) for pattern in options.leave_out)}
    parts = _parts([name for name in names if name not in left_out])
    _check_index(source, names)
    taken = {INDEX: INDEX}  # name -> what it is called in `destination`
    for part in parts:
        taken |= _of_part(source, part, [name for name in names if name not in left_out], variant, key)
    if variant and not any(f".{variant}" in name for name in taken):
        raise InputError(f"{source}: has no weights of variant '{variant}', which {key}.variant names")
    if pickle:
        if Path(pickle).parent.as_posix() not in parts:
            raise InputError(f"{source}: {key}.pickle: {pickle} lies in no part of the pipeline ({', '.join(parts)})")
        taken = {name: plain for name, plain in taken.items() if not _replaced(name, pickle)}
    for name in sorted({*names} - {*taken} - left_out - {pickle}):
        known = _is_known(name, taken) or (pickle and _replaced(name, pickle)) or (variant and _is_set(name, parts))
        if name.endswith(WEIGHTS) and not known:
            _refuse(source, name, key)
    return Plan(taken, [name for name in names if name not in taken and name != pickle])


def _instead(source: Path, names: list[str]) -> str:
    """What the folder is, where it is something else that is known."""
    if snapshots := sorted((source / "snapshots").glob("*/" + INDEX)):
        return f": it is a repository of the Hub's cache: name {snapshots[-1].parent}, one of its commits"
    if inner := [name for name in names if name.endswith("/" + INDEX)]:
        return f"; {Path(inner[0]).parent} in it has one"
    if "unet/config.json" in names or "transformer/config.json" in names:
        return ", only parts of one: save the whole pipeline (save_pretrained of the pipeline, not of the network)"
    return ""


def _check_index(source: Path, names: list[str]) -> None:
    """Raises InputError unless every part that the index names is known here, and there."""
    path = source / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(index, dict):
        raise InputError(f"{path}: holds a {type(index).__name__}, expected the parts of a pipeline by name")
    for part, of in index.items():
        if part in KEPT and isinstance(of, list) and not any(of) and any(name.startswith(f"{part}/") for name in names):
            raise InputError(
                f"{path}: the pipeline goes without {part}, but there is a folder {part}/: remove one of both"
            )
        if not isinstance(of, list) or part.startswith("_") or not any(of):
            continue  # an option, or a part that the pipeline goes without
        if part in KEPT and not any(name.startswith(f"{part}/") for name in names):
            raise InputError(f"{path}: names the part {part}, but there is no folder {part}/: a download cut short?")
        if part in KEPT and of[0] not in LIBRARIES:
            raise InputError(f"{path}: the part {part} is of {of[0]}; parts of {' and '.join(LIBRARIES)} are opened")
        if part not in (*KEPT, *UNUSED):
            raise InputError(
                f"{path}: the part '{part}' ({of[-1]}) is not supported: what the model does depends on it, "
                "and no score would know; score images with the model's own code (scores from elsewhere)"
            )


def _parts(names: list[str]) -> list[str]:
    """The folders that are opened: one network, one autoencoder at most, and what goes with them."""
    there = {name.partition("/")[0] for name in names if "/" in name}
    one_of = (("transformer", "unet"), ("vae", "vqvae"), ("scheduler",), *((part,) for part in TEXTS))
    found = [[part for part in choice if part in there][:1] for choice in one_of]
    return [part for choice in found for part in choice]


def _of_part(source: Path, part: str, names: list[str], variant: str | None, key: str) -> dict[str, str]:
    """What is taken of a part: name -> the plain name.  Raises InputError where it must be said which weights."""
    files = [name for name in names if Path(name).parent.as_posix() == part]
    taken = {name: name for name in files if name.endswith((".json", ".txt")) and ".safetensors.index" not in name}
    if part.startswith(TOKENIZER):
        return {name: name for name in files if name.endswith((".json", ".txt", ".model", ".jinja"))}
    sets: dict[str, dict[str, str]] = {}  # of weights: variant, "" for the plain one -> name -> the plain name
    for name in files:
        if found := _weights_name(part, Path(name).name):
            sets.setdefault(found[0], {})[name] = f"{part}/{found[1]}"
    for of_set in sets.values():
        plain = f"{part}/{_stem(part)}.safetensors"
        if plain in of_set.values() and len(of_set) > 1:
            raise InputError(
                f"{source}: {part} has weights in one file and in shards ({', '.join(sorted(of_set))}): "
                "they may be two models: move one away"
            )
    if variant in sets:
        return taken | sets[variant]
    if "" not in sets and len(sets) > 1:
        raise InputError(
            f"{source}: {part} has several sets of weights: name one by {key}.variant: {' or '.join(sorted(sets))}"
        )
    return taken | (sets.get("") or next(iter(sets.values()), {}))


def _weights_name(part: str, file: str) -> tuple[str, str] | None:
    """The variant of a file of weights, or of the index of its shards, and its name without; None of other files.

    diffusers and transformers call them <stem>[.<variant>][-00001-of-00002].safetensors, and earlier
    <stem>[-00001-of-00002][.<variant>].safetensors; the index <stem>.safetensors.index[.<variant>].json.
    """
    stem, shard, kind = _stem(part), r"(?P<shard>-\d{5}-of-\d{5})?", r"(?:\.(?P<variant>[\w-]+?))?"
    for pattern in (rf"{stem}{kind}{shard}\.safetensors", rf"{stem}{shard}{kind}\.safetensors"):
        if found := re.fullmatch(pattern, file):
            return found["variant"] or "", f"{stem}{found['shard'] or ''}.safetensors"
    if found := re.fullmatch(rf"{stem}\.safetensors\.index{kind}\.json", file):
        return found["variant"] or "", f"{stem}.safetensors.index.json"
    return None


def _stem(part: str) -> str:
    """What the weights of a part are called."""
    return "model" if part.startswith(TEXT_ENCODER) else "diffusion_pytorch_model"


def _is_known(name: str, taken: dict[str, str]) -> bool:
    """Whether weights that are not taken are no second model: of an unused part, a training state, or rounded."""
    rounded = any(f".{kind}" in Path(name).name for kind in ROUNDED)
    beside = any(Path(name).parent == Path(other).parent and other.endswith(".safetensors") for other in taken)
    return Path(name).parts[0] in UNUSED or bool(TRAINING.fullmatch(name)) or (rounded and beside)


def _is_set(name: str, parts: list[str]) -> bool:
    """Whether weights are one of the sets of a part, of which one was named."""
    part, _, file = name.partition("/")
    return part in parts and _weights_name(part, file) is not None


def _copy(file: Path, destination: Path) -> None:
    """Copy a file; an index of shards then names them as they are called there."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    if ".safetensors.index" not in file.name or file.name == destination.name:
        shutil.copyfile(file, destination)
        return
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
        found = {key: _weights_name(file.parent.name, name) for key, name in index["weight_map"].items()}
        index["weight_map"] = {key: names[1] for key, names in found.items() if names}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: no index of shards: {error}") from None
    write_json(destination, index)


def _replaced(name: str, pickle: str) -> bool:
    """Whether a file is among the weights that the pickle stands in for; shards have an index."""
    return Path(name).parent == Path(pickle).parent and ".safetensors" in Path(name).name


def _refuse(source: Path, name: str, key: str) -> None:
    leave = f"name it in {key}.leave_out: ['{name}'] if it is no part of the model"
    if not name.endswith(PICKLES):
        if "lora" in name.lower() or "adapter" in name.lower():
            raise InputError(
                f"{source}: {name} are weights of an adapter: move it out of the folder, and audit it with this folder "
                f"as its base (target.base), or {leave}"
            )
        variant = (found := _weights_name(Path(name).parent.name, Path(name).name)) and found[0]
        take = f"to take them instead, say {key}.variant: {variant}; " if variant and "/" in name else ""
        raise InputError(
            f"{source}: {name} are weights beside those that are taken (<part>/diffusion_pytorch_model.safetensors, "
            f"text_encoder/model.safetensors): {take}{leave}, or move it away"
        )
    beside = any((source / name).parent.glob("*.safetensors"))
    if key != "target":  # pickles are taken of a target alone
        raise InputError(f"{source}: {name} is a pickle: {'remove' if beside else 'convert'} it, or {leave}")
    if beside:
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
    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", *([pickle] if pickle else [])]
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
    pipeline: HubPipeline,
    work: Path,
    destination: Path,
    options: Taking,
    pickle: str | None = None,
    key: str = "target",
) -> list[str]:
    """`copy_pipeline` of a repository on the Hub, by way of the folder `work`."""
    downloaded = work / pipeline.repo
    shutil.rmtree(downloaded, ignore_errors=True)
    try:
        download(pipeline, pickle, options.leave_out, downloaded)
        return copy_pipeline(downloaded, destination, options, pickle, key)
    except InputError as error:
        raise InputError(str(error).replace(str(downloaded), pipeline.repo)) from None


def take_base(named: BaseOnHub | BaseFolder, work: Path, destination: Path) -> tuple[Path, list[str]]:
    """`copy_pipeline` of what `target.base` names, and what errors call it.  Raises InputError."""
    if isinstance(named, BaseOnHub):
        return Path(named.repo), take_from_hub(named, work / "hub", destination, named, key=BASE)
    check_pin(Path(named.path), named.sha256)
    return Path(named.path), copy_pipeline(Path(named.path), destination, named, key=BASE)


def check_pin(path: Path, sha256: str) -> None:
    """Raise InputError unless a file or folder has this hash."""
    if (found := file_hash(path)) != sha256:
        raise InputError(f"the sha256 of {path} is {found}, not the pinned {sha256}: it has changed")


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
