"""An attacker that knows half of the members: no image judges itself, rates hold, labels decide the direction."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pipeline import TARGET

from leakgauge.draws import share_by_name
from leakgauge.inference.metrics import summarise, widened
from leakgauge.inference.roc import auc, tpr_at_fpr
from leakgauge.inference.supervised import FEWEST, SUPERVISED, WIDER, Features, logistic, supervised
from leakgauge.inference.z_scores import MEASURED
from leakgauge.tables import read_table

COUNTS = {"member": 100, "holdout": 200, "auxiliary": 200}
NAMES = {role: [f"{role}-{number}" for number in range(count)] for role, count in COUNTS.items()}


def drawn(rng: np.random.Generator, columns: int, shift: float) -> dict[str, np.ndarray]:
    """Role -> (N, D) log scores; a member's are lower."""
    return {role: rng.normal(-shift * (role == "member"), 1, (count, columns)) for role, count in COUNTS.items()}


def features_of(log_scores: dict[str, np.ndarray]) -> Features:
    features = Features(usable=np.ones(len(log_scores["auxiliary"]), dtype=bool))
    for column in range(log_scores["member"].shape[1]):
        features.add_scores(f"score_{column}", {role: np.exp(rows[:, column]) for role, rows in log_scores.items()})
    return features


def area(result) -> float:
    return auc(*(result.membership_score[role] for role in MEASURED), 0.95)[0]


def test_weak_scores_together_tell_more_than_the_best_alone():
    log_scores = drawn(np.random.default_rng(0), 8, 0.7)
    found = supervised(features_of(log_scores), NAMES)
    alone = max(auc(-log_scores["member"][:, i], -log_scores["holdout"][:, i], 0.95)[0] for i in range(8))
    assert area(found.result) > alone + 0.1


def test_swapped_labels_turn_it_round():
    log_scores = drawn(np.random.default_rng(1), 8, 0.7)
    halves = {role: np.array_split(log_scores[role], 2) for role in MEASURED}
    for first, second, expected in (("member", "holdout", 0.9), ("holdout", "member", 0.1)):
        fitted, _ = logistic(halves[first][0], halves[second][0], [str(i) for i in range(150)])
        measured = auc(*(fitted.decision_function(halves[role][1]) for role in MEASURED), 0.95)[0]
        assert measured == pytest.approx(expected, abs=0.08)


def test_no_image_sways_its_own_verdict():
    """Nor that of its half: their judge was fitted on the other half alone."""
    log_scores = drawn(np.random.default_rng(2), 4, 0.5)
    before = supervised(features_of(log_scores), NAMES).result
    log_scores["member"][0] = 50  # as no member is
    after = supervised(features_of(log_scores), NAMES).result
    half = share_by_name([f"half {name}" for name in NAMES["member"]], 0.5, 0)
    same = (before.membership_score["member"] == after.membership_score["member"])[1:]
    assert same[half[1:] == half[0]].all(), "its half"
    assert not same[half[1:] != half[0]].any(), "the half that it helps to judge"
    assert before.membership_score["member"][0] != after.membership_score["member"][0]


def test_images_of_one_unit_are_in_one_half():
    """Two images a unit, alike: were they in both halves, one would tell the other's label."""
    rng = np.random.default_rng(3)
    log_scores = drawn(rng, 40, 0.0)
    for role in MEASURED:
        log_scores[role][1::2] = log_scores[role][::2]
    units = {role: [f"{role}-{number // 2}" for number in range(count)] for role, count in COUNTS.items()}
    result = supervised(features_of(log_scores), units).result
    pairs = {role: values.reshape(-1, 2) for role, values in result.membership_score.items()}
    assert all((of_role[:, 0] == of_role[:, 1]).all() for of_role in pairs.values())


def test_the_order_of_images_changes_no_verdict():
    log_scores = drawn(np.random.default_rng(4), 4, 0.5)
    order = np.random.default_rng(5).permutation(COUNTS["holdout"])
    before = supervised(features_of(log_scores), NAMES).result
    log_scores["holdout"] = log_scores["holdout"][order]
    names = NAMES | {"holdout": [NAMES["holdout"][place] for place in order]}
    after = supervised(features_of(log_scores), names).result
    np.testing.assert_allclose(after.membership_score["holdout"], before.membership_score["holdout"][order], atol=0.2)


def test_with_too_few_units_nothing_is_fitted():
    log_scores = drawn(np.random.default_rng(6), 2, 1.0)
    units = {role: [f"{number % FEWEST}" for number in range(count)] for role, count in COUNTS.items()}
    assert supervised(features_of(log_scores), units) is None


def test_a_score_that_is_not_positive_in_every_role_is_left_out():
    features = features_of(drawn(np.random.default_rng(7), 2, 1.0))
    features.add_scores("zero", {role: np.zeros(count) for role, count in COUNTS.items()})
    assert features.names == ["score_0", "score_1"]


def test_intervals_are_wider_by_the_root_of_two_within_what_is_possible():
    wide = widened(
        {"auc": 0.8, "auc_ci_low": 0.7, "auc_ci_high": 0.95, "tpr": None, "tpr_ci_low": None, "tpr_ci_high": None}
        | {"realised_fpr_at_alpha_1e-2": 0.1, "realised_fpr_at_alpha_1e-2_ci_low": 0.0}
        | {"auc_gain": -0.5, "auc_gain_ci_low": -0.9, "auc_gain_ci_high": 0.1}
        | {"realised_fpr_at_alpha_1e-2_expected_high": 0.03},
        WIDER,
        false_positives=False,
    )
    assert wide["realised_fpr_at_alpha_1e-2_expected_high"] == 0.03
    assert wide["auc_ci_low"] == pytest.approx(0.8 - 0.1 * 2**0.5)
    assert wide["auc_ci_high"] == 1
    assert wide["tpr_ci_low"] is None
    assert wide["realised_fpr_at_alpha_1e-2_ci_low"] == 0
    assert wide["auc_gain_ci_low"] == -1


@pytest.mark.slow
def test_where_nothing_leaks_it_is_at_chance_and_its_false_positive_rate_holds():
    """40 draws.  The interval of as many independent images would miss more often than the wider one."""
    areas, missed, narrow, rates = [], 0, 0, []
    for seed in range(40):
        result = supervised(features_of(drawn(np.random.default_rng(seed), 20, 0.0)), NAMES).result
        figures = summarise(result, [0.1, 0.05], 0.95)
        wide = widened(figures, WIDER, false_positives=False)
        areas.append(figures["auc"])
        missed += not wide["auc_ci_low"] <= 0.5 <= wide["auc_ci_high"]
        narrow += not figures["auc_ci_low"] <= 0.5 <= figures["auc_ci_high"]
        rates.append([figures["realised_fpr_at_alpha_1e-1"], figures["realised_fpr_at_alpha_5e-2"]])
    assert np.mean(areas) == pytest.approx(0.5, abs=3 * np.std(areas) / 40**0.5)
    assert missed <= min(narrow, 5)  # P(Binomial(40, 0.05) > 5) = 1 %
    error = 3 * np.std(rates, axis=0) / 40**0.5
    assert (np.abs(np.mean(rates, axis=0) - [0.1, 0.05]) < error).all()


def test_the_audit_has_the_judge_beside_the_others_and_its_p_values_hold(audit):
    found = json.loads(Path(f"metrics/details/{TARGET}.json").read_text())
    figures, rows = found["supervised"], read_table(Path(f"data/verdicts/{TARGET}.parquet")).to_pandas()
    ours = rows[rows["learner"] == SUPERVISED]
    scores = {role: of.to_numpy() for role, of in ours.groupby("role")["membership_score"]}
    assert figures["auc"] == pytest.approx(auc(scores["member"], scores["holdout"], 0.95)[0])
    flagged = (ours[ours["role"] == "holdout"]["p_value"] <= 0.1).mean()
    assert figures["realised_fpr_at_alpha_1e-1"] == pytest.approx(flagged)
    low, high = (figures[f"realised_fpr_at_alpha_1e-1_expected_{end}"] for end in ("low", "high"))
    assert low <= flagged <= high
    assert figures["members"] == sum(count["member"] for count in figures["fitted_on"]) == 60
    curve = pd.read_csv(f"metrics/plots/{TARGET}/roc.csv")
    assert SUPERVISED in set(curve["learner"])


def test_of_untrained_networks_scores_it_learns_nothing(audit):
    """The scores of the null check, of the very images of the audit."""
    tables = {role: read_table(Path(f"data/null/{TARGET}/{role}.parquet")) for role in COUNTS}
    features = Features(usable=np.ones(tables["auxiliary"].num_rows, dtype=bool))
    for column in tables["member"].column_names[1:]:
        features.add_scores(column, {role: table.column(column).to_numpy() for role, table in tables.items()})
    assert features.names
    found = supervised(features, {role: table.column("image_id").to_pylist() for role, table in tables.items()})
    figures = widened(summarise(found.result, [0.1], 0.95), WIDER)
    assert figures["auc_ci_low"] < 0.5 < figures["auc_ci_high"]
    reached = tpr_at_fpr(*(found.result.membership_score[role] for role in MEASURED), 0.1, 0.95)
    assert reached.low <= 0.1
