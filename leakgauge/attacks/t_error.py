"""t-error: how badly one deterministic denoising step undoes one deterministic noising step.

Duan et al., "Are Diffusion Models Vulnerable to Membership Inference Attacks?", ICML 2023 (SecMI), Eq. 9;
the score of Tang et al., arXiv 2312.05140, Sec. 3.
"""

import torch
from torch import Tensor

from leakgauge.diffusion.denoiser import Denoiser


@torch.inference_mode()
def t_errors(target: Denoiser, x0: Tensor, interval: int, count: int, e0: Tensor | None = None) -> Tensor:
    """t-errors at t = 0, interval, ..., (count - 1) * interval from one walk.

    x0 : (B, C, H, W) float32 in [-1, 1], as `target.encode` makes it.  e0 : epsilon(x0, 0), if it is known already.
    Returns (B, count) float64.
    Costs count network calls beside e0: epsilon at t + interval serves the step back to t and the next one forward.
    """
    x, epsilon = x0, target.epsilon(x0, 0) if e0 is None else e0
    errors = []
    for t in range(0, count * interval, interval):
        ahead = target.ddim(x, epsilon, t, t + interval)  # phi: noise to t + k
        epsilon_ahead = target.epsilon(ahead, t + interval)
        back = target.ddim(ahead, epsilon_ahead, t + interval, t)  # psi: denoise to t
        errors.append((x - back).double().square().flatten(1).sum(1))  # (B,)
        x, epsilon = ahead, epsilon_ahead
    return torch.stack(errors, dim=1)
