"""Learners and bags: they learn what there is to learn, honestly and reproducibly."""

import numpy as np
import pytest
import torch
from stages.quantile.image_statistics import image_statistics

from stages.quantile.bag import ATTACKERS, Bag, Learner, bootstrap, fit_bag, load_bag, out_of_bag, save_bag
from stages.quantile.losses import gaussian_loss, pinball_loss
from stages.quantile.predictions import LEVELS, Quantiles
from stages.quantile.resnet import QuantileNet

OPTIONS = {
    "marginal": {"kind": "marginal"},
    "quantiles": {
        "kind": "resnet",
        "head": "quantiles",
        "width": 4,
        "epochs": 30,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "weight_decay": 0.0,
    },
    "gbm": {"kind": "gbm", "trees": 60, "scale_trees": 20, "leaves": 4, "learning_rate": 0.1, "min_leaf": 10},
}
OPTIONS["location_scale"] = OPTIONS["quantiles"] | {"head": "location_scale"}


def options(name: str, **changes):
    return Learner.model_validate(OPTIONS[name] | changes).root


def brightness_scores(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Log scores that depend on the image: brighter means higher, and twice as spread."""
    brightness = (images.mean((1, 2, 3)) - 125) / 40
    noise = np.random.default_rng(seed).standard_normal(len(images))
    return 2 * brightness + np.where(brightness > 0, 0.4, 0.2) * noise


def median_and_spread(prediction) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(prediction, Quantiles):
        at = {level: prediction.values[:, i] for i, level in enumerate(LEVELS)}
        return at[0.5], at[0.9] - at[0.1]
    return prediction.location, 2.56 * prediction.scale


def test_pinball_loss_is_the_hand_computed_one():
    quantiles, target = torch.tensor([[1.0, 3.0]]), torch.tensor([2.0])
    loss = pinball_loss(quantiles, target, torch.tensor([0.1, 0.9]))
    assert loss.item() == pytest.approx((0.1 * 1 + 0.1 * 1) / 2)  # 1 above its 10 %, 1 below its 90 % quantile


def test_pinball_loss_is_least_at_the_quantile():
    scores = torch.randn(20_000, generator=torch.Generator().manual_seed(0)).double()
    grid = torch.linspace(-3, 3, 601, dtype=torch.float64)
    losses = torch.stack([pinball_loss(q.expand(len(scores), 1), scores, torch.tensor([0.05])) for q in grid])
    assert grid[losses.argmin()].item() == pytest.approx(torch.quantile(scores, 0.05).item(), abs=0.02)


def test_gaussian_loss_is_least_at_mean_and_deviation():
    y = torch.tensor([1.0, 3.0])
    at = [gaussian_loss(torch.full((2,), m), torch.full((2,), s), y) for m, s in ((2.0, 0.0), (2.1, 0.0), (2.0, 0.1))]
    assert at[0] < min(at[1:])


@pytest.mark.parametrize("learner", ["quantiles", "location_scale", "gbm"])
def test_conditional_learners_find_location_and_spread_of_each_image(learner, random_images):
    scores = brightness_scores(random_images)
    fitted = ATTACKERS[options(learner).kind].fit(random_images, scores, options(learner), seed=0)
    median, spread = median_and_spread(fitted.predict(random_images))
    truth = 2 * (random_images.mean((1, 2, 3)) - 125) / 40
    assert np.corrcoef(median, truth)[0, 1] > 0.97
    bright = truth > 0
    assert spread[bright].mean() > 1.2 * spread[~bright].mean()


def test_the_marginal_learner_says_the_same_of_every_image(random_images):
    scores = brightness_scores(random_images)
    prediction = ATTACKERS["marginal"].fit(random_images, scores, options("marginal"), 0).predict(random_images[:3])
    assert (prediction.values == np.quantile(scores, LEVELS)).all()


def test_quantiles_never_cross(random_images):
    attacker = ATTACKERS["resnet"].fit(
        random_images, brightness_scores(random_images), options("quantiles", epochs=2), 0
    )
    assert (np.diff(attacker.predict(random_images).values, axis=1) > 0).all()


@pytest.mark.parametrize(("width", "parameters"), [(4, 5.6e3), (8, 2e4), (16, 8e4)])
def test_widths_give_about_the_papers_parameter_counts(width, parameters):
    net = QuantileNet(3, width, torch.zeros(1))
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(parameters, rel=0.15)


@pytest.mark.parametrize("learner", OPTIONS)
def test_the_same_seed_gives_the_same_bytes_and_saving_loses_nothing(learner, random_images, tmp_path):
    chosen = options(learner) if "epochs" not in OPTIONS[learner] else options(learner, epochs=2)
    scores = brightness_scores(random_images)
    files = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        attackers = fit_bag(random_images, scores, chosen, bag_size=3, seed=5)
        save_bag(Bag(folder, {"options": chosen.model_dump(), "bag_size": 3}, attackers))
        files.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert files[0] == files[1]
    for attacker, loaded in zip(attackers, load_bag(tmp_path / "b").attackers, strict=True):
        before, after = (a.predict(random_images).columns() for a in (attacker, loaded))
        for name in before:
            np.testing.assert_array_equal(before[name], after[name])


def test_out_of_bag_is_exactly_what_the_bootstrap_left_out():
    unseen = out_of_bag([f"{i:03d}" for i in range(100)], seed=3, bag_size=4)
    for attacker in range(4):
        drawn = set(bootstrap(100, 3, attacker).tolist())
        assert {i for i in range(100) if unseen[i, attacker]} == set(range(100)) - drawn
    assert 0.3 < unseen.mean() < 0.45
    assert not np.array_equal(bootstrap(100, 3, 0), bootstrap(100, 3, 1))


def test_an_image_is_not_out_of_bag_while_its_pixel_twin_is_in():
    alone = out_of_bag([f"{i:03d}" for i in range(50)], seed=0, bag_size=8)
    twins = out_of_bag([f"{i // 2:03d}" for i in range(50)], seed=0, bag_size=8)
    assert (twins[0::2] == twins[1::2]).all()
    assert (twins[0::2] == (alone[0::2] & alone[1::2])).all()


def test_raw_thresholds_are_honest_on_fresh_images_of_a_well_specified_learner():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (2000, 1, 8, 8), dtype=np.uint8)
    scores = rng.standard_normal(2000)
    attackers = fit_bag(images[:1000], scores[:1000], options("marginal"), bag_size=5, seed=0)
    thresholds = np.median([a.predict(images[1000:]).values[:, LEVELS.index(0.1)] for a in attackers], axis=0)
    assert 0.07 < (scores[1000:] <= thresholds).mean() < 0.13


def test_image_statistics_tell_bright_from_dark_and_busy_from_flat():
    flat, busy = np.full((1, 1, 8, 8), 128, np.uint8), np.random.default_rng(0).integers(0, 255, (1, 1, 8, 8), np.uint8)
    statistics = image_statistics(np.concatenate([flat, busy]))
    assert np.isfinite(statistics).all()
    assert statistics[0, 1] < statistics[1, 1], "deviation of the grey levels"


@pytest.mark.parametrize("shape", [(2, 1, 5, 7), (2, 3, 32, 32), (2, 3, 64, 48)])
def test_image_statistics_take_any_size_and_channels(shape):
    images = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    assert np.isfinite(image_statistics(images)).all()
