"""Learners and bags: they learn what there is to learn, honestly and reproducibly."""

from pathlib import Path

import numpy as np
import pytest
import torch

from leakgauge.compute import spread
from leakgauge.errors import InputError
from leakgauge.options import Learner, LearnerOptions
from leakgauge.quantile.bag import Attacker, Bag, attacker_class, attacker_folder, fit_attacker, z_columns
from leakgauge.quantile.base import (
    LEVELS,
    LocationScale,
    Quantiles,
    Resample,
    bootstrap,
    calibration_split,
    mean_pinball_loss,
    resamples,
)
from leakgauge.quantile.inputs import Inputs, TrainingSet
from leakgauge.quantile.networks import ResNetAttacker
from leakgauge.quantile.training import gaussian_loss, pinball_loss

NETWORK = {
    "epochs": 30,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "weight_decay": 0.0,
    "dropout": 0.0,
    "precision": "float32",
}
GBM = {"trees": 120, "scale_trees": 20, "leaves": 4, "learning_rate": 0.1, "min_leaf": 10, "feature_fraction": 1.0}
KINDS = {
    "gbm": {"kind": "gbm", **GBM},
    "mlp": {"kind": "mlp", "width": 16, "depth": 2, **NETWORK},
    "resnet": {"kind": "resnet", "width": 4, "blocks": 1, "features": False, "hidden": 16, **NETWORK},
}
HEADS = ("location_scale", "quantiles")
CONDITIONAL = [f"{kind}-{head}" for kind in KINDS for head in HEADS]


def options(name: str, **changes: object) -> LearnerOptions:
    """name : `marginal`, or kind and head, as in `mlp-quantiles`."""
    kind, _, head = name.partition("-")
    entry = {**KINDS[kind], "head": head} if head else {"kind": kind}
    return Learner.model_validate(entry | changes).root


def quickly(name: str, **changes: object) -> LearnerOptions:
    """Options that fit in a moment, and learn little."""
    if name.startswith("gbm"):
        return options(name, trees=5, scale_trees=5, **changes)
    return options(name, **changes) if name == "marginal" else options(name, epochs=2, **changes)


def fitted(
    chosen: LearnerOptions,
    inputs: Inputs,
    log_scores: np.ndarray,
    seed: int = 0,
    training_set: type[TrainingSet] = TrainingSet,
) -> Attacker:
    everyone = Resample(np.arange(len(inputs)), np.zeros(len(inputs), dtype=bool))
    return attacker_class(chosen.kind).fit(training_set(inputs, log_scores, everyone), chosen, seed)


@pytest.fixture
def inputs(random_images) -> Inputs:
    return describe(random_images)


def describe(images: np.ndarray) -> Inputs:
    """Three features: brightness, busyness, and one that tells nothing."""
    noise = np.random.default_rng(1).standard_normal(len(images))
    features = np.stack([images.mean((1, 2, 3)), images.std((1, 2, 3)), noise], axis=1)
    return Inputs(images, features.astype(np.float32))


def brightness_of(inputs: Inputs) -> np.ndarray:
    return (inputs.images.mean((1, 2, 3)) - 125) / 40


def brightness_scores(inputs: Inputs, seed: int = 0) -> np.ndarray:
    """(N, 1) log scores that depend on the image: brighter means higher, and twice as spread."""
    brightness = brightness_of(inputs)
    noise = np.random.default_rng(seed).standard_normal(len(inputs))
    return (2 * brightness + np.where(brightness > 0, 0.4, 0.2) * noise)[:, None]


def two_scores(inputs: Inputs) -> np.ndarray:
    """(N, 2) log scores: one rises with brightness, the other, elsewhere and wider, falls with it."""
    first = brightness_scores(inputs)
    return np.concatenate([first, 30 - 10 * brightness_scores(inputs, seed=1)], axis=1)


def median_and_spread(prediction) -> tuple[np.ndarray, np.ndarray]:
    """(N, S) each."""
    at = dict(zip(LEVELS, np.moveaxis(prediction.quantiles(), -1, 0), strict=True))
    return at[0.5], at[0.9] - at[0.1]


def saved(attacker: Attacker, folder: Path) -> dict[str, bytes]:
    folder.mkdir(parents=True)
    attacker.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Losses


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


def test_mean_pinball_loss_is_the_hand_computed_one():
    flat = Quantiles(np.zeros((2, 1, len(LEVELS))))
    above, below = np.mean(LEVELS), 1 - np.mean(LEVELS)  # what a score 1 above, or below, all quantiles costs
    assert mean_pinball_loss(flat, np.array([[1.0], [-2.0]])) == pytest.approx((above + 2 * below) / 2)


def test_mean_pinball_loss_measures_quantiles_and_gaussians_with_one_yardstick():
    scores = np.random.default_rng(0).standard_normal((500, 2))
    gaussian = LocationScale(np.zeros((500, 2)), np.ones((500, 2)))
    assert mean_pinball_loss(gaussian, scores) == mean_pinball_loss(Quantiles(gaussian.quantiles()), scores)
    assert mean_pinball_loss(LocationScale(np.full((500, 2), 0.5), np.ones((500, 2))), scores) > mean_pinball_loss(
        gaussian, scores
    )


# What learners learn


@pytest.mark.parametrize("learner", CONDITIONAL)
def test_conditional_learners_find_location_and_spread_of_each_image(learner, inputs):
    attacker = fitted(options(learner), inputs, brightness_scores(inputs))
    median, width = median_and_spread(attacker.predict(inputs))
    truth = 2 * brightness_of(inputs)
    assert median.shape == (len(inputs), 1)
    assert np.corrcoef(median[:, 0], truth)[0, 1] > 0.97
    bright = truth > 0
    assert width[bright].mean() > 1.2 * width[~bright].mean()


def test_the_marginal_learner_says_the_same_of_every_image(inputs):
    scores = two_scores(inputs)
    prediction = fitted(options("marginal"), inputs, scores).predict(inputs[:3])
    assert prediction.values.shape == (3, 2, len(LEVELS))
    assert (prediction.values == np.quantile(scores, LEVELS, axis=0).T).all()


@pytest.mark.parametrize("learner", [name for name in CONDITIONAL if name.endswith("quantiles")])
def test_quantiles_never_cross(learner, inputs):
    attacker = fitted(quickly(learner), inputs, two_scores(inputs))
    steps = np.diff(attacker.predict(inputs).values, axis=-1)
    assert (steps >= 0).all()
    assert learner.startswith("gbm") or (steps > 0).all()


@pytest.mark.parametrize("learner", [name for name in CONDITIONAL if name.endswith("location_scale")])
def test_scales_are_positive(learner, inputs):
    assert (fitted(quickly(learner), inputs, two_scores(inputs)).predict(inputs).scale > 0).all()


@pytest.mark.parametrize("learner", ["marginal", *CONDITIONAL])
def test_of_several_scores_each_prediction_is_about_its_own(learner, inputs):
    scores = two_scores(inputs)
    predicted, of_swapped = (
        fitted(options(learner), inputs, values).predict(inputs) for values in (scores, scores[:, ::-1].copy())
    )
    error = np.abs(median_and_spread(predicted)[0] - scores).mean(0) / scores.std(0)
    assert (error < (1 if learner == "marginal" else 0.2)).all()
    unit = scores.std(0)[:, None]
    np.testing.assert_allclose(of_swapped.quantiles()[:, ::-1] / unit, predicted.quantiles() / unit, atol=0.02)


@pytest.mark.parametrize("learner", ["marginal", "gbm-location_scale", "gbm-quantiles"])
def test_learners_of_one_score_at_a_time_say_of_each_what_they_say_of_it_alone(learner, inputs):
    scores, chosen = two_scores(inputs), quickly(learner)
    both = fitted(chosen, inputs, scores).predict(inputs)
    for column in (0, 1):
        alone = fitted(chosen, inputs, scores[:, [column]]).predict(inputs)
        assert type(alone) is type(both)
        np.testing.assert_array_equal(both.quantiles()[:, [column]], alone.quantiles())
        z = [of.z_scores(values) for of, values in ((both, scores), (alone, scores[:, [column]]))]
        np.testing.assert_array_equal(z[0][:, [column]], z[1])


# What learners look at


def same(one, other) -> bool:
    return np.array_equal(one.quantiles(), other.quantiles())


def with_other_pixels(inputs: Inputs) -> Inputs:
    return Inputs(255 - inputs.images, inputs.features)


def with_other_features(inputs: Inputs) -> Inputs:
    return Inputs(inputs.images, inputs.features[::-1].copy())


@pytest.mark.parametrize("learner", [name for name in CONDITIONAL if not name.startswith("resnet")])
def test_mlp_and_gbm_look_at_the_features_and_not_at_the_pixels(learner, inputs):
    attacker = fitted(quickly(learner), inputs, brightness_scores(inputs))
    expected = attacker.predict(inputs)
    assert same(attacker.predict(with_other_pixels(inputs)), expected)
    assert not same(attacker.predict(with_other_features(inputs)), expected)
    again = fitted(quickly(learner), with_other_pixels(inputs), brightness_scores(inputs))
    assert same(again.predict(inputs), expected), "nor while it was fitted"


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_a_resnet_looks_at_the_pixels_and_at_the_features_where_asked_to(head, features, inputs):
    chosen = quickly(f"resnet-{head}", features=features)
    attacker = fitted(chosen, inputs, brightness_scores(inputs))
    expected = attacker.predict(inputs)
    assert not same(attacker.predict(with_other_pixels(inputs)), expected)
    assert same(attacker.predict(with_other_features(inputs)), expected) == (not features)


def test_features_teach_a_resnet_what_pixels_do_not_tell(inputs):
    scores = 3.0 * inputs.features[:, [2]].astype(float)  # the feature that the pixels know nothing of
    losses = {}
    for features in (False, True):
        attacker = fitted(options("resnet-location_scale", features=features), inputs, scores)
        losses[features] = mean_pinball_loss(attacker.predict(inputs), scores)
    assert losses[True] < 0.5 * losses[False]


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_a_resnet_says_exactly_the_same_of_a_mirrored_image(head, features, inputs):
    attacker = fitted(quickly(f"resnet-{head}", features=features), inputs, brightness_scores(inputs))
    mirrored = Inputs(inputs.images[..., ::-1].copy(), inputs.features)
    upside_down = Inputs(inputs.images[..., ::-1, :].copy(), inputs.features)
    assert same(attacker.predict(mirrored), attacker.predict(inputs))
    assert not same(attacker.predict(upside_down), attacker.predict(inputs))


@pytest.mark.parametrize("learner", CONDITIONAL)
def test_strange_features_are_not_extrapolated_to(learner, inputs):
    chosen = quickly(learner, features=True) if learner.startswith("resnet") else quickly(learner)
    attacker = fitted(chosen, inputs, brightness_scores(inputs))
    far, farther = (Inputs(inputs.images, inputs.features + np.float32(shift)) for shift in (1e4, 1e30))
    assert np.isfinite(attacker.predict(far).quantiles()).all()
    assert same(attacker.predict(far), attacker.predict(farther)), "beyond some point, farther is no other"


@pytest.mark.parametrize("learner", ["mlp-quantiles", "resnet-quantiles"])
def test_a_feature_that_never_varied_tells_nothing_of_other_images(learner, inputs):
    constant = np.full((len(inputs), 1), 0.1, np.float32)
    inputs = Inputs(inputs.images, np.concatenate([inputs.features, constant], axis=1))
    chosen = quickly(learner, features=True) if learner.startswith("resnet") else quickly(learner)
    attacker = fitted(chosen, inputs, brightness_scores(inputs))
    other = inputs.features.copy()
    other[:, -1] = 7
    assert same(attacker.predict(Inputs(inputs.images, other)), attacker.predict(inputs))


@pytest.mark.parametrize("learner", [name for name in CONDITIONAL if not name.startswith("gbm")])
def test_bfloat16_is_close_to_float32(learner, inputs):
    scores = brightness_scores(inputs)
    medians = []
    for precision in ("float32", "bfloat16"):
        attacker = fitted(options(learner, precision=precision, epochs=15), inputs, scores)
        medians.append(median_and_spread(attacker.predict(inputs))[0][:, 0])
    exact, coarse = medians
    assert not np.array_equal(exact, coarse)
    assert np.abs(coarse - exact).mean() < 0.1 * scores.std()
    assert np.corrcoef(exact, coarse)[0, 1] > 0.99


@pytest.mark.parametrize(("channels", "size"), [(1, 2), (3, 5), (3, 32)])
@pytest.mark.parametrize("learner", ["mlp-quantiles", "resnet-location_scale"])
def test_images_may_have_any_size_and_colours(learner, channels, size, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, channels, size, size + 1), dtype=np.uint8)
    inputs = describe(images)
    attacker = fitted(quickly(learner), inputs, brightness_scores(inputs))
    saved(attacker, tmp_path / "a")
    loaded = attacker_class(attacker.options.kind).load(tmp_path / "a", attacker.options)
    assert same(loaded.predict(inputs), attacker.predict(inputs))


@pytest.mark.parametrize(("width", "parameters"), [(4, 5.6e3), (8, 2e4), (16, 8e4)])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("channels", [1, 3])
def test_widths_give_about_the_papers_parameter_counts(channels, head, width, parameters):
    network = ResNetAttacker.build(channels, 100, 1, options(f"resnet-{head}", width=width))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(parameters, rel=0.15)


def test_an_untrained_network_predicts_the_standard_normal_of_every_score(inputs):
    for head in HEADS:
        chosen = options(f"resnet-{head}")
        attacker = ResNetAttacker(ResNetAttacker.build(1, 3, 2, chosen), chosen)
        quantiles = attacker.predict(inputs[:4]).quantiles()
        expected = LocationScale(np.zeros((4, 2)), np.ones((4, 2))).quantiles()
        np.testing.assert_allclose(quantiles, expected, atol=1e-5)


# The same seed, the same bytes


@pytest.mark.parametrize("learner", ["marginal", *CONDITIONAL])
def test_the_same_seed_gives_the_same_bytes_and_saving_loses_nothing(learner, inputs, tmp_path):
    chosen, scores = quickly(learner), two_scores(inputs)
    attackers = [fitted(chosen, inputs, scores, seed=5) for _ in range(2)]
    files = [saved(attacker, tmp_path / name) for name, attacker in zip("ab", attackers, strict=True)]
    assert files[0] == files[1]
    loaded = attacker_class(chosen.kind).load(tmp_path / "a", chosen)
    before, after = (attacker.predict(inputs) for attacker in (attackers[0], loaded))
    assert same(before, after)
    np.testing.assert_array_equal(before.z_scores(scores), after.z_scores(scores))


@pytest.mark.parametrize("learner", [name for name in CONDITIONAL if name != "gbm-quantiles"])
def test_another_seed_gives_another_attacker(learner, inputs):
    chosen, scores = quickly(learner), brightness_scores(inputs)
    one, other = (fitted(chosen, inputs, scores, seed).predict(inputs) for seed in (0, 1))
    assert not same(one, other)


@pytest.mark.parametrize("learner", ["mlp-quantiles", "resnet-location_scale"])
def test_being_watched_changes_nothing(learner, inputs, tmp_path):
    chosen = quickly(learner, dropout=0.3)
    scores, steps = brightness_scores(inputs), []

    class NobodyLooks(TrainingSet):
        def validate(self, step: int, attacker: Attacker) -> bool:
            steps.append(step)
            return True

    watched = saved(fitted(chosen, inputs, scores), tmp_path / "watched")
    assert watched == saved(fitted(chosen, inputs, scores, training_set=NobodyLooks), tmp_path / "alone")
    assert steps == [1, 2]


def bytes_of_fit(inputs: Inputs, scores: np.ndarray, chosen: LearnerOptions, folder: Path) -> dict[str, bytes]:
    return saved(fitted(chosen, inputs, scores), folder)


@pytest.mark.parametrize("learner", CONDITIONAL)
def test_the_number_of_threads_outside_changes_no_byte(learner, inputs, tmp_path):
    before, files = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            job = (inputs, brightness_scores(inputs), quickly(learner), tmp_path / f"{threads}")
            files += spread(bytes_of_fit, [job], "fit")
            assert torch.get_num_threads() == threads, "what was set outside is set again"
    finally:
        torch.set_num_threads(before)
    assert files[0] == files[1]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 10])
def test_a_network_is_fitted_in_any_number_of_steps(steps, inputs):
    chosen = options("mlp-quantiles", epochs=steps, batch_size=len(inputs))
    assert np.isfinite(fitted(chosen, inputs, brightness_scores(inputs)).predict(inputs).quantiles()).all()


@pytest.mark.parametrize("learner", ["mlp-quantiles", "resnet-quantiles", "gbm-quantiles"])
def test_an_image_is_predicted_the_same_whatever_is_predicted_beside_it(learner, inputs):
    attacker = fitted(quickly(learner), inputs, brightness_scores(inputs))
    together = attacker.predict(inputs).quantiles()
    apart = np.concatenate([attacker.predict(inputs[start : start + 7]).quantiles() for start in range(0, 200, 7)])
    np.testing.assert_allclose(apart, together, rtol=1e-5, atol=1e-5)


# Bags


NOBODY = np.zeros(100, dtype=bool)


def test_out_of_bag_is_exactly_what_the_bootstrap_left_out():
    drawn = resamples(NOBODY, seed=3, bag_size=4)
    assert len(drawn) == 4
    for attacker, resample in enumerate(drawn):
        np.testing.assert_array_equal(resample.rows, bootstrap(100, 3, attacker))
        assert set(np.flatnonzero(resample.out_of_bag)) == set(range(100)) - set(resample.rows)
    assert 0.3 < np.mean([resample.out_of_bag for resample in drawn]) < 0.45
    assert not np.array_equal(drawn[0].rows, drawn[1].rows)


def test_a_larger_bag_leaves_the_attackers_that_were_there_as_they_are():
    few, many = (resamples(NOBODY, seed=3, bag_size=size) for size in (2, 5))
    assert all(np.array_equal(one.rows, other.rows) for one, other in zip(few, many, strict=False))


def test_images_kept_apart_are_as_many_as_asked_and_no_attacker_sees_them():
    kept = calibration_split(100, 20, seed=0)
    assert kept.sum() == 20
    for resample in resamples(kept, seed=0, bag_size=10):
        assert not kept[resample.rows].any()
        assert resample.out_of_bag[kept].all()
        assert len(resample.rows) == (~kept).sum()


def test_others_are_kept_apart_by_another_seed_and_nobody_by_default():
    assert not np.array_equal(calibration_split(100, 20, seed=0), calibration_split(100, 20, seed=1))
    assert not calibration_split(100, 0, seed=0).any()
    assert calibration_split(100, 500, seed=0).all()


def test_a_kept_image_stays_kept_when_more_are():
    few, many = (calibration_split(100, count, seed=0) for count in (10, 30))
    assert (many[few]).all()


def test_raw_thresholds_are_honest_on_fresh_images_of_a_well_specified_learner():
    rng = np.random.default_rng(0)
    inputs = describe(rng.integers(0, 255, (2000, 1, 8, 8), dtype=np.uint8))
    scores = rng.standard_normal((2000, 1))
    drawn = resamples(np.zeros(1000, dtype=bool), seed=0, bag_size=5)
    attackers = [fit_attacker(inputs[:1000], scores[:1000], options("marginal"), 0, one)[0] for one in drawn]
    predicted = [attacker.predict(inputs[1000:]).values[:, 0, LEVELS.index(0.1)] for attacker in attackers]
    assert 0.07 < (scores[1000:, 0] <= np.median(predicted, axis=0)).mean() < 0.13


@pytest.mark.parametrize("learner", ["mlp-quantiles", "resnet-quantiles", "gbm-location_scale"])
def test_the_curve_of_an_attacker_ends_at_its_own_losses(learner, inputs):
    scores = brightness_scores(inputs)
    (resample,) = resamples(np.zeros(200, dtype=bool), seed=0, bag_size=1)
    attacker, curve = fit_attacker(inputs, scores, options(learner), 0, resample)
    assert list(curve.columns) == ["step", "train", "out_of_bag"]
    prediction = attacker.predict(inputs[resample.out_of_bag])
    assert curve["out_of_bag"].iloc[-1] == pytest.approx(mean_pinball_loss(prediction, scores[resample.out_of_bag]))
    assert curve["train"].iloc[-1] < curve["out_of_bag"].iloc[-1]
    if not learner.startswith("gbm"):
        assert len(curve) == 8
        assert curve["step"].is_monotonic_increasing
        assert curve["out_of_bag"].iloc[-1] < curve["out_of_bag"].iloc[0] / 2


def test_an_attacker_that_saw_every_image_has_no_unseen_loss(inputs):
    everyone = Resample(np.arange(len(inputs)), np.zeros(len(inputs), dtype=bool))
    _, curve = fit_attacker(inputs, brightness_scores(inputs), options("marginal"), 0, everyone)
    assert curve["train"].notna().all()
    assert curve["out_of_bag"].isna().all()


@pytest.fixture
def bag(inputs, tmp_path) -> Bag:
    """Three marginal attackers in a folder."""
    chosen = options("marginal")
    for number in range(3):
        saved(fitted(chosen, inputs[number:], brightness_scores(inputs[number:])), attacker_folder(tmp_path, number))
    bag = Bag(tmp_path, {"options": chosen.model_dump(), "bag_size": 3})
    bag.save()
    return bag


def test_a_bag_opens_as_it_was_saved(bag, inputs):
    opened = Bag.open(bag.folder)
    assert opened == bag
    first, second = (opened.attacker(number).predict(inputs) for number in (0, 1))
    assert not same(first, second)


@pytest.mark.parametrize("learner", ["marginal", *CONDITIONAL])
def test_a_bag_says_of_each_score_its_z_and_of_gaussians_the_log_of_the_scale(learner, inputs, tmp_path):
    chosen, scores = quickly(learner), two_scores(inputs)
    attackers = [fitted(chosen, inputs[number:], scores[number:]) for number in range(2)]
    for number, attacker in enumerate(attackers):
        saved(attacker, attacker_folder(tmp_path, number))
    of = Bag(tmp_path, {"options": chosen.model_dump(), "bag_size": 2, "scores": ["first", "second"]})
    columns = z_columns(of, inputs, scores, "auxiliary")
    kinds = ["z", "log_scale"] if learner.endswith("location_scale") else ["z"]
    assert list(columns) == [f"{score}.{kind}" for score in ("first", "second") for kind in kinds]
    predictions = [attacker.predict(inputs) for attacker in attackers]
    for place, score in enumerate(("first", "second")):
        z = np.stack([prediction.z_scores(scores)[:, place] for prediction in predictions], axis=1)
        np.testing.assert_array_equal(columns[f"{score}.z"], z.astype(np.float32))
        if len(kinds) > 1:
            scale = np.stack([prediction.scale[:, place] for prediction in predictions], axis=1)
            np.testing.assert_allclose(np.exp(columns[f"{score}.log_scale"]), scale, rtol=1e-5)


@pytest.mark.parametrize("content", [None, "{}", "not JSON", '{"options": {"kind": "oracle"}, "bag_size": 3}'])
def test_a_folder_that_is_no_bag_is_refused(content, bag):
    path = bag.folder / "bag.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=f"{bag.folder}: not a whole bag"):
        Bag.open(bag.folder)


@pytest.mark.parametrize("learner", ["marginal", *CONDITIONAL])
@pytest.mark.parametrize("damage", ["missing", "empty", "torn"])
def test_a_damaged_attacker_is_refused(learner, damage, inputs, tmp_path):
    chosen = quickly(learner)
    saved(fitted(chosen, inputs, brightness_scores(inputs)), attacker_folder(tmp_path, 0))
    path = min(attacker_folder(tmp_path, 0).iterdir())
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else content[:60])
    with pytest.raises(InputError, match="not a whole bag: attacker 0: "):
        Bag(tmp_path, {"options": chosen.model_dump(), "bag_size": 1}).attacker(0)
