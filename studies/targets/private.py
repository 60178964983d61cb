"""DP-SGD, by Opacus: gradients of single images are clipped and noised, batches are Poisson samples.

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016.  Batches, clipping, noise and the account of epsilon
are the library's own; neighbouring training sets differ in one image, added or removed.
"""

import warnings
from collections.abc import Callable, Iterator

import torch
from diffusers import ModelMixin
from opacus import PrivacyEngine
from opacus.accountants.utils import get_noise_multiplier
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from studies.targets.recipe import Recipe


def private_steps(
    network: ModelMixin, losses: Callable[[ModelMixin, Tensor], Tensor], count: int, recipe: Recipe, seed: int
) -> Iterator[tuple[int, float | None]]:
    """Yields each step with the epsilon spent by then; None where no noise is added.

    losses : of the images of some rows, (B,), under a model.  count : rows.
    """
    privacy = recipe.privacy
    assert privacy is not None
    loader = DataLoader(TensorDataset(torch.arange(count)), batch_size=recipe.batch_size)
    sigma = 0.0
    if privacy.epsilon is not None:
        sigma = get_noise_multiplier(
            target_epsilon=privacy.epsilon,
            target_delta=privacy.delta,
            sample_rate=1 / len(loader),
            steps=recipe.steps,
            accountant="rdp",
        )
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that its generator is no cryptographic one, and that inputs need no gradient
        engine = PrivacyEngine(accountant="rdp")
        model, optimizer, batches = engine.make_private(
            module=network,
            optimizer=optimizer,
            data_loader=loader,
            noise_multiplier=sigma,
            max_grad_norm=privacy.clip,
            noise_generator=torch.Generator().manual_seed(seed),
        )
        step = 0
        while step < recipe.steps:
            for (rows,) in batches:
                optimizer.zero_grad()
                losses(model, rows).mean().backward()
                optimizer.step()
                step += 1
                yield step, engine.get_epsilon(privacy.delta) if sigma and step in recipe.kept else None
                if step == recipe.steps:
                    break
