"""The autoencoder of a latent diffusion model.

Rombach et al., CVPR 2022, without its adversarial and its perceptual loss.
"""

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from studies.targets.networks import make_autoencoder

STEPS, BATCH, LEARNING_RATE, KL_WEIGHT = 600, 64, 2e-3, 1e-4


def train_autoencoder(x0: Tensor, seed: int) -> AutoencoderKL:
    """Learn to encode and decode some images; latents are then scaled to unit deviation.

    x0 : (N, C, H, W) float32 in [-1, 1].
    """
    torch.manual_seed(seed)
    model = make_autoencoder(x0.shape[1], x0.shape[2]).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        x = x0[torch.randint(len(x0), (BATCH,))]
        posterior = model.encode(x).latent_dist
        loss = F.mse_loss(model.decode(posterior.sample()).sample, x) + KL_WEIGHT * posterior.kl().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
    model.eval()
    with torch.inference_mode():
        spread = model.encode(x0).latent_dist.mode().std().item()
    model.register_to_config(scaling_factor=1 / spread)
    return model
