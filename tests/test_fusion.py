"""Fusion against weights known in closed form, and that neither members nor calibrating images have a part in them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import TINY_LEARNERS, tiny_params, write_params
from scipy.stats import norm

from stages.evaluate import evaluate
from stages.report import report
from stages.statistics.evidence import Evidence, normal_scores
from stages.statistics.fusion import learn_fusion, minimum_variance_weights
from stages.statistics.roc import auc
from stages.tables import ROLES, read_metadata, read_table, write_table

TARGET = "digits_ddpm"


def correlated(count: int, correlation: list[list[float]], seed: int = 0) -> np.ndarray:
    """(count, K) standard normal columns."""
    lower = np.linalg.cholesky(np.array(correlation))
    return np.random.default_rng(seed).standard_normal((count, len(lower))) @ lower.T


def test_two_columns_share_evenly_whatever_their_correlation():
    for rho in (-0.5, 0.0, 0.9):
        assert minimum_variance_weights(np.array([[1, rho], [rho, 1]])) == pytest.approx([0.5, 0.5])


def test_weights_are_those_of_the_closed_form():
    correlation = np.array([[1, 0.6, 0.1], [0.6, 1, 0.2], [0.1, 0.2, 1]])
    expected = np.linalg.solve(correlation, np.ones(3))
    assert (expected > 0).all()
    assert minimum_variance_weights(correlation) == pytest.approx(expected / expected.sum())


def test_a_column_that_would_be_subtracted_gets_no_weight():
    correlation = np.array([[1, 0.8, 0.8], [0.8, 1, 0.3], [0.8, 0.3, 1]])
    assert np.linalg.solve(correlation, np.ones(3))[0] < 0
    assert minimum_variance_weights(correlation) == pytest.approx([0, 0.5, 0.5], abs=1e-9)


@pytest.mark.parametrize("rule", ["covariance", "mean"])
def test_fused_scores_of_non_members_have_mean_0_and_variance_1(rule):
    z = correlated(20_000, [[1, 0.6, 0.1], [0.6, 1, 0.2], [0.1, 0.2, 1]]) * [1, 3, 0.2] + [0, 5, -1]
    fused = learn_fusion(z, rule)(z[:, None])
    assert fused.shape == (20_000, 1)
    assert (fused.mean(), fused.std()) == pytest.approx((0, 1), abs=0.01)


def test_what_a_learner_got_wrong_of_a_columns_scale_does_not_change_the_weights():
    z = correlated(5000, [[1, 0.6, 0.1], [0.6, 1, 0.2], [0.1, 0.2, 1]])
    one, other = (learn_fusion(scores, "covariance") for scores in (z, 7 * z * [1, 9, 0.1] - 4))
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-9)
    np.testing.assert_allclose(one(z[:, None]), other(7 * z[:, None] * [1, 9, 0.1] - 4), atol=1e-9)


def test_a_column_that_stands_there_twice_counts_once():
    z = correlated(4000, [[1, 0.0], [0.0, 1]])
    weights = learn_fusion(z[:, [0, 0, 1]], "covariance").weights
    assert weights == pytest.approx([0.25, 0.25, 0.5], abs=0.03)


def test_the_fused_score_is_as_powerful_as_theory_says():
    correlation, drop = [[1, 0.6, 0.0], [0.6, 1, 0.0], [0.0, 0.0, 1]], 1.0
    fusion = learn_fusion(correlated(20_000, correlation, 1), "covariance")
    member, holdout = (correlated(20_000, correlation, seed) for seed in (2, 3))
    member = member - drop
    reached = auc(-fusion(member[:, None])[:, 0], -fusion(holdout[:, None])[:, 0], 0.95)[0]
    shift = drop * np.sqrt(np.linalg.inv(correlation).sum())
    assert reached == pytest.approx(norm.cdf(shift / np.sqrt(2)), abs=0.005)
    assert reached > auc(-member[:, 0], -holdout[:, 0], 0.95)[0] + 0.05
    swapped = auc(-fusion(holdout[:, None])[:, 0], -fusion(member[:, None])[:, 0], 0.95)[0]
    assert swapped < 0.5, "swapped labels are told apart"


def test_the_most_suspicious_column_stands_for_all():
    fusion = learn_fusion(np.array([[-1.0, 8.0], [1.0, 12.0]]), "largest")
    assert fusion(np.array([[[0.0, 8.0]], [[-3.0, 10.0]]])).tolist() == [[-1.0], [-3.0]]
    assert fusion.weights is None


def evidence(calibrates: np.ndarray) -> Evidence:
    auxiliary = np.repeat(correlated(len(calibrates), [[1, 0.3], [0.3, 1]])[:, None], 3, axis=1)
    others = [np.zeros((2, 3, 2))]
    z = {"member": others, "auxiliary": [auxiliary[:7], auxiliary[7:]], "holdout": others}
    return Evidence({}, z, np.ones((len(calibrates), 3), dtype=bool), calibrates)


def test_a_fusion_learns_from_all_auxiliary_images_or_from_those_that_do_not_calibrate():
    everyone = evidence(np.ones(10, dtype=bool))
    np.testing.assert_allclose(everyone.honest_scores(), np.concatenate(everyone.z["auxiliary"])[:, 0])
    some = evidence(np.arange(10) >= 6)
    np.testing.assert_allclose(some.honest_scores(), some.z["auxiliary"][0][:6, 0])


def test_a_fusion_learns_from_attackers_that_never_saw_the_image():
    z = {"auxiliary": [np.array([[[1.0], [9.0]], [[9.0], [2.0]], [[9.0], [9.0]]])]}
    unseen = np.array([[True, False], [False, True], [False, False]])
    assert Evidence({}, z, unseen, np.ones(3, dtype=bool)).honest_scores().tolist() == [[1.0], [2.0]]


def test_columns_may_be_quantiles_or_gaussians():
    lists = {"a.location": [[1.0, 0.0]], "a.scale": [[2.0, 1.0]], "b.quantiles": [[-1.0, 0.0, 1.0, 1.0, 2.0, 3.0]]}
    levels = norm.cdf([-1.0, 0.0, 1.0])
    z = normal_scores(pa.table(lists), {"a": np.array([3.0]), "b": np.array([1.0])}, levels)
    np.testing.assert_allclose(z, [[[1.0, 1.0], [3.0, -1.0]]], atol=1e-6)


def learn_second_score(learner: str, column: str) -> None:
    """Give a learner's predictions a second column: Gaussians of the auxiliary scores, the same for every image."""
    path = Path(f"data/predictions/{TARGET}/{learner}.parquet")
    table, facts = read_table(path), read_metadata(path)
    logs = np.log(read_table(Path(f"data/scores/{TARGET}/auxiliary.parquet")).column(column).to_numpy())
    bag = facts["bag"]["bag_size"]
    for name, value in (("location", logs.mean()), ("scale", logs.std())):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(np.full(table.num_rows * bag, value)), bag)
        table = table.append_column(f"{column}.{name}", lists)
    facts["bag"]["scores"] = [*facts["bag"]["scores"], column]
    write_table(path, table, facts)


def keep_apart(learner: str, count: int) -> None:
    """Let only the last `count` auxiliary images calibrate, as if no attacker had seen them."""
    path = Path(f"data/predictions/{TARGET}/{learner}.parquet")
    rows = read_table(path).to_pandas()
    auxiliary = rows.index[rows["role"] == "auxiliary"]
    rows["calibrates"] = rows.index.isin(auxiliary[-count:])
    rows["out_of_bag"] = [
        [True] * len(m) if c else m for m, c in zip(rows["out_of_bag"], rows["calibrates"], strict=True)
    ]
    write_table(path, pa.Table.from_pandas(rows, preserve_index=False), read_metadata(path))


@pytest.mark.parametrize("rule", ["covariance", "largest", "mean"])
def test_a_bag_that_learnt_two_scores_is_judged_by_the_main_one_and_by_both(rule, audit):
    params = tiny_params()
    params["evaluate"]["fusion"] = rule
    write_params(params)
    before = read_table(Path(f"data/verdicts/{TARGET}.parquet")).to_pandas()
    learn_second_score("gbm", "pia_t20")
    evaluate(TARGET)
    path = Path(f"data/verdicts/{TARGET}.parquet")
    rows, facts = read_table(path).to_pandas(), read_metadata(path)
    assert list(rows["learner"].unique()) == ["marginal", "gbm", "gbm_fusion", "mlp", "resnet", "stack"]
    alone = rows[rows["learner"] != "gbm_fusion"].reset_index(drop=True)
    assert alone.equals(before), "the main score is judged as if it were alone"
    fused = facts["judgements"]["gbm_fusion"]
    assert fused["learner"] == "gbm"
    assert fused["fusion"]["columns"] == ["t_error_t10", "pia_t20"]
    assert (fused["fusion"]["weights"] is None) == (rule == "largest")
    report()
    page = Path("metrics/report.html").read_text()
    assert "<td>gbm_fusion</td>" in page


def test_a_learner_that_has_the_name_of_a_fusion_is_refused(audit, refusal):
    learn_second_score("gbm", "pia_t20")
    params = tiny_params()
    params["learners"]["gbm_fusion"] = params["learners"]["gbm"]
    write_params(params)
    folder = Path(f"data/predictions/{TARGET}")
    (folder / "gbm_fusion.parquet").write_bytes((folder / "gbm.parquet").read_bytes())
    line = refusal(evaluate, target=TARGET)
    assert "params.yaml: learners: gbm_fusion is also the name of a fusion: rename that learner" in line


def test_no_score_of_a_member_or_holdout_image_has_a_part_in_the_weights(audit):
    learn_second_score("gbm", "pia_t20")
    evaluate(TARGET)
    before = read_metadata(Path(f"data/verdicts/{TARGET}.parquet"))["judgements"]
    rng = np.random.default_rng(0)
    for role in set(ROLES) - {"auxiliary"}:
        path = Path(f"data/scores/{TARGET}/{role}.parquet")
        table = read_table(path)
        noise = pa.array(rng.uniform(1, 9, table.num_rows))
        write_table(path, table.set_column(table.column_names.index("pia_t20"), "pia_t20", noise), read_metadata(path))
    evaluate(TARGET)
    assert read_metadata(Path(f"data/verdicts/{TARGET}.parquet"))["judgements"] == before


def test_images_kept_apart_calibrate_and_the_page_says_so(audit):
    for learner in TINY_LEARNERS:
        keep_apart(learner, 100)
    evaluate(TARGET)
    report()
    figures = read_metadata(Path(f"data/verdicts/{TARGET}.parquet"))["figures"]["gbm"]
    assert (figures["calibration"], figures["calibration_by"]) == (100, "kept apart")
    assert "Nothing was learnt from the images that calibrate" in Path("metrics/report.html").read_text()
