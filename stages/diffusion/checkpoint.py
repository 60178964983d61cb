"""Pickled checkpoints, opened without running what is in them: tensors and plain containers, nothing else."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.command import InputError


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
