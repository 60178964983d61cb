"""Images of one unit are alike: counted by hand, then error rates by simulation."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pipeline import TARGET
from scipy.stats import norm

from leakgauge.inference.conformal import AttackResult, conformal_p_values
from leakgauge.inference.metrics import membership_metrics, unit_factor, widened
from leakgauge.inference.roc import auc
from leakgauge.inference.suspects import adjusted_p_values, same_labels, set_test, used_fraction
from leakgauge.inference.units import design_effect, joined
from leakgauge.tables import ROLES, read_metadata, read_table, write_table
from stages.evaluate import evaluate

SCENES, SHOTS = 8, 5
UNITS = np.repeat(np.arange(SCENES), SHOTS)


def shots(rng: np.random.Generator, units: int = SCENES, size: int = SHOTS, alike: float = 0.95) -> np.ndarray:
    """Membership scores of some units of so many images, which correlate by `alike`."""
    return np.repeat(np.sqrt(alike) * rng.normal(size=units), size) + np.sqrt(1 - alike) * rng.normal(size=units * size)


def test_images_that_are_all_alike_count_as_their_units_and_single_ones_as_themselves():
    units, values = np.array([0, 0, 0, 1, 1, 1]), np.array([1.0, 1, 1, 3, 3, 3])
    assert design_effect(values, units, 1.0) == 3
    assert design_effect(values, np.arange(6), 1.0) == design_effect(values, None, 1.0) == 1
    # within: 4 squares of 1 over 4 - 2 + 1 degrees; rho = 1 - 4 / 3 / 2
    assert design_effect(np.array([0.0, 2, 0, 2]), np.array([0, 0, 1, 1]), 2.0) == pytest.approx(1 + 1 / 3)


def test_figures_of_single_images_are_those_without_units():
    rng = np.random.default_rng(0)
    suspects, holdout, members = rng.normal(1, 1, 30).round(1), rng.normal(size=200).round(1), rng.normal(2, 1, 50)
    units = (rng.permutation(30), rng.permutation(200).astype(str))
    assert auc(suspects, holdout, 0.95, units) == auc(suspects, holdout, 0.95)
    assert set_test(suspects, holdout, 0.95, units) == set_test(suspects, holdout, 0.95)
    for known in (members, None):
        alone = used_fraction(suspects, holdout, known, 0.95)
        assert used_fraction(suspects, holdout, known, 0.95, units, np.arange(50)) == alone
    p_values = conformal_p_values(suspects, holdout)
    assert (conformal_p_values(suspects, holdout, units[1]) == p_values).all()
    assert (adjusted_p_values(p_values, units[0]) == adjusted_p_values(p_values)).all()


def test_eight_scenes_that_were_not_used_are_found_at_the_level_of_the_test():
    rng, by_unit, by_image = np.random.default_rng(1), [], []
    for _ in range(400):
        suspects, holdout = shots(rng), rng.normal(size=300)
        by_unit.append(set_test(suspects, holdout, 0.95, (UNITS, None)).p_value <= 0.05)
        by_image.append(set_test(suspects, holdout, 0.95).p_value <= 0.05)
    assert 0.02 < np.mean(by_unit) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)
    assert np.mean(by_image) > 0.15, "what is mended here"


def test_the_interval_of_an_area_covers_it_where_images_are_of_units():
    rng, covered, of_images = np.random.default_rng(2), [], []
    truth, units = norm.cdf(1 / np.sqrt(2)), (np.repeat(np.arange(40), 5), np.repeat(np.arange(100), 5))
    for _ in range(200):
        member, holdout = shots(rng, 40) + 1, shots(rng, 100)
        for found, of in ((covered, units), (of_images, (None, None))):
            _, low, high = auc(member, holdout, 0.95, of)
            found.append(low <= truth <= high)
    assert np.mean(covered) > 0.91
    assert np.mean(of_images) < 0.8, "what is mended here"


def test_a_units_p_value_is_simes_and_all_its_images_have_its_adjusted_one():
    p_values, units = np.array([0.01, 0.5, 0.04, 0.06]), np.array(["a", "a", "b", "b"])
    # Simes: a: min(2 0.01, 0.5) = 0.02; b: min(2 0.04, 0.06) = 0.06; Benjamini & Hochberg: 2 0.02 / 1, 0.06
    assert adjusted_p_values(p_values, units) == pytest.approx([0.04, 0.04, 0.06, 0.06])


def test_p_values_by_unit_hold_where_calibrating_images_are_of_few_units():
    rng, by_unit, by_image = np.random.default_rng(3), [], []
    units = np.repeat(np.arange(40), 5)
    for _ in range(3000):
        auxiliary, new = shots(rng, 40, alike=1.0), rng.normal(size=1)
        by_unit.append(conformal_p_values(new, auxiliary, units)[0] <= 0.03)
        by_image.append(conformal_p_values(new, auxiliary)[0] <= 0.03)
    assert np.mean(by_unit) <= 0.03 + 2 * np.sqrt(0.03 * 0.97 / 3000), "one of 41 units"
    assert np.mean(by_image) > 0.04, "two of 41 units"


def test_a_whole_unit_of_weights_is_whole():
    auxiliary, units = np.repeat(np.arange(9.0), 3), np.repeat(np.arange(9), 3)
    assert conformal_p_values(np.array([100.0, 8.0, 0.0]), auxiliary, units).tolist() == [0.1, 0.2, 1.0]


def test_units_that_share_a_picture_are_joined_in_a_chain():
    units, picture = np.array(["a", "b", "b", "c", "d"]), np.array([0, 0, 2, 2, 4])
    found = joined(units, picture)
    assert len(set(found[:4])) == 1
    assert found[4] != found[0]


def test_others_are_taken_in_the_shares_of_the_labels_of_those_asked_about():
    others = [1] * 30 + [2] * 20 + [3] * 50
    rows = same_labels([1, 2, 1, 2, 2, 2], others)
    assert rows.tolist() == [*range(10), *range(30, 50)], "twenty of 2, and half as many of 1"
    assert same_labels([1, None], others) is None
    assert same_labels([4], others) is None
    assert same_labels([1], [1] * 9) is None
    assert same_labels([1], [1] * 10).tolist() == list(range(10))


def test_a_class_that_looks_trained_on_is_no_evidence_among_its_own():
    rng, within, among_all = np.random.default_rng(4), [], []
    label = np.repeat([0, 1], [100, 900]).tolist()
    for _ in range(300):
        suspects, holdout = rng.normal(1, 1, 30), np.r_[rng.normal(1, 1, 100), rng.normal(0, 1, 900)]
        within.append(set_test(suspects, holdout[same_labels([0] * 30, label)], 0.95).p_value <= 0.05)
        among_all.append(set_test(suspects, holdout, 0.95).p_value <= 0.05)
    assert np.mean(within) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(among_all) > 0.9, "what is mended here"


def of_roles(member: np.ndarray, holdout: np.ndarray) -> AttackResult:
    return AttackResult({}, {"member": member, "holdout": holdout}, {}, {}, holdout, "out of bag")


def test_intervals_of_five_images_that_are_all_alike_are_wider_by_the_root_of_five():
    member, holdout = np.repeat(np.arange(20.0), 5), np.arange(100.0)
    units = {"member": np.repeat(np.arange(20), 5), "holdout": None}
    assert unit_factor(of_roles(member, holdout), units) == pytest.approx(5**0.5)
    assert unit_factor(of_roles(member, holdout), {"member": None, "holdout": None}) == 1.0


def test_intervals_of_rate_and_area_hold_by_unit():
    names, held = ("auc", "tpr_at_fpr_1e-1"), []
    true = norm.cdf(1.5 / 2**0.5), norm.sf(norm.isf(0.1) - 1.5)
    units = {"member": np.repeat(np.arange(40), 5), "holdout": np.repeat(np.arange(80), 5)}
    for seed in range(150):
        rng = np.random.default_rng(seed)
        member, holdout = shots(rng, 40, alike=0.9) + 1.5, shots(rng, 80, alike=0.9)
        alone = membership_metrics(member, holdout, (0.1,))
        for figures in (alone, widened(alone, unit_factor(of_roles(member, holdout), units))):
            ends = ((figures[f"{name}_ci_low"], figures[f"{name}_ci_high"]) for name in names)
            held.append([low <= value <= high for (low, high), value in zip(ends, true, strict=True)])
    shares = np.array(held).reshape(150, 2, 2).mean(axis=0)
    assert (shares[0] < 0.8).all(), "what is mended here"
    assert (shares[1] > 0.9).all()  # of 95 %: P(Binomial(150, 0.95) < 136) = 1.6 %


def test_what_chance_allows_is_wider_about_the_rate_asked_for():
    figures = {"realised_fpr_at_alpha_1e-1": 0.2, "realised_fpr_at_alpha_1e-1_expected_low": 0.06}
    wide = widened(figures | {"realised_fpr_at_alpha_1e-1_expected_high": 0.15}, 2.0)
    assert wide["realised_fpr_at_alpha_1e-1_expected_low"] == pytest.approx(0.02)
    assert wide["realised_fpr_at_alpha_1e-1_expected_high"] == pytest.approx(0.2)


def test_an_audit_of_images_with_units_counts_these(audit):
    """Two images a unit, but for most of the auxiliary ones, of which a hundred units are needed for 1 %."""
    details = Path(f"metrics/details/{TARGET}.json")
    before = json.loads(details.read_text())["judges"]["gbm"]
    for role in ROLES:
        path = Path(f"data/roles/{TARGET}/{role}.parquet")
        table, facts = read_table(path), read_metadata(path)
        pairs = 6 if role == "auxiliary" else table.num_rows
        units = pa.array([f"{role}-{row // 2 if row < pairs else row}" for row in range(table.num_rows)])
        write_table(path, table.append_column("unit", units), facts)
    evaluate(TARGET)
    found = json.loads(details.read_text())
    after = found["judges"]["gbm"]
    assert after["calibration"] == pytest.approx(before["calibration"] - 3, abs=1)
    assert after["p_value_resolution"] == 1 / (after["calibration"] + 1)
    assert after["auc"] == before["auc"]
    width = [figures["auc_ci_high"] - figures["auc_ci_low"] for figures in (before, after)]
    assert width[0] < width[1] < 2**0.5 * width[0]
    assert found["headline"]["auc_ci_low"] == found["judges"][found["headline"]["judge"]]["auc_ci_low"]
    assert found["supervised"] is None, "thirty units of members are too few"
