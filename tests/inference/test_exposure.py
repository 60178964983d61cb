"""The worst case is corrected for the choice of its judge, and members are ranked by how many judges find them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pipeline import TARGET

from leakgauge.commands.exposed import _lines, exposed, groups
from leakgauge.inference.exposure import exposure, worst_case
from leakgauge.inference.roc import tpr_at_fpr
from leakgauge.inference.supervised import SUPERVISED
from leakgauge.report.verdict import worst_sentence


def judged(rng: np.random.Generator, shift: float) -> dict[str, np.ndarray]:
    return {"member": rng.normal(shift, 1, 200), "holdout": rng.normal(0, 1, 500)}


def test_the_worst_case_is_the_largest_rate_with_ends_at_a_share_of_the_error():
    rng = np.random.default_rng(0)
    judges = {"weak": judged(rng, 0.5), "strong": judged(rng, 2.0)}
    found = worst_case(judges, 0.05, 0.95, dict.fromkeys(judges, 1.0))
    alone = tpr_at_fpr(judges["strong"]["member"], judges["strong"]["holdout"], 0.05, 0.975)
    assert (found["judge"], found["judges"], found["tpr"]) == ("strong", 2, alone.value)
    assert (found["tpr_ci_low"], found["tpr_ci_high"]) == (alone.low, alone.high)


def test_an_attacker_that_knows_half_has_its_wider_interval_there_too():
    judges = {SUPERVISED: judged(np.random.default_rng(1), 1.5)}
    found = worst_case(judges, 0.05, 0.95, {SUPERVISED: 2**0.5})
    alone = tpr_at_fpr(judges[SUPERVISED]["member"], judges[SUPERVISED]["holdout"], 0.05, 0.95)
    assert found["tpr_ci_low"] == pytest.approx(alone.value - 2**0.5 * (alone.value - alone.low))


def test_of_ten_judges_that_find_alike_the_interval_of_the_largest_holds():
    """TPR 26 % at 5 % FPR; the interval of the best judge alone would miss it more often."""
    true = 0.2595  # P(N(1, 1) > 1.645)
    missed = alone = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        judges = {str(number): judged(rng, 1.0) for number in range(10)}
        found = worst_case(judges, 0.05, 0.95, dict.fromkeys(judges, 1.0))
        missed += not found["tpr_ci_low"] <= true <= found["tpr_ci_high"]
        best = judges[found["judge"]]
        rate = tpr_at_fpr(best["member"], best["holdout"], 0.05, 0.95)
        alone += not rate.low <= true <= rate.high
    assert missed <= 10  # P(Binomial(100, 0.05) > 10) = 1 %
    assert alone > missed


def test_without_members_or_resolution_there_is_no_worst_case():
    rng = np.random.default_rng(2)
    assert worst_case({"a": {"member": np.empty(0), "holdout": rng.normal(size=100)}}, 0.05, 0.95, {"a": 1.0}) is None
    assert worst_case({"a": judged(rng, 1.0)}, 0.001, 0.95, {"a": 1.0}) is None


def test_members_are_ranked_by_how_many_judges_find_them():
    rows = [  # image, role, p-values of the judges a and b
        ("m1", "member", 0.005, 0.5),
        ("m2", "member", 0.009, 0.01),
        ("m3", "member", 0.5, 0.5),
        ("h1", "holdout", 0.001, 0.9),
        ("h2", "holdout", 0.3, 0.9),
    ]
    verdicts = pd.DataFrame(
        [(role, image, judge, p) for image, role, *of in rows for judge, p in zip("ab", of, strict=True)],
        columns=["role", "image_id", "learner", "p_value"],
    )
    table = exposure(verdicts, "a", 0.01).set_index("image_id")
    assert list(table.index) == ["m2", "m1", "m3"]
    assert list(table["found_by"]) == [2, 1, 0]
    assert list(table["like_it"]) == pytest.approx([1 / 3, 2 / 3, 1])
    assert list(table["p_value"]) == [0.009, 0.005, 0.5]


def test_groups_count_what_the_headline_judge_finds():
    table = pd.DataFrame({"label": [1, 1, 2, 2], "p_value": [0.005, 0.5, 0.01, 0.002]})
    found = groups(table, "label", 0.01, 0.95).set_index("group")
    assert found.loc[2, ["images", "found", "share"]].tolist() == [2, 2, 1.0]
    assert found.loc[1, ["images", "found", "share"]].tolist() == [2, 1, 0.5]
    assert (found.index[0], found.loc[2, "ci_low"]) == (2, pytest.approx(0.025**0.5))


def test_every_member_of_the_audit_is_in_the_table_with_its_class_and_decile(audit):
    table, alpha, confidence = exposed(TARGET)
    assert (len(table), alpha, confidence) == (60, 0.01, 0.95)
    assert set(table["complexity_decile"]) <= set(range(1, 11))
    assert table["label"].between(0, 9).all()
    assert "unit" not in table
    assert (table["p_value_supervised"] <= 1).all()
    lines = _lines(TARGET, table, alpha, confidence)
    assert f"{(table['found_by'] == table['judges']).sum()} of 60 members are found by all" in lines[0]
    verdict = json.loads(Path("metrics/summary.json").read_text())[TARGET]
    details = json.loads(Path(f"metrics/details/{TARGET}.json").read_text())
    assert verdict["worst_case"] == details["worst_case"]
    said = worst_sentence(verdict | {"failed": 0})
    assert not verdict["worst_case"] or verdict["worst_case"]["judge"] in said
