"""A model of NVIDIA's EDM (NVlabs/edm).  Checked with 008a4e5.

Copy this folder to my_model, and run convert.py once, in a clone of EDM: it writes weights.safetensors and config.json.
Put training/, torch_utils/ and dnnlib/ of EDM into my_model, or its clone on PYTHONPATH.  dnnlib needs requests, and
from Python 3.12 on setuptools.

Its images are in [-1, 1].  x_sigma = x_0 + sigma epsilon, and the network says x_0: EDM, VP, VE and iDDPM
preconditioning alike.  It was trained on all sigma; the timesteps are 1,000 of them, spaced as in EDM's sampler from
0.002 to 80, within what the network takes.  Class-conditional networks are refused, since this one is told no labels.
"""

import json

import torch
from safetensors.torch import load_file
from torch import nn
from training import networks

COUNT, LOWEST, HIGHEST, RHO = 1000, 0.002, 80.0, 7  # `edm_sampler` in EDM's generate.py


class Epsilon(nn.Module):
    """epsilon of x_t = x_0 + sigma epsilon.  sigma : (T,) float64."""

    def __init__(self, network, sigma):
        super().__init__()
        self.network = network
        self.register_buffer("sigma", sigma)

    def forward(self, x, t):
        sigma = self.sigma[t][:, None, None, None]
        return (x - self.network(x, sigma)) / sigma


def load(folder):
    """The network, its process and the shape of an image."""
    config = json.loads((folder / "config.json").read_text())
    network = getattr(networks, config["class"])(**config["arguments"] | {"use_fp16": False})
    if network.label_dim:
        raise ValueError("config.json: label_dim: this network is told no labels (see model.py)")
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    ends = max(LOWEST, network.sigma_min) ** (1 / RHO), min(HIGHEST, network.sigma_max) ** (1 / RHO)
    sigma = torch.linspace(*ends, COUNT, dtype=torch.float64) ** RHO
    sigma = network.round_sigma(sigma).unique()  # iDDPM knows some alone
    return {
        "network": Epsilon(network, sigma),
        "alpha": torch.ones_like(sigma),
        "sigma": sigma,
        "shape": (network.img_channels, network.img_resolution, network.img_resolution),
    }
