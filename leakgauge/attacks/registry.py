"""All attacks on one batch of images.  Options: `leakgauge/options.py`; the names of columns: `columns.py`."""

import torch
from torch import Tensor

from leakgauge.attacks.naive_loss import image_noise, naive_loss
from leakgauge.attacks.pia import pia, pian
from leakgauge.attacks.rediffuse import ddim_variation, rediffuse
from leakgauge.attacks.sima import sima
from leakgauge.attacks.t_error import t_errors
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.options import Attacks


@torch.inference_mode()
def score_batch(target: Denoiser, x0: Tensor, ids: list[str], attacks: Attacks) -> Tensor:
    """Every column of `score_columns(attacks)` for a batch, in that order.

    x0 : (B, C, H, W) float32 in [-1, 1].  Returns (B, columns) float64.
    """
    e0 = target.epsilon(x0, 0)
    grid = attacks.t_error
    scores = [t_errors(target, x0, grid.interval, len(grid.timesteps), e0)]
    scores += [pia(target, x0, e0, t)[:, None] for t in attacks.pia]
    scores += [pian(target, x0, e0, t)[:, None] for t in attacks.pian]
    for t in attacks.naive_loss:
        noise = image_noise(ids, tuple(x0.shape[1:]), t, attacks.noise_seed).to(x0.device)
        scores.append(naive_loss(target, x0, noise, t)[:, None])
    scores += [sima(target, x0, t)[:, None] for t in attacks.sima]
    for t in attacks.rediffuse.timesteps:
        variation = ddim_variation(target, ids, t, attacks.rediffuse.stride, attacks.noise_seed)
        scores.append(rediffuse(variation, x0, attacks.rediffuse.draws)[:, None])
    return torch.cat(scores, dim=1)
