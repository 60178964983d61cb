"""A model of OpenAI's guided-diffusion, or with one line changed of improved-diffusion.

Checked with guided-diffusion 22e0df8 and improved-diffusion 1bc7bbb.  Install it from its repository, or put its folder
guided_diffusion/ into my_model.  For improved-diffusion import from improved_diffusion.script_util below.

Copy this folder to my_model, write into config.json the flags of training (those that are no defaults; the ones there
are of 256x256_diffusion_uncond.pt), and convert the checkpoint once, that of the moving average:

    import torch
    from safetensors.torch import save_file

    weights = torch.load("ema_0.9999_500000.pt", map_location="cpu", weights_only=True)
    save_file({name: value.clone() for name, value in weights.items()}, "my_model/weights.safetensors")

Its images are in [-1, 1].  A learned variance is left out; predict_xstart becomes epsilon; class-conditional models are
refused, since this network is told no labels: where all images are of one class, pass it as y in `forward`.
"""

import json

import torch
from guided_diffusion.script_util import create_model_and_diffusion, model_and_diffusion_defaults
from safetensors.torch import load_file
from torch import nn

OFF = {"use_fp16": False, "use_checkpoint": False, "timestep_respacing": ""}  # no part of the model


class Epsilon(nn.Module):
    """epsilon of x_t, whatever the network predicts."""

    def __init__(self, network, diffusion, predict_xstart):
        super().__init__()
        self.network, self.diffusion, self.predict_xstart = network, diffusion, predict_xstart

    def forward(self, x, t):
        output = self.diffusion._wrap_model(self.network)(x, t)[:, : x.shape[1]]  # which rescales t
        return self.diffusion._predict_eps_from_xstart(x, t, output) if self.predict_xstart else output


def load(folder):
    """The network, its process and the shape of an image."""
    config = model_and_diffusion_defaults() | json.loads((folder / "config.json").read_text())
    if config["class_cond"]:
        raise ValueError("config.json: class_cond: this network is told no labels (see model.py)")
    network, diffusion = create_model_and_diffusion(**config | {key: OFF[key] for key in OFF if key in config})
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    return {
        "network": Epsilon(network, diffusion, config["predict_xstart"]),
        "alpha": torch.from_numpy(diffusion.sqrt_alphas_cumprod),
        "sigma": torch.from_numpy(diffusion.sqrt_one_minus_alphas_cumprod),
        "shape": (3, config["image_size"], config["image_size"]),
    }
