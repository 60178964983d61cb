"""Train networks, one or several of one shape at once: AdamW, one cycle of step sizes, early stopping.

The output layer gives quantiles on the grid of levels, or a Gaussian's location and scale, in units of the mean and
spread of the log scores in the training set.

Each network draws its rows, mirror images and dropout from its own generator, clips its own gradient and stops by its
own losses.  Trained alone or with others it is therefore the same network, but for the order of floating-point sums.
The cycle is planned for all epochs: early stopping truncates it.
"""

import copy
import math
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal
from torch.func import functional_call, stack_module_state, vmap

from leakgauge.quantile.base import LEVELS, LocationScale, Prediction, Quantiles
from leakgauge.quantile.inputs import VALIDATIONS, TrainingSet


class Dropout(nn.Module):
    """Leaves out each unit with probability p while training.  (B, units) -> (B, units)."""

    mask: Tensor  # (B, units) float32: 0, or 1 / (1 - p); replaced for each batch

    def __init__(self, p: float, units: int) -> None:
        super().__init__()
        self.p, self.units = p, units
        self.register_buffer("mask", torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask.to(x.dtype) if self.training and self.p else x


def draw_masks(network: nn.Module, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
    """A mask for each dropout of a network, by the name of its buffer: drawn on the CPU, the same for every device."""
    return {
        f"{name}.mask": torch.empty(rows, part.units).bernoulli_(1 - part.p, generator=generator).div_(1 - part.p)
        for name, part in network.named_modules()
        if isinstance(part, Dropout) and part.p
    }


def pinball_loss(quantiles: Tensor, target: Tensor, alphas: Tensor) -> Tensor:
    """Mean pinball loss, minimal where each quantile has its share alpha of targets below it.

    quantiles : (B, K).  target : (B,).  alphas : (K,) in (0, 1).  Koenker & Bassett, Econometrica 1978.
    """
    error = target[:, None] - quantiles  # (B, K)
    return torch.maximum(alphas * error, (alphas - 1) * error).mean()


def gaussian_loss(location: Tensor, log_scale: Tensor, target: Tensor) -> Tensor:
    """Mean negative log likelihood of N(location, exp(log_scale)^2), up to a constant.  All arguments : (B,)."""
    return (log_scale + 0.5 * ((target - location) * torch.exp(-log_scale)).square()).mean()


Head: TypeAlias = Literal["quantiles", "location_scale"]


def standard_normal_bias(head: Head, scores: int) -> Tensor:
    """The bias that makes an untrained network predict N(0, 1) for every image and score.  (S * outputs,)."""
    if head == "location_scale":
        return torch.zeros(2 * scores)
    quantiles = Normal(0.0, 1.0).icdf(torch.tensor(LEVELS))  # (K,)
    return torch.cat([quantiles[:1], torch.log(torch.expm1(quantiles.diff()))]).repeat(scores)  # softplus, inverted


def head_loss(outputs: Tensor, y: Tensor, head: Head) -> Tensor:
    """The mean loss.  outputs : (B, S * outputs) of the network.  y : (B, S) standardised log scores."""
    outputs, y = outputs.float().view(y.numel(), -1), y.reshape(-1)  # (B S, outputs), (B S,)
    if head == "quantiles":
        return pinball_loss(_increasing(outputs), y, torch.tensor(LEVELS, device=y.device))
    return gaussian_loss(outputs[:, 0], outputs[:, 1], y)


def head_prediction(outputs: Tensor, mean: Tensor, spread: Tensor, head: Head) -> Prediction:
    """The network's outputs in units of log scores.  mean, spread : (S,)."""
    outputs = outputs.double().view(len(outputs), len(mean), -1)  # (N, S, outputs)
    if head == "quantiles":
        return Quantiles((_increasing(outputs) * spread[:, None] + mean[:, None]).numpy())
    location, log_scale = outputs.unbind(-1)
    return LocationScale((location * spread + mean).numpy(), (log_scale.exp() * spread).numpy())


def _increasing(outputs: Tensor) -> Tensor:
    """The lowest quantile and positive steps up from it: quantiles that cannot cross.  (..., K) -> (..., K)."""
    return torch.cat([outputs[..., :1], F.softplus(outputs[..., 1:])], dim=-1).cumsum(dim=-1)


LARGEST_GRADIENT = 1.0  # its norm, over all weights of one network
Tensors = dict[str, Tensor]


class Batch(NamedTuple):
    """What one network is shown at once.  log_scores : (B, S) standardised.  masks : of its dropout."""

    images: Tensor
    features: Tensor
    log_scores: Tensor
    masks: Tensors


class Alone:
    """One network (G = 1), trained as it is."""

    def __init__(self, networks: list[nn.Module]) -> None:
        (self.network,) = networks
        self.weights: list[Tensor] = list(self.network.parameters())

    def outputs(self, images: Tensor, features: Tensor, masks: Tensors) -> Tensor:
        """images : (1, B, C, H, W).  features : (1, B, F)."""
        for name, mask in masks.items():
            self.network.get_submodule(name.removesuffix(".mask")).mask = mask[0]
        return self.network(images[0], features[0])[None]

    def clip(self) -> None:
        """Shorten the gradient to at most `LARGEST_GRADIENT`."""
        nn.utils.clip_grad_norm_(self.weights, LARGEST_GRADIENT)

    def hand_out(self) -> None:
        """The network has its weights already."""


class Together:
    """G networks of one shape, their weights stacked: one kernel does for all what it would do G times."""

    def __init__(self, networks: list[nn.Module]) -> None:
        self.networks = networks
        self.stacked, self.buffers = stack_module_state(networks)
        self.weights: list[Tensor] = list(self.stacked.values())
        self.shape = copy.deepcopy(networks[0]).to("meta").train()

    def outputs(self, images: Tensor, features: Tensor, masks: Tensors) -> Tensor:
        """images : (G, B, C, H, W).  features : (G, B, F)."""

        def outputs(tensors: Tensors, *seen: Tensor) -> Tensor:
            return functional_call(self.shape, tensors, seen)

        return vmap(outputs)(self.stacked | self.buffers | masks, images, features)

    def clip(self) -> None:
        """Shorten each network's gradient to at most `LARGEST_GRADIENT`."""
        gradients = [weights.grad for weights in self.weights if weights.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients])  # (tensors, G)
        factor = (LARGEST_GRADIENT / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))

    @torch.no_grad()
    def hand_out(self) -> None:
        """Give each network its weights."""
        for number, network in enumerate(self.networks):
            for name, weights in network.named_parameters():
                weights.copy_(self.stacked[name][number])


def train(
    attackers: list[Any], training_sets: list[TrainingSet], generators: list[torch.Generator], options: Any
) -> None:
    """Train the networks of attackers, all of one shape and on equally many rows, each on its training set."""
    networks = [attacker.network for attacker in attackers]
    trained = Alone(networks) if len(networks) == 1 else Together(networks)
    scores = [
        attacker.standardised(training_set) for attacker, training_set in zip(attackers, training_sets, strict=True)
    ]
    optimizer = torch.optim.AdamW(trained.weights, options.learning_rate, weight_decay=options.weight_decay)
    steps = options.epochs * math.ceil(len(scores[0]) / options.batch_size)
    warm_up = 0.2 if steps > 5 else 0.0  # of the steps: with 5, a rise from the first step to the first, torch raises
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, steps, pct_start=warm_up)
    kept = [network.state_dict() for network in networks]
    for epoch in range(options.epochs):
        for network in networks:
            network.train()
        orders = [torch.randperm(len(scores[0]), generator=own).split(options.batch_size) for own in generators]
        for rows in zip(*orders, strict=True):
            drawn = zip(attackers, training_sets, scores, rows, generators, strict=True)
            _step(trained, attackers[0], [_draw(*each) for each in drawn], optimizer)
            schedule.step()
        if (epoch + 1) * VALIDATIONS // options.epochs > epoch * VALIDATIONS // options.epochs:
            trained.hand_out()
            for number, (attacker, training_set) in enumerate(zip(attackers, training_sets, strict=True)):
                if not training_set.stopped and training_set.validate(epoch + 1, attacker):
                    kept[number] = copy.deepcopy(attacker.network.state_dict())
            if all(training_set.stopped for training_set in training_sets):
                break
    for network, weights in zip(networks, kept, strict=True):
        network.load_state_dict(weights)


def _draw(attacker: Any, training_set: TrainingSet, scores: Tensor, rows: Tensor, generator: torch.Generator) -> Batch:
    """A batch of one network's own.  rows : (B,) of its resample."""
    seen = training_set.inputs[training_set.resample.rows[rows.numpy()]]
    images = torch.from_numpy(seen.images)
    if attacker.needs_pixels:
        mirrored = torch.rand(len(rows), 1, 1, 1, generator=generator) < 0.5
        images = torch.where(mirrored, images.flip(3), images)
    masks = draw_masks(attacker.network, len(rows), generator)
    return Batch(images, torch.from_numpy(seen.features), scores[rows].float(), masks)


def _step(trained: Alone | Together, attacker: Any, batches: list[Batch], optimizer: torch.optim.Optimizer) -> None:
    """One step of every network.  attacker : any of theirs; it says what they make of images."""
    device = trained.weights[0].device
    images, features, y = (
        torch.stack(parts).to(device) for parts in zip(*(batch[:3] for batch in batches), strict=True)
    )
    masks = {name: torch.stack([batch.masks[name] for batch in batches]).to(device) for name in batches[0].masks}
    planes = attacker.planes(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    with attacker.precision(device):
        outputs = trained.outputs(planes, features, masks)
    loss = head_loss(outputs.flatten(0, 1), y.flatten(0, 1), attacker.options.head)
    optimizer.zero_grad()
    (loss * len(batches)).backward()  # the sum of the networks' mean losses
    trained.clip()
    optimizer.step()
