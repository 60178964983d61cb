"""What the literature teaches with known members: features and teachers, to be cross-fitted as the judge here is.

GSA (Pang, Wang, Kang, Huai & Zhang, "White-box Membership Inference Attacks against Diffusion Models", 2023, its first
variant): the norm of the loss's gradient by each tensor of weights, over equidistant timesteps; boosted trees.

SecMI-NNs (Duan et al., ICML 2023, Sec. 4): a network sees the t-error pixel by pixel.  Here a small one, of maps at
three timesteps, since these images are small.
"""

from typing import Any

import lightgbm
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from leakgauge.attacks.naive_loss import image_noise
from leakgauge.diffusion.denoiser import Denoiser

TIMESTEPS = tuple(range(50, 1000, 100))  # of GSA
MAPS, INTERVAL = (10, 50, 100), 10  # timesteps and interval of SecMI's maps
BATCH, EPOCHS, FLOOR = 64, 60, 1e-12


def gradient_norms(target: Denoiser, pixels: np.ndarray, ids: list[str]) -> np.ndarray:
    """(N, tensors of weights) float64.  pixels : (N, C, H, W) uint8."""
    weights, rows = list(target.network.requires_grad_().parameters()), []
    timesteps = torch.tensor(TIMESTEPS)
    for image, name in zip(tqdm(pixels, desc="GSA", disable=None), ids, strict=True):
        x0 = target.encode(image[None])
        noise = torch.cat([image_noise([name], tuple(x0.shape[1:]), t, 0) for t in TIMESTEPS])
        pairs = zip(noise, TIMESTEPS, strict=True)
        noisy = torch.cat([target.process.add_noise(x0, one[None], t) for one, t in pairs])
        loss = (noise - target.network(noisy, timesteps).sample).square().mean()
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        rows.append([0.0 if one is None else float(one.double().norm()) for one in gradients])
    return np.maximum(np.array(rows), FLOOR)


@torch.inference_mode()
def error_maps(target: Denoiser, pixels: np.ndarray) -> np.ndarray:
    """(N, timesteps, C, H, W) float64, what one step back misses of one step forward, pixel by pixel."""
    parts = []
    for start in tqdm(range(0, len(pixels), BATCH), desc="SecMI maps", disable=None):
        x = target.encode(pixels[start : start + BATCH])
        epsilon, maps = target.epsilon(x, 0), {}
        for t in range(0, max(MAPS) + INTERVAL, INTERVAL):
            ahead = target.ddim(x, epsilon, t, t + INTERVAL)
            epsilon_ahead = target.epsilon(ahead, t + INTERVAL)
            maps[t] = (x - target.ddim(ahead, epsilon_ahead, t + INTERVAL, t)).abs().double().numpy()
            x, epsilon = ahead, epsilon_ahead
        parts.append(np.stack([maps[t] for t in MAPS], axis=1))
    return np.maximum(np.concatenate(parts), FLOOR)


class Boosted:
    """LightGBM's classifier as a teacher's model."""

    def __init__(self, member: np.ndarray, holdout: np.ndarray) -> None:
        self.model = lightgbm.LGBMClassifier(
            n_estimators=100,
            num_leaves=8,
            learning_rate=0.05,
            min_child_samples=10,
            n_jobs=1,
            deterministic=True,
            force_row_wise=True,
            random_state=0,
            verbose=-1,
        )
        self.model.fit(np.concatenate([member, holdout]), np.repeat([1, 0], [len(member), len(holdout)]))

    def decision_function(self, features: np.ndarray) -> np.ndarray:
        """(N,) log odds."""
        return np.asarray(self.model.predict(features, raw_score=True))


def boosted(member: np.ndarray, holdout: np.ndarray, units: list[str]) -> tuple[Any, float]:
    """Boosted trees; nothing is chosen."""
    return Boosted(member, holdout), 0.0


class Convolutional:
    """A small network of error maps as a teacher's model.  Features : (N, maps * C * H * W) log errors."""

    def __init__(self, member: np.ndarray, holdout: np.ndarray, shape: tuple[int, ...]) -> None:
        self.shape = (-1, len(MAPS) * shape[0], *shape[1:])
        torch.manual_seed(0)
        x = np.concatenate([member, holdout])
        self.mean, self.scale = x.mean(0), x.std(0) + 1e-6
        trained = torch.from_numpy(np.repeat([1.0, 0.0], [len(member), len(holdout)])).float()
        self.network = nn.Sequential(
            *(nn.Conv2d(self.shape[1], 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(128, 1)),
        )
        optimiser = torch.optim.AdamW(self.network.parameters(), 1e-3, weight_decay=0.05)
        balance = torch.tensor(len(holdout) / len(member))
        inputs, draws = self._inputs(x), torch.Generator().manual_seed(0)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(x), generator=draws).split(BATCH):
                logits = self.network(inputs[rows])[:, 0]
                loss = nn.functional.binary_cross_entropy_with_logits(logits, trained[rows], pos_weight=balance)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        self.network.eval()

    def _inputs(self, features: np.ndarray) -> Tensor:
        return torch.from_numpy((features - self.mean) / self.scale).float().reshape(self.shape)

    @torch.inference_mode()
    def decision_function(self, features: np.ndarray) -> np.ndarray:
        """(N,) log odds."""
        return self.network(self._inputs(features))[:, 0].double().numpy()
