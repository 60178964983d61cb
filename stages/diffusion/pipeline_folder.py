"""A diffusers pipeline folder, taken as it is; weights that come pickled only where they are asked for by name.

Only what is opened is copied: `model_index.json`, and of each part its configuration and its weights.  Other files are
listed as not taken.  Weights among them are refused by name: an adapter or a second set would make another model.
"""

import json
import re
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

from safetensors.torch import save_file

from stages.command import InputError
from stages.diffusion.checkpoint import check_weights, load_checkpoint
from stages.files import files_below

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
        raise InputError(f"{source}: has no {pickle}, which train_target.pickle names")
    left_out = {name for name in names if any(fnmatchcase(name, pattern) for pattern in leave_out)}
    parts = _parts([name for name in names if name not in left_out])
    taken = [name for name in names if name == INDEX or (_is_of(name, parts) and name not in left_out)]
    if pickle:
        if Path(pickle).parent.as_posix() not in parts:
            raise InputError(
                f"{source}: train_target.pickle: {pickle} lies in no part of the pipeline ({', '.join(parts)})"
            )
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
    one_of = (("transformer", "unet"), ("vae", "vqvae"), ("scheduler",), ("tokenizer",), (TEXT_ENCODER,))
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
    return "model" if part == TEXT_ENCODER else "diffusion_pytorch_model"


def _replaced(name: str, pickle: str) -> bool:
    """Whether a file is among the weights that the pickle stands in for; shards have an index."""
    return Path(name).parent == Path(pickle).parent and ".safetensors" in Path(name).name


def _refuse(source: Path, name: str) -> None:
    leave = f"name it in train_target.leave_out: ['{name}'] if it is no part of the model"
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
            f"or name it in train_target.pickle to take it in their stead; {leave}"
        )
    raise InputError(
        f"{source}: {name} is a pickle, and there are no safetensors beside it: convert it, "
        f"or name it in train_target.pickle to take it (as tensors alone: nothing in it is run); {leave}"
    )


def _convert(pickle: Path, part: Path) -> None:
    """Put the tensors of a pickle where the copied part has its safetensors."""
    weights = check_weights(pickle, load_checkpoint(pickle))
    tensors = {name: weight.clone().contiguous() for name, weight in weights.items()}  # none may share memory
    part.mkdir(parents=True, exist_ok=True)
    save_file(tensors, part / f"{_stem(part.name)}.safetensors", metadata={"format": "pt"})
