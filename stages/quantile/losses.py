"""The losses that quantile regression minimises."""

import torch
from torch import Tensor


def pinball_loss(quantiles: Tensor, target: Tensor, alphas: Tensor) -> Tensor:
    """Mean pinball loss, minimal where each quantile has its share alpha of targets below it.

    quantiles : (B, K).  target : (B,).  alphas : (K,) in (0, 1).  Koenker & Bassett, Econometrica 1978.
    """
    error = target[:, None] - quantiles  # (B, K)
    return torch.maximum(alphas * error, (alphas - 1) * error).mean()


def gaussian_loss(location: Tensor, log_scale: Tensor, target: Tensor) -> Tensor:
    """Mean negative log likelihood of N(location, exp(log_scale)^2), up to a constant.  All arguments : (B,)."""
    return (log_scale + 0.5 * ((target - location) * torch.exp(-log_scale)).square()).mean()
