"""A model of one's own: a folder with model.py, whose function `load` opens it.  Its code is run, by nothing confined.

# my_model/model.py: what it reads lies beside it, so that DVC watches all of it
import torch
from safetensors.torch import load_file
from my_code import Network  # installed, or in my_model/

def load(folder):
    network = Network()
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    signal = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    return {
        "network": network,  # an nn.Module: network(x, t) is epsilon; x (B, C, H, W) float32 in [-1, 1], t (B,) int64
        "alpha": signal.sqrt(),  # x_t = alpha[t] x_0 + sigma[t] epsilon
        "sigma": (1 - signal).sqrt(),
        "shape": (3, 32, 32),  # (C, H, W) of an image
    }
"""

import copy
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.configuration_utils import FrozenDict
from torch import Tensor, nn

from leakgauge.diffusion.process import NoiseProcess
from leakgauge.errors import InputError
from leakgauge.files import files_below

CODE = "model.py"
KEYS = {"network", "alpha", "sigma", "shape"}
SHIFTS = ("b", "beta", "bias", "shift")  # what weights of a norm are called that it adds; by others it multiplies


class OwnNetwork(nn.Module):
    """A network as one of diffusers is called.  network : of x_t (B, C, H, W) and t (B,).  shape : (C, H, W)."""

    def __init__(self, network: nn.Module, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.network = network
        self.config = FrozenDict(in_channels=shape[0], out_channels=shape[0], sample_size=list(shape[1:]))

    def forward(self, x: Tensor, timestep: Tensor) -> SimpleNamespace:
        """epsilon, as `sample`."""
        return SimpleNamespace(sample=self.network(x, timestep))

    def reinitialised(self) -> "OwnNetwork":
        """One that has learnt nothing: every layer that can draws its weights anew.

        Of other layers, norms (by the name of their class) get scale 1 and shift 0: noise as the scale would all but
        switch them off.  Weights that are all equal stay, since training leaves none so; others become normal noise.
        """
        fresh = copy.deepcopy(self).cpu()
        drawn: set[int] = set()
        for layer in fresh.modules():
            own = dict(layer.named_parameters(recurse=False))
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
            elif "norm" in type(layer).__name__.lower():
                for name, weight in own.items():
                    nn.init.constant_(weight, 0.0 if name in SHIFTS else 1.0)
            else:
                continue
            drawn |= {id(weight) for weight in own.values()}
        for weight in fresh.parameters():
            std = float(weight.detach().std()) if weight.numel() > 1 else 1.0
            if id(weight) not in drawn and std > 0:
                nn.init.normal_(weight, std=std)
        return fresh


def copy_own(source: Path, destination: Path) -> None:
    """Copy the folder of such a model.  Raises InputError for a link that leads out of it, or without model.py."""
    if not (source / CODE).is_file():
        raise InputError(f"{source}: has no {CODE}, which `source: python` runs")
    for file in files_below(source):
        if "__pycache__" not in file.parts:
            (destination / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, destination / file.relative_to(source))


def open_own(folder: Path) -> tuple[OwnNetwork, NoiseProcess]:
    """Run `load` of the folder's model.py.  Raises InputError for what it returns or raises that is no model."""
    found = _loaded(folder)
    if not isinstance(found, dict) or set(found) != KEYS:
        raise InputError(f"{folder / CODE}: load returns no dictionary of {', '.join(sorted(KEYS))}")
    network, shape = found["network"], found["shape"]
    if not isinstance(network, nn.Module):
        raise InputError(f"{folder / CODE}: load: network is a {type(network).__name__}, no torch.nn.Module")
    if (
        not isinstance(shape, list | tuple)
        or len(shape) != 3
        or not all(isinstance(side, int) and side > 0 for side in shape)
    ):
        raise InputError(f"{folder / CODE}: load: shape is {shape!r}, expected channels, height and width of an image")
    try:
        levels = [torch.as_tensor(found[name], dtype=torch.float64) for name in ("alpha", "sigma")]
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{folder / CODE}: load: alpha and sigma are no numbers: {error}") from None
    if levels[0].ndim != 1 or levels[0].shape != levels[1].shape:
        raise InputError(f"{folder / CODE}: load: alpha and sigma are no rows of one length, a number a timestep")
    process = NoiseProcess(*levels)
    if problem := process.problem():
        raise InputError(f"{folder / CODE}: load: {problem}")
    for name, weight in network.named_parameters():
        if not torch.isfinite(weight).all():
            raise InputError(f"{folder / CODE}: weights are not finite (NaN or inf in '{name}')")
    return OwnNetwork(network.float(), tuple(shape)), process.with_signal()


def _loaded(folder: Path) -> Any:
    """What `load` returns; modules beside model.py can be imported while it runs, and are forgotten then.

    Nothing is written into the folder: DVC would see it change.
    """
    spec = importlib.util.spec_from_file_location("own_model", folder / CODE)
    if spec is None or spec.loader is None:
        raise InputError(f"{folder / CODE}: cannot be imported")
    module, path = importlib.util.module_from_spec(spec), str(folder.resolve())
    known, writes_nothing = set(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, path)
    sys.dont_write_bytecode = True
    try:
        spec.loader.exec_module(module)
        return module.load(folder)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the user's own code raises anything
        raise InputError(f"{folder / CODE}: load: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(path)
        sys.dont_write_bytecode = writes_nothing
        for name in set(sys.modules) - known:
            if any(place.startswith(f"{path}{os.sep}") for place in _places(sys.modules[name])):
                del sys.modules[name]


def _places(module: Any) -> list[str]:
    """The file of a module, and the folders of a package: one without __init__.py has no file."""
    return [str(getattr(module, "__file__", None)), *map(str, getattr(module, "__path__", []))]
