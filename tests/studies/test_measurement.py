"""How studies measure: means over seeds and their intervals, and which models of a view count."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from leakgauge.bags import Scored
from leakgauge.errors import InputError
from leakgauge.inference import metrics
from leakgauge.options import Learner, Options
from leakgauge.quantile.inputs import Inputs
from leakgauge.tables import write_table
from studies.common.audits import audits_of, denoising_loss
from studies.common.figures import means
from studies.common.measurement import ALL_SEEDS, as_they_are, reached, with_means
from studies.common.population import Population
from studies.common.runner import Study
from studies.common.settings import BagOptions, Measure

ASKED = Measure(score="t_error_t10", fpr=0.1, alphas=[0.1], confidence=0.95, complexity="brightness")
POWER = [*metrics.POWER, "tpr_count", "members"]


def study(folder: Path, size: int, asked: Measure = ASKED, own: Options | None = None, **learners: dict) -> Study:
    """One whose bags have `size` attackers, of the first of some learners."""
    known = {name: Learner.model_validate(options) for name, options in learners.items()}
    return Study(own, asked, BagOptions(learner=next(iter(known)), size=size, seed=0), known, None, folder)


def scored(values: list[float], column: str = "t_error_t10") -> Scored:
    count = len(values)
    images, features = np.zeros((count, 1, 2, 2), np.uint8), np.zeros((count, 1), np.float32)
    return Scored(Inputs(images, features), np.arange(count).astype(str), {column: np.array(values)})


def test_one_threshold_for_all_counts_by_hand():
    scores = as_they_are(
        {"member": scored([0.0, 1.0, 5.0, 7.0]), "holdout": scored([2.0, *range(10, 19)])}, "t_error_t10"
    )
    found = reached(scores, ASKED)
    assert (found["tpr_count"], found["members"], found["tpr"]) == (4, 4, 1.0)  # one false positive, 2.0, is allowed
    assert reached(scores, ASKED, 0.5)["tpr_count"] == 4
    swapped = {"member": scores["holdout"], "holdout": scores["member"]}
    assert reached(swapped, ASKED, 0.25)["tpr_count"] == 0
    assert np.isnan(reached(scores, ASKED, 0.05)["tpr"]), "ten images resolve no FPR of 5 %"


def seeds_of_one_setting(*rows: tuple[float, int]) -> pd.DataFrame:
    """One row a seed of an AUC of +-0.1 and a count of ten members, its interval of +-0.05."""
    return pd.DataFrame(
        [
            ("a", seed, area, area - 0.1, area + 0.1, count / 10, count / 10 - 0.05, count / 10 + 0.05, count, 10, 2.0)
            for seed, (area, count) in enumerate(rows)
        ],
        columns=["setting", "seed", *POWER, "loss"],
    )


def test_two_seeds_have_a_mean_and_no_interval_and_their_own_rows_stay_as_they_are():
    rows = seeds_of_one_setting((0.8, 5), (0.6, 1))
    table = with_means(rows, ["setting"], 0.95)
    pd.testing.assert_frame_equal(table[:2], rows, check_dtype=False)
    (over,) = table[table["seed"] == ALL_SEEDS].to_dict("records")
    assert (over["auc"], over["tpr"], over["loss"]) == pytest.approx((0.7, 0.3, 2.0))
    assert (over["tpr_count"], over["members"]) == (6, 20)
    assert np.isnan([over[f"{name}_ci_{end}"] for name in ("auc", "tpr") for end in ("low", "high")]).all()


def test_three_seeds_have_students_interval_over_seeds_not_that_of_their_pooled_counts():
    table = with_means(seeds_of_one_setting((0.8, 4), (0.7, 5), (0.6, 6)), ["setting"], 0.95)
    (over,) = table[table["seed"] == ALL_SEEDS].to_dict("records")
    reach = 4.302653 * 0.1 / np.sqrt(3)  # t of two degrees of freedom, deviation 0.1
    assert (over["tpr_ci_low"], over["tpr_ci_high"]) == pytest.approx((0.5 - reach, 0.5 + reach))
    assert (over["auc_ci_low"], over["auc_ci_high"]) == pytest.approx((0.7 - reach, 0.7 + reach))


def test_seeds_that_agree_by_chance_are_not_known_better_than_independent_images_would_be():
    table = with_means(seeds_of_one_setting((0.95, 5), (0.95, 5), (0.95, 5)), ["setting"], 0.95)
    (over,) = table[table["seed"] == ALL_SEEDS].to_dict("records")
    assert (over["tpr_ci_low"], over["tpr_ci_high"]) == pytest.approx(
        (0.5 - 0.05 / np.sqrt(3), 0.5 + 0.05 / np.sqrt(3))
    )
    assert over["auc_ci_high"] == 1, "no AUC is above 1"


def test_a_setting_that_cannot_be_resolved_stays_empty():
    rows = pd.DataFrame([("a", 0, 0.8, 0.7, 0.9, *[np.nan] * 4, 10)], columns=["setting", "seed", *POWER])
    assert with_means(rows, ["setting"], 0.95)["tpr"].isna().all()


def test_a_figure_of_two_seeds_draws_what_their_own_intervals_span_and_of_three_the_interval_over_seeds():
    two, three = (seeds_of_one_setting(*rows) for rows in ([(0.8, 5), (0.6, 1)], [(0.8, 4), (0.7, 5), (0.6, 6)]))
    drawn = means(with_means(two, ["setting"], 0.95), ["setting"]).iloc[0]
    assert (drawn["tpr_ci_low"], drawn["tpr"], drawn["tpr_ci_high"]) == pytest.approx((0.05, 0.3, 0.55))
    table = with_means(three, ["setting"], 0.95)
    over = table[table["seed"] == ALL_SEEDS]
    assert means(table, ["setting"])["tpr_ci_low"].tolist() == over["tpr_ci_low"].tolist()


@pytest.fixture
def population(tmp_path, monkeypatch) -> Population:
    """Six images, and a view of two seeds with a snapshot each."""
    monkeypatch.chdir(tmp_path)
    ids = np.array([f"image-{row}" for row in range(6)])
    parts = [
        pd.DataFrame({"seed": seed, "step": step, "role": np.repeat(["member", "auxiliary", "holdout"], 2)}).assign(
            image_id=ids[::-1], t_error_t10=np.exp(seed + np.arange(6.0)), loss_t20=8.0, loss_t50=4.0
        )
        for seed in (0, 1)
        for step in (5, 9)
    ]
    write_table(
        tmp_path / "data/scores/small.parquet", pa.Table.from_pandas(pd.concat(parts), preserve_index=False), {}
    )
    pixels, features = np.arange(24, dtype=np.uint8).reshape(6, 1, 2, 2), np.arange(6, dtype=np.float32)[:, None]
    return Population(ids, pixels, np.arange(6), ids, features, ["brightness"])


def test_the_images_of_a_view_keep_their_pixels_and_their_scores_together(population):
    (audit,) = audits_of("small", population, [1])
    assert (audit.seed, audit.step) == (1, 9)
    assert audit.roles["member"].hashes.tolist() == ["image-5", "image-4"]
    assert audit.roles["member"].inputs.features[:, 0].tolist() == [5, 4]
    assert audit.roles["holdout"].log_scores["t_error_t10"].tolist() == [5, 6]


def test_snapshots_count_where_asked_for_and_a_seed_that_is_not_there_is_named(population):
    assert [(a.seed, a.step) for a in audits_of("small", population, [0, 1], last_only=False)] == [
        *((0, 5), (0, 9), (1, 5), (1, 9))
    ]
    with pytest.raises(InputError, match=r"views\.small: its model has no seed 4"):
        audits_of("small", population, [0, 4])


def test_the_denoising_loss_is_a_mean_over_images_timesteps_and_pixels(population):
    (audit,) = audits_of("small", population, [0])
    assert denoising_loss(audit.roles["member"]) == pytest.approx((8 + 4) / 2 / 4)


def test_a_fusion_of_two_scores_that_err_apart_tells_more_than_either(tmp_path):
    rng = np.random.default_rng(0)
    roles = {}
    for role, shift in {"member": -2.0, "auxiliary": 0.0, "holdout": 0.0}.items():
        values = {name: shift + rng.standard_normal(600) for name in ("one", "two")}
        inputs = Inputs(np.zeros((600, 1, 2, 2), np.uint8), np.zeros((600, 1), np.float32))
        roles[role] = Scored(inputs, np.array([f"{role} {row}" for row in range(600)]), values)
    of = study(tmp_path, size=3, marginal={"kind": "marginal"})
    fitted = of.fit(roles, ["one", "two"], "test")
    caught = [
        (j.membership_score["member"] > np.sort(j.membership_score["holdout"])[-7]).mean()
        for j in (fitted.judge(), fitted.fused())
    ]
    assert caught[1] > caught[0] + 0.1
    with pytest.raises(InputError, match=r"params.yaml: learners.forest is not there \(there is marginal\)"):
        of.learner("forest")
