"""A model of denoising-diffusion-pytorch: its Unet in its GaussianDiffusion.  Checked with version 2.3.4.

Copy this folder to my_model, write your own arguments into config.json, and convert the checkpoint of its Trainer once:

    import torch
    from safetensors.torch import save_file

    ema = torch.load("results/model-10.pt", map_location="cpu", weights_only=True)["ema"]
    start = "ema_model."
    weights = {name[len(start) :]: value.clone() for name, value in ema.items() if name.startswith(start)}
    save_file(weights, "my_model/weights.safetensors")

pred_noise, pred_x0 and pred_v all become epsilon.  Without auto_normalize it learnt images in [0, 1]: they are
converted.  A network with self_condition is asked without, as it was in half of its training.  The package's other
diffusions (learned variance, continuous time, Elucidated) are not opened.
"""

import json

import torch
from denoising_diffusion_pytorch import GaussianDiffusion, Unet
from safetensors.torch import load_file
from torch import nn


class Epsilon(nn.Module):
    """epsilon of x_t, whatever the network predicts.  Its own x_t is scale * x_t + shift * alpha."""

    def __init__(self, diffusion, scale, shift):
        super().__init__()
        self.diffusion, self.scale, self.shift = diffusion, scale, shift

    def forward(self, x, t):
        alpha = self.diffusion.sqrt_alphas_cumprod[t][:, None, None, None]
        sigma = self.diffusion.sqrt_one_minus_alphas_cumprod[t][:, None, None, None]
        x = self.scale * x + self.shift * alpha
        output = self.diffusion.model(x, t)
        if self.diffusion.objective == "pred_x0":
            return (x - alpha * output) / sigma
        return sigma * x + alpha * output if self.diffusion.objective == "pred_v" else output


def load(folder):
    """The network, its process and the shape of an image."""
    config = json.loads((folder / "config.json").read_text(), object_hook=_with_tuples)
    diffusion = GaussianDiffusion(Unet(**config["unet"]), **config["diffusion"])
    expected = {name: value.clone() for name, value in diffusion.named_buffers()}
    diffusion.load_state_dict(load_file(folder / "weights.safetensors"))
    for name, value in diffusion.named_buffers():  # they tell the schedule and the objective
        if not torch.allclose(value, expected[name], rtol=1e-4):
            raise ValueError(f"config.json: is not what the checkpoint was trained with: its {name} differs")
    scale, shift = (1.0, 0.0) if config["diffusion"].get("auto_normalize", True) else (0.5, 0.5)
    return {
        "network": Epsilon(diffusion, scale, shift),
        "alpha": diffusion.sqrt_alphas_cumprod.double(),
        "sigma": diffusion.sqrt_one_minus_alphas_cumprod.double() / scale,
        "shape": (diffusion.channels, *diffusion.image_size),
    }


def _with_tuples(values):
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
