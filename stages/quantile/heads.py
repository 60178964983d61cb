"""The last layer's two meanings: quantiles on the grid of levels, or a Gaussian's location and scale.

Networks predict in units of the mean and spread of the log scores they are fitted on.
"""

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

from stages.quantile.losses import gaussian_loss, pinball_loss
from stages.quantile.predictions import LEVELS, LocationScale, Prediction, Quantiles

Head: TypeAlias = Literal["quantiles", "location_scale"]


def standard_normal_bias(head: Head, scores: int) -> Tensor:
    """The bias that makes an untrained network predict N(0, 1) for every image and score.  (S * outputs,)."""
    if head == "location_scale":
        return torch.zeros(2 * scores)
    quantiles = Normal(0.0, 1.0).icdf(torch.tensor(LEVELS))  # (K,)
    return torch.cat([quantiles[:1], torch.log(torch.expm1(quantiles.diff()))]).repeat(scores)  # softplus, inverted


def loss(outputs: Tensor, y: Tensor, head: Head) -> Tensor:
    """The mean loss.  outputs : (B, S * outputs) of the network.  y : (B, S) standardised log scores."""
    outputs, y = outputs.float().view(y.numel(), -1), y.reshape(-1)  # (B S, outputs), (B S,)
    if head == "quantiles":
        return pinball_loss(_increasing(outputs), y, torch.tensor(LEVELS, device=y.device))
    return gaussian_loss(outputs[:, 0], outputs[:, 1], y)


def prediction(outputs: Tensor, mean: Tensor, spread: Tensor, head: Head) -> Prediction:
    """The network's outputs in units of log scores.  mean, spread : (S,)."""
    outputs = outputs.double().view(len(outputs), len(mean), -1)  # (N, S, outputs)
    if head == "quantiles":
        return Quantiles((_increasing(outputs) * spread[:, None] + mean[:, None]).numpy())
    location, log_scale = outputs.unbind(-1)
    return LocationScale((location * spread + mean).numpy(), (log_scale.exp() * spread).numpy())


def _increasing(outputs: Tensor) -> Tensor:
    """The lowest quantile and positive steps up from it: quantiles that cannot cross.  (..., K) -> (..., K)."""
    return torch.cat([outputs[..., :1], F.softplus(outputs[..., 1:])], dim=-1).cumsum(dim=-1)
