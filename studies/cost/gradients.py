"""How an image would pull at each of a model's weight tensors, were it trained on once more.

Pang et al., "White-box Membership Inference Attacks against Diffusion Models", PoPETs 2025 (arXiv 2308.06405):
gradients of the training loss at a few timesteps, told by their norms, a number a tensor.
"""

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from leakgauge.attacks.naive_loss import image_noise
from leakgauge.diffusion.denoiser import Denoiser

CHUNK = 8  # images whose gradients are in memory at once


def gradient_norms(
    target: Denoiser, x0: Tensor, ids: list[str], timesteps: list[int], seed: int
) -> dict[str, np.ndarray]:
    """Two sorts of norms of the gradients of images' losses at K timesteps, each (N, tensors) float64.

    `gsa1` : of the gradient of the mean loss.  `gsa2` : the mean of the norms of each timestep's gradient; were norms
    taken behind the mean, both would be the same, for a gradient is linear in its loss.

    target : that predicts epsilon, unconditional.  x0 : (N, C, H, W) float32.  Noise belongs to (image_id, t, seed).
    """
    network, process = target.network, target.process
    weights = {name: value.detach() for name, value in network.named_parameters() if value.dtype.is_floating_point}
    times = torch.tensor(timesteps)
    alpha, sigma = (level[times].float().view(-1, 1, 1, 1) for level in (process.alpha, process.sigma))  # (K, 1, 1, 1)

    def loss(tensors: dict[str, Tensor], x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        said = functional_call(network, tensors, (x[None],), {"timestep": t[None]}).sample[0]
        return (said - noise).square().mean()

    of_each = vmap(grad(loss), in_dims=(None, 0, 0, 0))
    parts: dict[str, list[np.ndarray]] = {"gsa1": [], "gsa2": []}
    for start in range(0, len(x0), CHUNK):
        clean, names = x0[start : start + CHUNK], ids[start : start + CHUNK]
        noise = torch.stack([image_noise(names, tuple(x0.shape[1:]), t, seed) for t in timesteps], dim=1)  # (n, K, ...)
        noisy = alpha * clean[:, None] + sigma * noise
        gradients = of_each(weights, noisy.flatten(0, 1), noise.flatten(0, 1), times.repeat(len(clean)))
        shape = len(clean), len(timesteps), -1  # (n, K, size) of each layer
        pulls = [values.reshape(shape).double() for values in gradients.values()]
        parts["gsa1"].append(torch.stack([pull.mean(1).norm(dim=-1) for pull in pulls], dim=1).numpy())
        parts["gsa2"].append(torch.stack([pull.norm(dim=-1).mean(1) for pull in pulls], dim=1).numpy())
    return {name: np.concatenate(norms) for name, norms in parts.items()}
