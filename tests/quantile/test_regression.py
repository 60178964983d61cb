"""Log scores regressed on those under a base: by hand, with repeats and strange images, and in every learner."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY_LEARNERS

from leakgauge.errors import InputError
from leakgauge.inference.roc import auc
from leakgauge.options import Learner
from leakgauge.quantile.bag import DEFAULTS, Bag, OfResidual, attacker_folder, fit_attacker, regressors
from leakgauge.quantile.base import LocationScale, Quantiles, Resample, bootstrap
from leakgauge.quantile.inputs import Inputs
from leakgauge.quantile.regression import FARTHEST, Regression, shifted

N = 400


@pytest.fixture
def base() -> np.ndarray:
    """(N, 3) float32: two inputs, and one that is constant."""
    rng = np.random.default_rng(0)
    return np.column_stack([rng.normal(3, 2, (N, 2)), np.full(N, 7.0)]).astype(np.float32)


@pytest.fixture
def inputs(base) -> Inputs:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (N, 1, 8, 8), dtype=np.uint8)
    return Inputs(images, rng.standard_normal((N, 4)).astype(np.float32), base[:, :1], base[:, :1].astype(float))


def resample(seed: int = 0) -> Resample:
    rows = bootstrap(N, seed, 0)
    out_of_bag = np.ones(N, dtype=bool)
    out_of_bag[rows] = False
    return Resample(rows, out_of_bag)


def test_a_line_is_found_again(base):
    log_scores = np.stack([0.7 * base[:, 0] + 1, 5 - 2.0 * base[:, 1]], axis=1).astype(np.float64)
    fitted = Regression.fit(base, log_scores, np.arange(N))
    inside = (np.abs((base - base.mean(0)) / np.maximum(base.std(0), 1e-9))[:, :2] < FARTHEST).all(1)
    np.testing.assert_allclose(fitted.predict(base)[inside], log_scores[inside], atol=1e-3)


def test_an_image_drawn_twice_weighs_twice_and_foretells_itself_no_better(base):
    rng = np.random.default_rng(2)
    log_scores = (base[:, :1] + rng.normal(0, 1, (N, 1))).astype(np.float64)
    rows = bootstrap(N, 3, 0)
    fitted = Regression.fit(base, log_scores, rows)
    again = Regression.fit(base, log_scores, np.random.default_rng(4).permutation(rows))
    np.testing.assert_allclose(again.predict(base), fitted.predict(base), atol=1e-9)
    noise = Regression.fit(rng.standard_normal((N, 50)), rng.standard_normal((N, 1)), rows)
    assert np.abs(noise.slope).max() < 0.1, "fifty inputs that tell nothing are shrunk away, repeats or not"


def test_a_constant_input_counts_nothing_and_a_strange_image_is_not_extrapolated_to(base):
    log_scores = base[:, :1].astype(np.float64)
    fitted = Regression.fit(base, log_scores, np.arange(N))
    other = base.copy()
    other[:, 2] = 1e6
    np.testing.assert_array_equal(fitted.predict(other), fitted.predict(base))
    far, farther = (base[:1] + np.float32(shift) for shift in (1e4, 1e8))
    np.testing.assert_array_equal(fitted.predict(far), fitted.predict(farther))


def test_a_prediction_is_moved_as_a_whole():
    by = np.array([[1.0, -2.0]])
    gaussian = shifted(LocationScale(np.array([[0.5, 0.5]]), np.array([[2.0, 3.0]])), by)
    np.testing.assert_array_equal(gaussian.location, [[1.5, -1.5]])
    np.testing.assert_array_equal(gaussian.scale, [[2.0, 3.0]])
    quantiles = Quantiles(np.arange(24, dtype=float).reshape(1, 2, 12))
    moved = shifted(quantiles, by)
    np.testing.assert_array_equal(moved.values - quantiles.values, np.broadcast_to(by[..., None], (1, 2, 12)))
    observed = np.array([[3.3, 14.4]])
    np.testing.assert_allclose(moved.z_scores(observed + by), quantiles.z_scores(observed))


@pytest.mark.parametrize("kind", ["marginal", "linear", *(name for name in TINY_LEARNERS if name != "marginal")])
def test_with_a_base_every_learner_but_one_threshold_for_all_learns_what_a_regression_leaves(kind, inputs, tmp_path):
    rng = np.random.default_rng(5)
    log_scores = (0.6 * inputs.under_base[:, :1] + rng.normal(0, 0.1, (N, 1))).astype(np.float64)
    options = Learner.model_validate(DEFAULTS[kind].model_dump() | TINY_LEARNERS.get(kind, {})).root
    attacker, curve = fit_attacker(inputs, log_scores, options, 0, resample())
    member = log_scores - 0.3  # three deviations of what the base leaves, a quarter of one of all scores
    z = {
        name: attacker.predict(inputs).z_scores(of)[:, 0]
        for name, of in {"other": log_scores, "member": member}.items()
    }
    area = auc(-z["member"], -z["other"], 0.95)[0]
    assert (area < 0.65) if kind == "marginal" else (area > 0.9)
    assert np.isfinite(curve.to_numpy()).all()

    folder = attacker_folder(tmp_path, 0)
    folder.mkdir()
    attacker.save(folder)
    seen = regressors(inputs, options)
    description = {"options": options.model_dump(), "bag_size": 1, "regressors": 0 if seen is None else seen.shape[1]}
    Bag(tmp_path, description).save()
    kept = Bag.open(tmp_path).attacker(0)
    assert isinstance(kept, OfResidual) == (kind != "marginal")
    np.testing.assert_array_equal(kept.predict(inputs).quantiles(), attacker.predict(inputs).quantiles())


def test_without_a_base_a_linear_learner_sees_image_features(inputs):
    alone = Inputs(inputs.images, inputs.features)
    log_scores = alone.features[:, :1].astype(np.float64)
    attacker, _ = fit_attacker(alone, log_scores, DEFAULTS["linear"], 0, resample())
    assert np.abs(attacker.predict(alone).quantiles()[:, 0, 9] - log_scores[:, 0]).max() < 0.01


@pytest.mark.parametrize("kind", ["linear", *(name for name in TINY_LEARNERS if name != "marginal")])
def test_a_base_that_is_the_target_leaves_nothing(kind, inputs):
    scores = np.random.default_rng(6).normal(0, 1, (N, 1)) + 3.0 * inputs.features[:, :1]
    itself = replace(inputs, under_base=np.tile(scores, 3).astype(np.float32), own_base=scores)
    options = Learner.model_validate(DEFAULTS[kind].model_dump() | TINY_LEARNERS.get(kind, {})).root
    attacker, _ = fit_attacker(itself, scores, options, 0, resample())
    z = attacker.predict(itself).z_scores(scores)[:, 0]
    assert abs(np.corrcoef(np.argsort(np.argsort(z)), scores[:, 0])[0, 1]) < 0.15, "low scores are no sign of a member"


@pytest.mark.parametrize(("slope", "kept"), [(1.0, (0.97, 1.03)), (0.4, (0.37, 0.43))])
def test_a_score_that_moves_with_its_base_stays_a_ratio_and_one_that_moves_less_is_told_so(slope, kept, base):
    rng = np.random.default_rng(7)
    under = base[:, :1].astype(np.float64)
    seen = np.column_stack([under, rng.normal(0, 1, (N, 20))]).astype(np.float32)
    scores = slope * under + rng.normal(0, 0.3, (N, 1))
    options = DEFAULTS["linear"]
    given = Inputs(np.empty((N, 0, 0, 0), np.uint8), np.empty((N, 1), np.float32), seen, under)
    middle = fit_attacker(given, scores, options, 0, resample())[0].predict(given).quantiles()[:, 0, 9]
    learnt = np.polyfit(under[:, 0], middle, 1)[0]
    assert kept[0] < learnt < kept[1]


def test_an_attacker_beside_another_base_is_refused(inputs):
    attacker, _ = fit_attacker(inputs, inputs.under_base[:, :1].astype(np.float64), DEFAULTS["linear"], 0, resample())
    with pytest.raises(InputError, match="another base"):
        attacker.predict(Inputs(inputs.images, inputs.features, np.tile(inputs.under_base, 2), inputs.own_base))


def test_images_keep_their_scores_under_the_base_when_they_are_picked(inputs):
    rows = np.array([5, 3])
    np.testing.assert_array_equal(inputs[rows].under_base, inputs.under_base[rows])
    np.testing.assert_array_equal(inputs[rows].own_base, inputs.own_base[rows])
    assert not Inputs(inputs.images, inputs.features)[rows].has_base
