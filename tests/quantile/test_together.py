"""Networks trained at once come out as networks trained one by one, but for the order in which floats are added."""

import numpy as np
import pytest
import torch

from leakgauge.options import Learner, LearnerOptions
from leakgauge.quantile.bag import fit_attacker, fit_attackers
from leakgauge.quantile.base import Resample, resamples
from leakgauge.quantile.inputs import Inputs
from leakgauge.quantile.training import Alone, Together

SEEDS = [5, 6, 7]
# In units of the scores' spread.  Float32 sums in another order differ by some 1e-7, and so did the predictions after
# these few steps when this was written; more steps carry such differences far, for training is chaotic.
CLOSE = 1e-5
ENTRY = {
    "epochs": 2,
    "batch_size": 64,
    "learning_rate": 3e-3,
    "weight_decay": 0.1,
    "dropout": 0.4,
    "precision": "float32",
}
KINDS = {
    "mlp": {"kind": "mlp", "width": 16, "depth": 2, **ENTRY},
    "resnet": {"kind": "resnet", "width": 4, "blocks": 1, "features": True, "hidden": 16, **ENTRY},
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
EVERY_HEAD = pytest.mark.parametrize("head", ["location_scale", "quantiles"])


def options(kind: str, head: str, **changes: object) -> LearnerOptions:
    return Learner.model_validate(KINDS[kind] | {"head": head} | changes).root


@pytest.fixture
def inputs(random_images) -> Inputs:
    features = np.random.default_rng(1).standard_normal((len(random_images), 5))
    features[:, 0] = random_images.mean((1, 2, 3))
    return Inputs(random_images, features.astype(np.float32))


@pytest.fixture
def log_scores(inputs) -> np.ndarray:
    """(N, 2) log scores: one that images tell, and one of another size that they don't."""
    rng = np.random.default_rng(2)
    brightness = inputs.images.mean((1, 2, 3)) / 40
    return np.stack([brightness + 0.1 * rng.standard_normal(len(inputs)), 50 + 9 * rng.standard_normal(len(inputs))], 1)


def drawn(inputs: Inputs, patience: int = 0) -> list[Resample]:
    return resamples(np.zeros(len(inputs), dtype=bool), seed=0, bag_size=len(SEEDS), patience=patience)


@EVERY_HEAD
@EVERY_KIND
def test_networks_trained_at_once_are_those_trained_one_by_one(kind, head, inputs, log_scores):
    compare(options(kind, head), inputs, log_scores, CLOSE)


def test_in_bfloat16_too(inputs, log_scores):
    # 8 bits: what differs in the last bit of float32 may be rounded to either side
    compare(options("resnet", "location_scale", precision="bfloat16"), inputs, log_scores, 0.05)


def compare(chosen: LearnerOptions, inputs: Inputs, log_scores: np.ndarray, close: float) -> None:
    """Train three networks both ways, and see that they say the same, and each another thing than the others."""
    each = drawn(inputs)
    together = fit_attackers(inputs, log_scores, chosen, SEEDS, each)
    predicted = []
    for seed, resample, (attacker, curve) in zip(SEEDS, each, together, strict=True):
        alone, its_curve = fit_attacker(inputs, log_scores, chosen, seed, resample)
        quantiles, expected = (
            one.predict(inputs).quantiles() / log_scores.std(0)[:, None] for one in (attacker, alone)
        )
        np.testing.assert_allclose(quantiles, expected, rtol=0, atol=close)
        np.testing.assert_allclose(curve, its_curve, rtol=close)
        predicted.append(quantiles)
    assert np.abs(predicted[0] - predicted[1]).max() > 0.1, "each its own"


@EVERY_KIND
def test_each_of_those_trained_at_once_stops_when_it_would_alone(kind, inputs, log_scores):
    chosen, each = options(kind, "quantiles", epochs=8), drawn(inputs, patience=1)
    together = fit_attackers(inputs, log_scores, chosen, SEEDS, each)
    alone = [fit_attacker(inputs, log_scores, chosen, *one) for one in zip(SEEDS, each, strict=True)]
    ends = [[curve["step"].iloc[-1] for _, curve in way] for way in (together, alone)]
    assert ends[0] == ends[1]
    assert min(ends[0]) < 7, "one of them stops early"
    assert len(set(ends[0])) > 1, "not all at once"
    for (attacker, _), (other, _) in zip(together, alone, strict=True):
        quantiles, expected = (
            one.predict(inputs).quantiles() / log_scores.std(0)[:, None] for one in (attacker, other)
        )
        np.testing.assert_allclose(quantiles, expected, rtol=0, atol=0.02)


def test_each_gradient_is_clipped_by_its_own_norm():
    networks = [torch.nn.Linear(4, 2) for _ in SEEDS]
    together, scales = Together(networks), (0.01, 3.0, 100.0)  # the first is short enough
    for number, (network, scale) in enumerate(zip(networks, scales, strict=True)):
        for name, weights in network.named_parameters():
            weights.grad = scale * torch.ones_like(weights)
            if number == 0:
                together.stacked[name].grad = torch.zeros_like(together.stacked[name])
            together.stacked[name].grad[number] = weights.grad
        Alone([network]).clip()
    together.clip()
    for number, network in enumerate(networks):
        for name, weights in network.named_parameters():
            torch.testing.assert_close(together.stacked[name].grad[number], weights.grad)
