"""The library as a notebook uses it: the public names, a bag in memory, and the walk of docs/library.py."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, TINY_LEARNERS, tiny_params
from pipeline import environment
from ruamel.yaml import YAML
from scipy.stats import spearmanr

import leakgauge
from leakgauge import QuantileBag, bags, image_features, membership_metrics
from leakgauge.bags import BagRunner, Named, Scored
from leakgauge.errors import InputError
from leakgauge.features import named_features
from leakgauge.inference.conformal import bag_vote
from leakgauge.inference.roc import tpr_at_fpr
from leakgauge.inference.z_scores import ZTable
from leakgauge.options import Learner
from leakgauge.quantile.bag import DEFAULTS
from leakgauge.quantile.inputs import Inputs
from leakgauge.tables import decode_images, log_scores, read_described, read_features, read_table

SCORE = "t_error_t10"

NO_PIXELS = np.empty((60, 0, 0, 0), np.uint8)


def drawn(rng: np.random.Generator, count: int, drop: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Features, and log scores whose level and spread follow the first of them; members' are lower by `drop`."""
    x = rng.normal(size=(count, 3)).astype(np.float32)
    spread = np.exp(0.3 * x[:, 1])
    return x, 3 * x[:, 0] + spread * (rng.normal(size=count) - drop)


def test_every_public_name_is_there_and_documented():
    assert set(leakgauge.__all__) == {"Denoiser", "QuantileBag", "image_features", "membership_metrics", "t_errors"}
    assert all(getattr(leakgauge, name).__doc__ for name in leakgauge.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        leakgauge.nothing  # noqa: B018


def test_importing_the_library_imports_no_torch():
    code = "import sys, leakgauge; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


def test_the_default_learners_are_those_of_the_params_file():
    learners = YAML(typ="safe", pure=True).load((REPOSITORY / "params.yaml").read_text())["learners"]
    assert {name: DEFAULTS[name].model_dump() for name in learners} == learners
    assert set(DEFAULTS) - set(learners) == {"linear"}, "it is for fine-tunes, of which the default audit has none"


def test_a_z_score_is_how_many_deviations_a_log_score_lies_from_what_non_members_have():
    log_scores = np.random.default_rng(0).normal(5, 2, 4000)
    bag = QuantileBag("marginal", n_attackers=5).fit(np.zeros((4000, 1)), log_scores)
    z = bag.z_scores(np.zeros((3, 1)), np.array([1.0, 5.0, 6.0]))
    np.testing.assert_allclose(np.median(z, axis=1), [-2, 0, 0.5], atol=0.15)


@pytest.mark.parametrize("learner", ["marginal", "gbm", "mlp"])
def test_p_values_of_non_members_are_uniform_and_those_of_members_low(learner):
    rng = np.random.default_rng(1)
    bag = QuantileBag(learner, n_attackers=5, seed=3).fit(*drawn(rng, 1000))
    p_values = bag.p_values(*drawn(rng, 4000))
    for alpha in (0.01, 0.05, 0.1, 0.5):
        assert abs((p_values <= alpha).mean() - alpha) < 4 * np.sqrt(alpha * (1 - alpha) / 800)
    assert (bag.p_values(*drawn(rng, 500, drop=6.0)) <= 0.05).mean() > (0.9 if learner != "marginal" else 0.3)


def test_thresholds_for_each_image_catch_more_than_one_for_all_where_images_differ():
    rng = np.random.default_rng(2)
    auxiliary, member, holdout = drawn(rng, 1500), drawn(rng, 1000, drop=3.0), drawn(rng, 1000)
    caught = {}
    for learner in ("marginal", "gbm"):
        bag = QuantileBag(learner, n_attackers=5).fit(*auxiliary)
        metrics = membership_metrics(bag.membership_scores(*member), bag.membership_scores(*holdout))
        caught[learner] = metrics["tpr_at_fpr_1e-2_ci_low"], metrics["tpr_at_fpr_1e-2_ci_high"]
    assert caught["gbm"][0] > caught["marginal"][1]


def test_the_same_seed_gives_the_same_bag_and_another_seed_another():
    x, y = drawn(np.random.default_rng(3), 300)
    first, again, other = (QuantileBag("mlp", n_attackers=3, seed=seed).fit(x, y).z_scores(x, y) for seed in (0, 0, 1))
    assert (first == again).all()
    assert not (first == other).all()


def test_several_scores_are_fused_and_one_column_is_as_one_score():
    rng = np.random.default_rng(4)
    x, y = drawn(rng, 300)
    one = QuantileBag("marginal", n_attackers=4).fit(x, y)
    column = QuantileBag("marginal", n_attackers=4).fit(x, y[:, None])
    np.testing.assert_allclose(column.z_scores(x, y[:, None])[..., 0], one.z_scores(x, y))
    np.testing.assert_allclose(column.p_values(x, y[:, None]), one.p_values(x, y))
    two = QuantileBag("marginal", n_attackers=4).fit(x, np.stack([y, y], axis=1))
    np.testing.assert_allclose(two.membership_scores(x, np.stack([y, y], axis=1)), one.membership_scores(x, y))


def test_the_vote_of_a_bag_is_minus_the_median_of_its_z_scores():
    x, y = drawn(np.random.default_rng(5), 200)
    bag = QuantileBag("gbm", n_attackers=4).fit(x, y)
    np.testing.assert_array_equal(bag.membership_scores(x, y), bag_vote(bag.z_scores(x, y)))


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="49 auxiliary images; a bag needs at least 50"):
        QuantileBag("marginal").fit(*drawn(np.random.default_rng(0), 49))


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.zeros((60, 2)), np.zeros(59), "X has 60 images, log_scores 59"),
        (np.zeros((60, 2)), np.r_[np.zeros(59), -np.inf], "NaN or inf; the logarithm of a score of 0 is -inf"),
        (np.full((60, 2), np.nan), np.zeros(60), "NaN or inf"),
        (Inputs(NO_PIXELS, np.zeros((60, 2)), np.full((60, 1), np.nan), np.zeros((60, 1))), np.zeros(60), "NaN"),
        (Inputs(NO_PIXELS, np.zeros((60, 2)), np.zeros((60, 1)), np.full((60, 1), np.inf)), np.zeros(60), "NaN"),
    ],
)
def test_what_does_not_go_together_or_is_no_number_is_refused(x, y, said):
    with pytest.raises(ValueError, match=said):
        QuantileBag("marginal").fit(x, y)
    bag = QuantileBag("marginal", n_attackers=3).fit(np.zeros((60, 2)), np.arange(60.0))
    with pytest.raises(ValueError, match=said):
        bag.p_values(x, y)


def test_another_number_of_scores_than_was_learnt_is_refused_and_not_broadcast():
    x, y = drawn(np.random.default_rng(0), 100)
    two = QuantileBag("gbm", n_attackers=3).fit(x, np.stack([y, y], axis=1))
    for other in (y, y[:, None]):
        with pytest.raises(ValueError, match=r"the bag was fitted on 2 score\(s\)"):
            two.z_scores(x, other)
    with pytest.raises(ValueError, match=r"log_scores are \(100, 1\); the bag was fitted on 1 score\(s\)"):
        QuantileBag("gbm", n_attackers=3).fit(x, y).z_scores(x, y[:, None])


def test_an_unknown_learner_and_one_without_its_pixels_are_refused():
    with pytest.raises(ValueError, match="no learner 'forest'; there are marginal, linear, gbm, mlp, resnet"):
        QuantileBag("forest")
    with pytest.raises(ValueError, match="resnet needs pixels"):
        QuantileBag("resnet").fit(*drawn(np.random.default_rng(0), 60))


def test_metrics_of_nan_are_refused():
    with pytest.raises(ValueError, match="membership scores hold NaN"):
        membership_metrics(np.array([np.nan]), np.zeros(100))


def test_metrics_by_hand():
    member, holdout = np.array([3.0, 2.0, 0.0]), np.r_[np.linspace(-1, 1, 100), 2.5]
    found = membership_metrics(member, holdout, [0.01])
    assert found["tpr_at_fpr_1e-2"] == pytest.approx(2 / 3), "one of 101 may lie above: 2.5"
    rate = tpr_at_fpr(member, holdout, 0.01, 0.95)
    assert (found["tpr_at_fpr_1e-2_ci_low"], found["tpr_at_fpr_1e-2_ci_high"]) == (rate.low, rate.high)
    assert found["auc"] == pytest.approx((101 + 100 + 50) / 303)


def test_image_features_are_the_named_ones_side_by_side():
    images = np.random.default_rng(0).integers(256, size=(5, 3, 8, 8), dtype=np.uint8)
    features = image_features(images)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, np.stack([*named_features(images).values()], axis=1))
    np.testing.assert_array_equal(image_features(np.tile(images, (200, 1, 1, 1))[:600])[:5], features)


def runner(folder: Path) -> BagRunner:
    """Of the audit in the working directory."""
    roles = {}
    for role in ("member", "auxiliary", "holdout"):
        images, features, scores = (
            Path(f"data/{kind}/digits_ddpm/{role}.parquet") for kind in ("roles", "features", "scores")
        )
        table, described = read_described(images, features)
        hashes = table.column("sha256").to_numpy()
        roles[role] = Scored(Inputs(decode_images(table), described), hashes, {SCORE: log_scores(scores, SCORE)})
    return BagRunner(roles, 0, folder)


def learner_of(name: str) -> Named:
    return Named(name, Learner.model_validate(tiny_params()["learners"][name]).root)


@pytest.mark.parametrize("learner", TINY_LEARNERS)
def test_a_bag_that_is_not_kept_is_the_one_of_the_pipeline(learner, audit):
    fitted = runner(Path("work")).fit(learner_of(learner), 5, [SCORE], np.arange(120), "a bag")
    kept = ZTable.open(Path(f"data/z/digits_ddpm/{learner}.parquet"))
    for role, z in kept.read(SCORE).items():
        np.testing.assert_allclose(fitted.z[role][..., 0], z, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(fitted.out_of_bag, kept.out_of_bag)
    assert fitted.out_of_bag_loss == pytest.approx(kept.bag["out_of_bag_loss"], rel=1e-4)
    rows = read_table(Path("data/verdicts/digits_ddpm.parquet")).to_pandas()
    rows = rows[rows["learner"] == learner]
    for role in ("member", "holdout"):
        of_role = rows[rows["role"] == role]
        for result in (fitted.judge(), fitted.fused()):  # one column fused is that column
            np.testing.assert_allclose(result.membership_score[role], of_role["membership_score"], atol=1e-5)
            np.testing.assert_allclose(result.p_value[role], of_role["p_value"], atol=0.02)


def test_attackers_are_fitted_once_whatever_dies_and_whoever_asks(audit, monkeypatch):
    begun, spread = [], bags.spread

    def die_at_the_third(work, jobs, what):
        for job in jobs:
            if len(begun) == 2:
                raise KeyboardInterrupt
            begun.append(job[-1])
            work(*job)

    of, everyone = runner(Path("work")), np.arange(120)
    monkeypatch.setattr(bags, "spread", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        of.fit(learner_of("gbm"), 5, [SCORE], everyone, "a bag")
    rest = []
    monkeypatch.setattr(bags, "spread", lambda work, jobs, what: rest.extend(jobs) or spread(work, jobs, what))
    resumed = of.fit(learner_of("gbm"), 5, [SCORE], everyone, "a bag")
    assert len(rest) == 3, "two were there"
    larger = of.fit(learner_of("gbm"), 6, [SCORE], everyone, "a larger bag")
    assert len(rest) == 4
    np.testing.assert_array_equal(larger.z["holdout"][:, :5], resumed.z["holdout"])
    alone = runner(Path("alone")).fit(learner_of("gbm"), 5, [SCORE], everyone, "a bag")
    np.testing.assert_array_equal(alone.z["holdout"], resumed.z["holdout"])
    fewer = of.fit(learner_of("gbm"), 5, [SCORE], everyone[:60], "a bag of fewer images")
    assert len(rest) == 4 + 5 + 5
    assert fewer.out_of_bag.shape == (60, 5)
    assert not np.array_equal(fewer.z["holdout"], resumed.z["holdout"])


def test_a_learner_that_diverges_is_named(audit):
    options = learner_of("mlp").options.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(InputError, match=r"params\.yaml: learners\.wild: predicts NaN or inf"):
        runner(Path("work")).fit(Named("wild", options), 2, [SCORE], np.arange(120), "a bag")


@pytest.mark.slow
def test_the_walk_of_the_docs_runs_after_a_repro(finished_clone):
    walk = [sys.executable, str(REPOSITORY / "docs/library.py")]
    done = subprocess.run(walk, cwd=finished_clone, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()][:2] == ["one threshold", "one for each"]
    assert "of 150 have p <= 0.05" in done.stdout


@pytest.mark.slow
def test_a_bag_in_memory_ranks_images_as_the_one_of_the_pipeline_does(finished_clone):
    found = {}
    options = YAML(typ="safe", pure=True).load((finished_clone / "params.yaml").read_text())
    size, seed, (score,) = (options["fit"][key] for key in ("bag_size", "seed", "scores"))
    learner = type(DEFAULTS["gbm"]).model_validate(options["learners"]["gbm"])
    for role in ("auxiliary", "holdout"):
        x = read_features(finished_clone / f"data/features/digits_ddpm/{role}.parquet")[1]
        found[role] = x, log_scores(finished_clone / f"data/scores/digits_ddpm/{role}.parquet", score)
    bag = QuantileBag(learner, n_attackers=size, seed=seed).fit(*found["auxiliary"])
    verdicts = read_table(finished_clone / Path("data/verdicts/digits_ddpm.parquet")).to_pandas()
    stored = verdicts.query("learner == 'gbm' and role == 'holdout'")["membership_score"].to_numpy()
    assert spearmanr(bag.membership_scores(*found["holdout"]), stored).statistic > 0.95


def test_every_stage_starts_without_what_the_extras_install():
    """The README's first command installs none of them."""
    extras = ("transformers", "peft", "ray", "pillow_heif", "pydicom", "nibabel", "opacus", "boto3", "monai")
    stages = [path.stem for path in sorted((REPOSITORY / "stages").glob("*.py")) if path.stem != "__init__"]
    code = f"import sys; sys.modules.update(dict.fromkeys({extras!r})); import stages.{', stages.'.join(stages)}"
    code += "; import leakgauge.commands; leakgauge.commands.parser()"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
