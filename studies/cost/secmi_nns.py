"""SecMI-NNs: a network learns from labelled members and non-members what a t-error looks like as an image.

Duan et al., "Are Diffusion Models Vulnerable to Membership Inference Attacks?", ICML 2023, Sec. 4.  Its network sees
|x_t - back| of one step and is fitted on a fifth of all images; theirs keeps the epoch with the best accuracy on the
images that it is then judged on, which is not done here.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leakgauge.diffusion.denoiser import Denoiser

FOLDS = 5  # networks, each fitted on one fifth; every image is judged by the four that have not seen it
WIDTH, EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 16, 40, 32, 2e-3, 1e-2


@torch.inference_mode()
def step_differences(target: Denoiser, x0: Tensor, t: int, interval: int) -> Tensor:
    """|x_t - back| of the t-error at t, walked from 0 by `interval`.

    x0 : (B, C, H, W) float32; returns the same shape.
    """
    x, epsilon = x0, target.epsilon(x0, 0)
    for start in range(0, t, interval):
        x = target.ddim(x, epsilon, start, start + interval)
        epsilon = target.epsilon(x, start + interval)
    ahead = target.ddim(x, epsilon, t, t + interval)
    back = target.ddim(ahead, target.epsilon(ahead, t + interval), t + interval, t)
    return (x - back).abs()


def secmi_nns(differences: Tensor, is_member: np.ndarray, seed: int) -> np.ndarray:
    """The membership score of each image, (N,): the mean logit of the networks that were not fitted on it.

    differences : (N, C, H, W) float32.  is_member : (N,) bool.
    """
    fold = _folds(is_member, seed)
    told = np.zeros(len(fold))
    for number in range(FOLDS):
        fitted, asked = fold == number, fold != number
        network, spread = fitted_network(differences[fitted], is_member[fitted], seed * FOLDS + number)
        with torch.inference_mode():
            told[asked] += network(differences[asked] / spread)[:, 0].double().numpy()
    return told / (FOLDS - 1)


def _folds(is_member: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each image, (N,); each has a fifth of the members and a fifth of the others."""
    rng, fold = np.random.default_rng(seed), np.empty(len(is_member), dtype=np.int64)
    for rows in (np.flatnonzero(is_member), np.flatnonzero(~is_member)):
        fold[rng.permutation(rows)] = np.arange(len(rows)) % FOLDS
    return fold


def fitted_network(x: Tensor, is_member: np.ndarray, seed: int) -> tuple[nn.Module, Tensor]:
    """A network that tells members, both classes weighing alike, and what its input is divided by."""
    torch.manual_seed(seed)
    network, spread, y = Network(x.shape[1]), x.std(), torch.from_numpy(is_member).float()[:, None]
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    weight = (1 - y.mean()) / y.mean()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = F.binary_cross_entropy_with_logits(network(x[rows] / spread), y[rows], pos_weight=weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval(), spread


class Network(nn.Module):
    """A small residual network.  (B, C, H, W) -> (B, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, WIDTH, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(4, WIDTH), nn.SiLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)) for _ in range(3)
        )
        self.head = nn.Linear(2 * WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x : differences, in units of their deviation."""
        h = self.enter(x)
        for block in self.blocks:
            h = h + block(h)
        return self.head(torch.cat([h.mean(dim=(2, 3)), h.amax(dim=(2, 3))], dim=1))  # (B, 2 WIDTH) -> (B, 1)
