"""A model of MONAI: its DiffusionModelUNet with its DDPMScheduler.  Checked with version 1.6.1 (monai[einops]).

Copy this folder to my_model, write your own arguments into config.json, and convert the weights once:

    import torch
    from safetensors.torch import save_file

    weights = torch.load("model.pt", map_location="cpu", weights_only=True)
    save_file({name: value.clone() for name, value in weights.items()}, "my_model/weights.safetensors")

`range` is that of the images in training: MONAI's tutorials have [0, 1], and it is converted.  `size` is their height
and width.  epsilon, sample and v_prediction all become epsilon.  Refused are volumes, networks that are told classes or
a context, and so latent models, whose autoencoder is not here.
"""

import json

from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDPMScheduler
from safetensors.torch import load_file
from torch import nn


class Epsilon(nn.Module):
    """epsilon of x_t, whatever the network predicts.  Its own x_t is scale * x_t + shift * alpha."""

    def __init__(self, network, prediction_type, alpha, sigma, scale, shift):
        super().__init__()
        self.network, self.prediction_type, self.scale, self.shift = network, prediction_type, scale, shift
        self.register_buffer("alpha", alpha)
        self.register_buffer("sigma", sigma)

    def forward(self, x, t):
        alpha, sigma = self.alpha[t][:, None, None, None], self.sigma[t][:, None, None, None]
        y = self.scale * x + self.shift * alpha
        output = self.network(y, t)[:, : x.shape[1]]  # a learned variance is left out
        if self.prediction_type == "sample":
            return (y - alpha * output) / sigma
        return sigma * y + alpha * output if self.prediction_type == "v_prediction" else output


def load(folder):
    """The network, its process and the shape of an image."""
    config = json.loads((folder / "config.json").read_text())
    network, scheduler = DiffusionModelUNet(**config["network"]), DDPMScheduler(**config["scheduler"])
    if network.with_conditioning or network.num_class_embeds or config["network"]["spatial_dims"] != 2:
        raise ValueError("config.json: network: takes volumes, classes or a context (see model.py)")
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    signal = scheduler.alphas_cumprod.double()  # those of training, which were rounded to float32
    alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
    low, high = config["range"]
    scale, shift = (high - low) / 2, (high + low) / 2
    return {
        "network": Epsilon(network, scheduler.prediction_type, alpha, sigma, scale, shift),
        "alpha": alpha,
        "sigma": sigma / scale,
        "shape": (network.in_channels, *config["size"]),
    }
