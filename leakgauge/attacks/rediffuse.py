"""ReDiffuse: how far the mean of many variations of an image is from the image.  All it needs is an image-to-image API.

Li et al., "Towards Black-Box Membership Inference Attack for Diffusion Models", ICML 2025 (arXiv 2405.20771),
Algorithm 1, with the squared 2-norm of its code: on a member, the target's noise predictions are nearly unbiased, so
that variations of it average to the image itself.
"""

from collections.abc import Callable

from torch import Tensor

from leakgauge.attacks.naive_loss import image_noise
from leakgauge.diffusion.denoiser import Denoiser

Variation = Callable[[Tensor, int], Tensor]  # (x0, number of the draw) -> one variation of each image, shaped like x0


def rediffuse(variation: Variation, x0: Tensor, draws: int) -> Tensor:
    """sum (x0 - mean of `draws` variations)^2.

    variation : a target's variation API, ours (`ddim_variation`) or anyone's; called `draws` times.
    x0 : (B, C, H, W) float32 in [-1, 1].  Returns (B,) float64.
    """
    total = sum(variation(x0, draw).double() for draw in range(draws))
    return (x0 - total / draws).square().flatten(1).sum(1)


def ddim_variation(target: Denoiser, ids: list[str], t: int, stride: int, seed: int) -> Variation:
    """The variation API of a target that is at hand: noise to t, then DDIM moves of `stride` back to 0.

    The noise belongs to (image_id, t, draw, seed).  A variation costs t / stride network calls.
    """

    def vary(x0: Tensor, draw: int) -> Tensor:
        noise = image_noise(ids, tuple(x0.shape[1:]), t, seed, draw).to(x0.device)
        x = target.process.add_noise(x0, noise, t)
        for start in range(t, 0, -stride):
            x = target.ddim(x, target.epsilon(x, start), start, start - stride)
        return x

    return vary
