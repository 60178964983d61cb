"""What one result gains over another: paired, flat, and None where it cannot be told."""

import numpy as np
import pytest

from leakgauge.inference.comparisons import gain
from leakgauge.inference.conformal import AttackResult
from leakgauge.inference.evaluation import Evaluation, Measured
from leakgauge.options import Evaluate

UNITS = {"member": ["a", "b"], "holdout": ["c", "d"], "auxiliary": ["e"]}  # each image its own
OPTIONS = Evaluate(curve_fpr=0.1, confidence=0.9)


def result(member: np.ndarray, holdout: np.ndarray) -> AttackResult:
    return AttackResult({}, {"member": member, "holdout": holdout}, {}, {}, holdout, "out of bag")


@pytest.fixture
def membership_scores() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal(200) + 1, rng.standard_normal(300)


def test_a_result_gains_exactly_nothing_over_itself(membership_scores):
    found = gain(result(*membership_scores), result(*membership_scores), "other", 0.1, 0.9)
    assert found.pop("compared_with") == "other"
    assert set(found.values()) == {0.0}


def test_a_gain_by_hand_is_the_difference_of_shares_and_its_interval_excludes_zero(membership_scores):
    member, holdout = membership_scores
    found = gain(result(member + 9, holdout), result(member, holdout), "other", 0.1, 0.9)
    caught = (member > np.sort(holdout)[-31]).mean()  # thirty false positives are allowed
    assert found["tpr_gain_at_fpr_1e-1"] == pytest.approx(1 - caught)
    assert 0 < found["tpr_gain_at_fpr_1e-1_ci_low"] < 1 - caught < found["tpr_gain_at_fpr_1e-1_ci_high"]
    assert 0 < found["auc_gain_ci_low"] < found["auc_gain"] < found["auc_gain_ci_high"]


def test_nothing_is_told_without_a_baseline_or_members_or_false_positives_enough(membership_scores):
    member, holdout = membership_scores
    alone = gain(result(member, holdout), None, None, 0.1, 0.9)
    unknown = gain(result(member[:0], holdout), result(member[:0], holdout), "other", 0.1, 0.9)
    assert set(alone.values()) == {None}
    assert {value for name, value in unknown.items() if name != "compared_with"} == {None}
    few = gain(result(member + 9, holdout), result(member, holdout), "other", 0.001, 0.9)
    assert few["tpr_gain_at_fpr_1e-3"] is None
    assert few["auc_gain"] > 0


def test_a_fusion_is_held_against_its_learners_one_score_and_a_learner_against_one_threshold_for_all(membership_scores):
    def measured(learner: str, kind: str, fusion: list[str] | None = None) -> Measured:
        bag = {"options": {"kind": kind}}
        return Measured(learner, bag, "loss", fusion, result(*membership_scores), {}, {})

    def evaluation(**judged: Measured) -> Evaluation:
        return Evaluation(OPTIONS, {}, "loss", {}, {}, UNITS, judged)

    both = ["loss", "distance"]
    several = evaluation(
        small=measured("small", "mlp"),
        small_fusion=measured("small", "mlp", both),
        base=measured("base", "marginal"),
        base_fusion=measured("base", "marginal", both),
        stack=measured("stack", "stack"),
        stack_fusion=measured("stack", "stack", both),
    )
    told = {name: several.gains(name)["compared_with"] for name in several.judged}
    assert told == {
        **{"small": "base", "small_fusion": "small", "base": None, "base_fusion": "base"},
        **{"stack": "base", "stack_fusion": "stack"},
    }
    assert evaluation(small=measured("small", "mlp")).gains("small")["compared_with"] is None
