"""Whether the scores of a target and of its base may stand side by side: both see the same x_t at the same t."""

import torch
from torch import Tensor

from leakgauge.diffusion.conditioning import Use
from leakgauge.diffusion.denoiser import Denoiser

LEVELS = 0.01  # by which alpha and sigma may differ, of the target's: a timestep is then the same noise
X0 = 0.05  # by which x_0 may, as a norm: one autoencoder in two precisions, not two autoencoders


@torch.inference_mode()
def difference(target: Denoiser, base: Denoiser, pixels: Tensor, use: Use) -> str | None:
    """In words, what of the base is not as in the target; None where all is.

    pixels : (N, C, H, W) uint8, N >= 1 images that both take.  use : `score.condition`.
    """
    ours, theirs = target.process, base.process
    if ours.num_train_timesteps != theirs.num_train_timesteps:
        return f"it has {theirs.num_train_timesteps} timesteps, the target {ours.num_train_timesteps}"
    for name in ("alpha", "sigma"):
        levels = getattr(ours, name), getattr(theirs, name)
        far = (levels[0] - levels[1]).abs() > LEVELS * levels[0].abs() + LEVELS**2
        if far.any():
            t = int(far.nonzero()[0])
            return (
                f"{name} at timestep {t} is {levels[1][t].item():.3g}, of the target {levels[0][t].item():.3g}: "
                "another noise schedule"
            )
    columns = target.condition.column(use), base.condition.column(use)
    if columns[0] != columns[1]:
        given = [f"each image's {column}" if column else "nothing" for column in columns]
        return f"it is conditioned on {given[1]}, the target on {given[0]}"
    x0 = target.encode(pixels), base.encode(pixels)
    if x0[0].shape != x0[1].shape:
        return f"its x_0 is {_sides(x0[1])}, the target's {_sides(x0[0])}"
    if (x0[0] - x0[1]).norm() > X0 * x0[0].norm():
        return "its autoencoder gives other latents than the target's"
    return None


def _sides(x0: Tensor) -> str:
    return "x".join(map(str, x0.shape[1:]))
