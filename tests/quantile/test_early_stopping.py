"""Early stopping: by images that are then no longer out of bag, at the best look, and not where nobody asks for it."""

import numpy as np
import pandas as pd
import pytest

from leakgauge.options import Learner, LearnerOptions
from leakgauge.quantile.bag import Attacker, attacker_class, fit_attacker
from leakgauge.quantile.base import MOST_STOPPING, STOPPING, Resample, calibration_split, mean_pinball_loss, resamples
from leakgauge.quantile.gbm import GBMAttacker
from leakgauge.quantile.inputs import Inputs, TrainingSet

NETWORK = {
    "head": "location_scale",
    "epochs": 16,
    "batch_size": 64,
    "learning_rate": 3e-2,
    "weight_decay": 0.0,
    "dropout": 0.0,
    "precision": "float32",
}
GBM = {"trees": 200, "scale_trees": 80, "leaves": 8, "learning_rate": 0.3, "min_leaf": 5, "feature_fraction": 1.0}
KINDS = {
    "gbm": {"kind": "gbm", "head": "location_scale", **GBM},
    "gbm_quantiles": {"kind": "gbm", "head": "quantiles", **GBM},
    "mlp": {"kind": "mlp", "width": 64, "depth": 2, **NETWORK},
    "resnet": {"kind": "resnet", "width": 4, "blocks": 1, "features": True, "hidden": 32, **NETWORK},
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def options(kind: str, **changes: object) -> LearnerOptions:
    return Learner.model_validate(KINDS[kind] | changes).root


@pytest.fixture
def inputs() -> Inputs:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (500, 1, 4, 4), dtype=np.uint8)
    return Inputs(images, rng.standard_normal((500, 6)).astype(np.float32))


@pytest.fixture
def noise(inputs) -> np.ndarray:
    """(N, 1) log scores that nothing tells: the more is learnt, the worse."""
    return np.random.default_rng(2).standard_normal((len(inputs), 1))


def one_resample(count: int, patience: int) -> Resample:
    return resamples(np.zeros(count, dtype=bool), seed=0, bag_size=1, patience=patience)[0]


def length(attacker: Attacker, curve: pd.DataFrame) -> float:
    """Epochs, or the trees of a booster on average."""
    if isinstance(attacker, GBMAttacker):
        return np.mean(
            [max(booster.best_iteration, 0) or booster.num_trees() for booster in attacker.boosters[0].values()]
        )
    return curve["step"].iloc[-1]


# Which images


def test_images_to_stop_by_are_a_share_of_those_out_of_bag_and_count_as_seen():
    kept = np.arange(400) < 20
    without = resamples(kept, seed=3, bag_size=6)
    drawn = resamples(kept, seed=3, bag_size=6, patience=2)
    for before, resample in zip(without, drawn, strict=True):
        np.testing.assert_array_equal(resample.rows, before.rows)
        stops_by = np.zeros(400, dtype=bool)
        stops_by[resample.stopping.rows] = True
        np.testing.assert_array_equal(stops_by, before.out_of_bag & ~resample.out_of_bag)
        assert not stops_by[resample.rows].any()
        assert not stops_by[kept].any(), "images kept apart calibrate"
        assert stops_by.sum() == np.ceil(STOPPING * (before.out_of_bag & ~kept).sum())
        assert (before.stopping, resample.stopping.patience) == (None, 2)
    assert not np.array_equal(drawn[0].stopping.rows, drawn[1].stopping.rows)


def test_of_very_many_images_no_more_are_spent_than_tell_enough():
    (resample,) = resamples(np.zeros(40_000, dtype=bool), seed=0, bag_size=1, patience=1)
    assert len(resample.stopping.rows) == MOST_STOPPING


def test_where_nothing_is_out_of_bag_nothing_can_stop():
    (resample,) = resamples(np.zeros(1, dtype=bool), seed=0, bag_size=1, patience=1)
    assert resample.stopping is None


# When


@pytest.mark.parametrize("kind", ["gbm", "gbm_quantiles", "mlp"])  # this resnet is too small to learn noise
def test_who_learns_noise_stops_early_and_is_better_for_it(kind, inputs, noise):
    resample, to_the_end = one_resample(len(inputs), patience=2), one_resample(len(inputs), patience=0)
    stopped, curve = fit_attacker(inputs, noise, options(kind), 0, resample)
    overfitted, full = fit_attacker(inputs, noise, options(kind), 0, to_the_end)
    assert length(stopped, curve) < 0.7 * length(overfitted, full)
    losses = [
        mean_pinball_loss(attacker.predict(inputs[resample.out_of_bag]), noise[resample.out_of_bag])
        for attacker in (stopped, overfitted)
    ]
    assert losses[0] < 0.95 * losses[1], "on images that neither was fitted on or stopped by"
    assert curve["out_of_bag"].iloc[-1] == pytest.approx(losses[0])


@pytest.mark.parametrize("kind", ["mlp", "resnet"])
def test_the_network_kept_is_the_one_of_the_lowest_loss(kind, inputs, noise):
    resample, losses = one_resample(len(inputs), patience=2), {}

    class Noted(TrainingSet):
        def validate(self, step: int, attacker: Attacker) -> bool:
            losses[step] = mean_pinball_loss(attacker.predict(inputs[rows]), noise[rows])
            return super().validate(step, attacker)

    rows, training_set = resample.stopping.rows, Noted(inputs, noise, resample)
    attacker = attacker_class(kind).fit(training_set, options(kind), 0)
    best = min(losses, key=losses.get)
    assert list(losses) == list(range(2, best + 5, 2)), "two looks of eight in vain, and it stopped"
    assert training_set.curve()["step"].iloc[-1] == best
    assert mean_pinball_loss(attacker.predict(inputs[rows]), noise[rows]) == losses[best]


@EVERY_KIND
def test_who_goes_on_learning_is_not_stopped_and_ends_as_without(kind, inputs):
    scores = 3.0 * inputs.features[:, [0]].astype(float)
    slowly = (
        {"learning_rate": 0.02, "trees": 20, "scale_trees": 1}
        if kind.startswith("gbm")
        else {"learning_rate": 1e-3, "epochs": 8}
    )
    asked, not_asked = (
        fit_attacker(inputs, scores, options(kind, **slowly), 0, one_resample(len(inputs), patience))
        for patience in (8, 0)
    )
    assert asked[1]["step"].iloc[-1] == not_asked[1]["step"].iloc[-1]
    one, other = (attacker.predict(inputs).quantiles() for attacker, _ in (asked, not_asked))
    np.testing.assert_array_equal(one, other)


def test_boosters_saved_are_those_up_to_the_best_tree(inputs, noise, tmp_path):
    attacker, curve = fit_attacker(inputs, noise, options("gbm"), 0, one_resample(len(inputs), patience=1))
    attacker.save(tmp_path)
    loaded = attacker_class("gbm").load(tmp_path, options("gbm"))
    np.testing.assert_array_equal(loaded.predict(inputs).quantiles(), attacker.predict(inputs).quantiles())
    assert max(booster.num_trees() for booster in loaded.boosters[0].values()) == curve["step"].iloc[-1] < 80


def test_the_losses_that_settings_are_chosen_by_are_of_no_image_kept_apart():
    kept = calibration_split(300, 100, seed=0)
    for resample in resamples(kept, seed=0, bag_size=3):
        inputs = Inputs(np.zeros((300, 1, 8, 8), dtype=np.uint8), np.zeros((300, 1), dtype=np.float32))
        watched = TrainingSet(inputs, np.zeros((300, 1)), resample)._monitored["out_of_bag"]
        assert len(watched)
        assert not kept[watched].any()
        assert resample.out_of_bag[kept].all(), "they calibrate"
