"""The same target before any training: its architecture with weights drawn anew, all else as it is."""

import torch
from diffusers import ModelMixin
from torch import nn

from stages.diffusion.denoiser import Denoiser


def untrained(target: Denoiser, seed: int) -> Denoiser:
    """The target's process, prediction, condition and autoencoder, with a network that has learnt nothing.

    It runs in plain float32.
    """
    network = reinitialised(target.network, seed)
    return Denoiser(network, target.process, target.device, target.prediction, target.condition, target.autoencoder)


def reinitialised(network: ModelMixin, seed: int) -> ModelMixin:
    """A network of the same configuration on the CPU, its weights drawn by the seed as its layers draw them.

    A weight that its layer sets to zero, as the last one of many networks, is drawn like that of any other layer: the
    network would return a constant else.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(network).from_config(network.config)
        for weight in fresh.parameters():
            if weight.ndim > 1 and not weight.any():
                nn.init.kaiming_uniform_(weight, a=5**0.5)  # as nn.Linear and nn.Conv2d do
    return fresh
