"""Fusion against values worked out by hand and the likelihood ratio it is, and what it promises of error rates."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import TINY_LEARNERS, dump_params, tiny_params
from scipy.stats import multivariate_normal, norm

from leakgauge.inference.conformal import AttackResult, bag_vote, judge
from leakgauge.inference.fusion import fuse
from leakgauge.inference.supervised import SUPERVISED
from leakgauge.inference.z_scores import ZTable
from leakgauge.tables import list_column, log_scores, read_metadata, read_table, write_table
from stages.config import config
from stages.evaluate import evaluate
from stages.report import report

TARGET, SCORE = "digits_ddpm", "t_error_t10"
VERDICTS = Path(f"data/verdicts/{TARGET}.parquet")


def correlated(count: int, correlation: list[list[float]], seed: int = 0) -> np.ndarray:
    """(count, K) standard normal columns."""
    lower = np.linalg.cholesky(np.array(correlation))
    return np.random.default_rng(seed).standard_normal((count, len(lower))) @ lower.T


def lowest(z: np.ndarray, share: float = 0.01) -> float:
    """The threshold below which that share of non-members' fused scores lies.  z : (N, K)."""
    return float(np.quantile(fuse(z), share))


def test_fused_scores_worked_out_by_hand():
    z = -np.log([[[1.0, 3.0], [1.0, 1.0]], [[2.0, 2.0], [0.5, 0.25]]])  # (N, B, K) = (2, 2, 2)
    assert fuse(z) == pytest.approx(-np.log([[2.0, 1.0], [2.0, 0.375]]))


def test_one_column_or_equal_columns_give_their_own_z():
    z = np.linspace(-8, 8, 33)[:, None]
    assert fuse(z) == pytest.approx(z[:, 0])
    assert fuse(np.repeat(z, 7, axis=1)) == pytest.approx(z[:, 0])


def test_the_fused_score_lies_between_the_lowest_z_and_their_mean():
    z = 4 * np.random.default_rng(0).standard_normal((500, 3, 6))
    assert (fuse(z) > z.min(axis=-1)).all()
    assert (fuse(z) < z.mean(axis=-1)).all()


def test_the_fused_score_is_the_likelihood_ratio_of_a_drop_in_one_unknown_column():
    correlation = np.array([[1, 0.6, 0.1], [0.6, 1, 0.2], [0.1, 0.2, 1]])
    z = correlated(50, correlation.tolist()) - 1
    non_member = multivariate_normal(np.zeros(3), correlation).pdf(z)
    member = np.mean([multivariate_normal(-column, correlation).pdf(z) for column in correlation], axis=0)
    assert -fuse(z) - 0.5 == pytest.approx(np.log(member / non_member))


def test_a_lower_z_in_any_column_makes_the_fused_score_lower_and_the_p_value_no_higher():
    rng = np.random.default_rng(1)
    z = 3 * rng.standard_normal((400, 5, 6))
    lower = z - np.where(np.arange(6) == rng.integers(6, size=400)[:, None, None], 0.5, 0.0)
    assert (fuse(lower) < fuse(z)).all()
    auxiliary = of_three_attackers(60, 6, rng)
    before, after = (judged({"member": scores[:, :3]}, auxiliary) for scores in (z, lower))
    assert (after.p_value["member"] <= before.p_value["member"]).all()


def test_the_order_of_columns_changes_nothing():
    z = np.random.default_rng(2).standard_normal((200, 4, 7))
    np.testing.assert_allclose(fuse(z[..., ::-1]), fuse(z), rtol=0, atol=1e-12)


def test_scores_far_out_neither_overflow_nor_vanish():
    assert fuse(np.array([[-2000.0, 3.0], [2000.0, 1500.0]])) == pytest.approx([-2000 + np.log(2), 1500 + np.log(2)])


def test_a_column_of_pure_noise_beside_a_strong_one_costs_little():
    rng, caught = np.random.default_rng(3), {}
    for noise in (0, 1, 5):
        z = {role: rng.standard_normal((40_000, 1 + noise)) for role in ("member", "holdout")}
        z["member"][:, 0] -= 4
        caught[noise] = (fuse(z["member"]) <= lowest(z["holdout"])).mean()
    assert caught[0] == pytest.approx(norm.cdf(4 + norm.ppf(0.01)), abs=0.01)  # 95.3 %
    assert caught[1] > caught[0] - 0.04
    assert caught[5] > caught[0] - 0.12


def test_columns_that_each_tell_a_little_tell_more_together():
    z = {role: np.random.default_rng(seed).standard_normal((40_000, 6)) for seed, role in enumerate(("m", "h"))}
    member = z["m"] - 1
    assert (fuse(member) <= lowest(z["h"])).mean() > (member[:, 0] <= norm.ppf(0.01)).mean() + 0.2


def of_three_attackers(images: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """(images, 3, columns) standard normal: attackers agree on more than half of it, and columns correlate by 0.4."""
    shared = rng.standard_normal((images, 1, 1)) * np.sqrt(0.4) + rng.standard_normal((images, 1, columns)) * 0.5
    return shared + rng.standard_normal((images, 3, columns)) * np.sqrt(0.35)


def judged(z: dict[str, np.ndarray], auxiliary: np.ndarray) -> AttackResult:
    """The result of roles' z-scores, (N, 3, K), where no attacker saw an auxiliary image."""
    nobody_saw, everyone = np.ones((len(auxiliary), 3), dtype=bool), np.ones(len(auxiliary), dtype=bool)
    return judge({role: fuse(values) for role, values in z.items()}, fuse(auxiliary), nobody_saw, everyone)


def test_p_values_hold_at_60_auxiliary_images_and_33_columns():
    p_values = []
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        auxiliary, holdout = (of_three_attackers(images, 33, rng) for images in (60, 50))
        p_values.append(judged({"holdout": holdout}, auxiliary).p_value["holdout"])
    for alpha in (0.05, 0.1):
        realised = np.array([(p <= alpha).mean() for p in p_values])
        error = realised.std() / np.sqrt(len(p_values))
        assert abs(realised.mean() - int(alpha * 61) / 61) < 4 * error < 0.01


def learn_second_score(learner: str, column: str) -> None:
    """Give a learner's z-scores a second column: under a Gaussian of the auxiliary scores, the same for every image."""
    path = Path(f"data/z/{TARGET}/{learner}.parquet")
    table, facts = read_table(path), read_metadata(path)
    roles = dict.fromkeys(table.column("role").to_pylist())
    logs = {role: log_scores(Path(f"data/scores/{TARGET}/{role}.parquet"), column) for role in roles}
    z = (np.concatenate([*logs.values()]) - logs["auxiliary"].mean()) / logs["auxiliary"].std()
    bag = facts["bag"]["bag_size"]
    scale = np.full(len(z), np.log(logs["auxiliary"].std()))
    columns = {f"{column}.z": z, f"{column}.log_scale": scale} if f"{SCORE}.log_scale" in table.column_names else {}
    for name, values in (columns or {f"{column}.z": z}).items():
        table = table.append_column(name, list_column(np.repeat(values[:, None], bag, axis=1).astype(np.float32)))
    facts["bag"]["scores"] = [*facts["bag"]["scores"], column]
    write_table(path, table, facts)


def keep_apart(learner: str, count: int) -> None:
    """Let only the last `count` auxiliary images calibrate, as if no attacker had seen them."""
    path = Path(f"data/z/{TARGET}/{learner}.parquet")
    rows = read_table(path).to_pandas()
    auxiliary = rows.index[rows["role"] == "auxiliary"]
    rows["calibrates"] = rows.index.isin(auxiliary[-count:])
    rows["out_of_bag"] = [
        [True] * len(m) if c else m for m, c in zip(rows["out_of_bag"], rows["calibrates"], strict=True)
    ]
    write_table(path, pa.Table.from_pandas(rows, preserve_index=False), read_metadata(path))


def test_bags_that_learnt_two_scores_are_judged_by_one_and_by_both(audit):
    before = read_table(VERDICTS).to_pandas()
    for learner in TINY_LEARNERS:
        learn_second_score(learner, "pia_t20")
    evaluate(TARGET)
    rows, facts = read_table(VERDICTS).to_pandas(), read_metadata(VERDICTS)
    names = [*TINY_LEARNERS, "stack"]
    assert list(rows["learner"].unique()) == [f"{name}{end}" for name in names for end in ("", "_fusion")] + [
        SUPERVISED
    ]
    alone, was = (of[of["learner"].isin(names)].reset_index(drop=True) for of in (rows, before))
    assert alone.equals(was), "the first score is judged as if it were alone"
    assert facts["made_of"]["gbm_fusion"] == {"learner": "gbm", "fusion": [SCORE, "pia_t20"]}
    assert facts["made_of"]["gbm"] == {"learner": "gbm", "fusion": None}
    losses = {name: facts["bags"][name]["out_of_bag_loss"] for name in TINY_LEARNERS if name != "marginal"}
    assert facts["headline"]["judge"] == f"{min(losses, key=losses.get)}_fusion", (
        "several scores, best foretold out of bag"
    )
    report()
    assert '<th scope="row">gbm_fusion</th>' in Path("metrics/report.html").read_text()


def test_the_score_asked_for_judges_and_the_fusion_is_of_all_of_them_in_any_case(audit):
    for learner in TINY_LEARNERS:
        learn_second_score(learner, "pia_t20")
    evaluate(TARGET)
    before = read_table(VERDICTS).to_pandas()
    params = tiny_params()
    params["fit"]["scores"] = [SCORE, "pia_t20"]
    params["evaluate"]["score"] = "pia_t20"
    dump_params(params)
    config(TARGET)
    evaluate(TARGET)
    rows, facts = read_table(VERDICTS).to_pandas(), read_metadata(VERDICTS)
    assert facts["selection"] == {"score": "pia_t20", "chosen": None}
    for name in TINY_LEARNERS:
        was, now = (
            table[table["learner"] == f"{name}_fusion"].drop(columns="score").reset_index(drop=True)
            for table in (before, rows)
        )
        assert now.equals(was)
        alone = rows.query("learner == @name and role == 'member'")
        z = ZTable.open(Path(f"data/z/{TARGET}/{name}.parquet")).read("pia_t20")["member"]
        np.testing.assert_array_equal(alone["membership_score"], bag_vote(z))
        scored = read_table(Path(f"data/scores/{TARGET}/member.parquet")).column("pia_t20")
        assert alone["score"].tolist() == scored.to_pylist()


def test_images_kept_apart_calibrate_and_the_page_says_so(audit):
    for learner in TINY_LEARNERS:
        keep_apart(learner, 100)
    evaluate(TARGET)
    report()
    figures = read_metadata(VERDICTS)["figures"]["gbm"]
    assert (figures["calibration"], figures["calibration_by"]) == (100, "calibration split")
    assert "Nothing was learnt from the 100 auxiliary images that calibrate" in Path("metrics/report.html").read_text()
