"""A diffusers pipeline folder, taken as it is; weights that come pickled only where they are asked for by name."""

import shutil
from pathlib import Path

from safetensors.torch import save_file

from stages.command import InputError
from stages.diffusion.checkpoint import check_weights, load_checkpoint

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
WEIGHTS = "diffusion_pytorch_model.safetensors"  # diffusers' name for the weights of a model


def copy_pipeline(source: Path, destination: Path, pickle: str | None) -> None:
    """Copy a pipeline folder.  `destination` then holds safetensors, whatever `source` has.

    pickle : a pickled file of weights, relative to `source`, to be taken in place of its folder's safetensors; it is
    read as tensors alone.  Raises InputError for any other pickle: to leave it out in silence might take other weights
    than were meant.
    """
    if not (source / "model_index.json").is_file():
        raise InputError(f"{source}: not a diffusers pipeline folder: it has no model_index.json")
    names = [file.relative_to(source).as_posix() for file in sorted(source.rglob("*")) if file.is_file()]
    if pickle and pickle not in names:
        raise InputError(f"{source}: has no {pickle}, which train_target.pickle names")
    for name in names:
        if name.endswith(PICKLES) and name != pickle and not name.startswith("."):
            _refuse(source, name)
    shutil.copytree(source, destination, ignore=shutil.ignore_patterns(".*"))  # what Git and the Hub keep there
    if pickle:
        _convert(source / pickle, destination / pickle)


def _refuse(source: Path, name: str) -> None:
    if any((source / name).parent.glob("*.safetensors")):
        raise InputError(
            f"{source}: {name} is a pickle where safetensors exist: remove it, "
            f"or name it in train_target.pickle to take it in their stead"
        )
    raise InputError(
        f"{source}: {name} is a pickle, and there are no safetensors beside it: convert it, "
        f"or name it in train_target.pickle to take it (as tensors alone: nothing in it is run)"
    )


def _convert(pickle: Path, copy: Path) -> None:
    """Put the tensors of a pickle where the copied folder has its safetensors, and take its copy away."""
    weights = check_weights(pickle, load_checkpoint(pickle))
    for file in (copy, *copy.parent.glob("*.safetensors*")):  # with a star: shards have an index
        file.unlink()
    tensors = {name: weight.clone().contiguous() for name, weight in weights.items()}  # none may share memory
    save_file(tensors, copy.parent / WEIGHTS, metadata={"format": "pt"})
