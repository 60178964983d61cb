"""ROC, intervals, votes and calibration against hand-computed tables."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from leakgauge.config import smallest_alpha
from leakgauge.inference.conformal import (
    AttackResult,
    bag_vote,
    conformal_p_values,
    drawn_voters,
    fpr_range,
    judge,
    votes,
)
from leakgauge.inference.metrics import (
    alpha_curve,
    bag_size_curve,
    conditional_fpr,
    deciles,
    level_name,
    roc_points,
    summarise,
    worst_decile,
)
from leakgauge.inference.roc import asr, auc, exact_rate, roc, tpr_at_fpr, true_positives_at_fpr
from leakgauge.quantile.base import LocationScale, Quantiles

MEMBER = np.array([9.0, 8, 7, 5, 5, 2])
HOLDOUT = np.array([8.0, 6, 5, 4, 3, 3, 2, 1, 1, 0])
#                  threshold   TP  FP
# flags membership scores >=     9        1   0
#                      8        2   1      one member and one holdout image tie
#                      7        3   1
#                      6        3   2
#                      5        5   3      two members and one holdout image tie


@pytest.mark.parametrize(("alpha", "hits"), [(0.1, 3), (0.19, 3), (0.2, 3), (0.29, 3), (0.3, 5), (0.4, 5), (0.7, 6)])
def test_true_positives_at_fpr_take_the_largest_tpr_whose_fpr_is_at_most_alpha(alpha, hits):
    assert true_positives_at_fpr(MEMBER, HOLDOUT, alpha) == hits


def test_ties_move_together():
    # 1 false positive is allowed, but three holdout images share the top membership score with every member
    assert true_positives_at_fpr(np.full(4, 5.0), np.array([5.0, 5, 5, *range(-7, 0)]), 0.1) == 0


def test_an_fpr_below_one_holdout_image_is_not_a_number():
    assert true_positives_at_fpr(MEMBER, HOLDOUT, 0.099) is None
    assert true_positives_at_fpr(MEMBER, HOLDOUT, 0.1) is not None


@pytest.mark.parametrize(
    ("drop", "alpha", "members"), [(0.5, 0.01, 60), (3.0, 0.01, 300), (3.0, 0.1, 60), (7.0, 0.01, 60)]
)
def test_intervals_of_a_tpr_at_an_fpr_cover_the_true_one_thresholds_draw_included(drop, alpha, members):
    rng, truth = np.random.default_rng(4), norm.sf(norm.isf(alpha) - drop)
    found = [tpr_at_fpr(rng.normal(drop, 1, members), rng.normal(0, 1, 597), alpha, 0.95) for _ in range(300)]
    assert np.mean([rate.low <= truth <= rate.high for rate in found]) > 0.93


def test_intervals_of_a_tpr_at_an_fpr_cover_the_true_one_where_membership_scores_tie():
    rng, thresholds = np.random.default_rng(5), np.arange(-5, 9) - 0.5  # whole membership scores
    flagged, caught = norm.sf(thresholds), norm.sf(thresholds, 2)
    truth, covered = caught[flagged <= 0.05].max(), []
    for _ in range(300):
        rate = tpr_at_fpr(rng.normal(2, 1, 150).round(), rng.normal(0, 1, 600).round(), 0.05, 0.95)
        covered.append(rate.low <= truth <= rate.high)
    assert np.mean(covered) > 0.93


def test_with_a_very_large_holdout_the_interval_is_that_of_the_members_share_alone():
    member, holdout = norm.ppf((np.arange(300) + 0.5) / 300) + 3, norm.ppf((np.arange(400_000) + 0.5) / 400_000)
    rate, alone = (
        tpr_at_fpr(member, holdout, 0.1, 0.95),
        exact_rate(true_positives_at_fpr(member, holdout, 0.1), 300, 0.95),
    )
    assert (rate.count, rate.total) == (alone.count, 300)
    assert (rate.low, rate.high) == pytest.approx((alone.low, alone.high), abs=0.005)


def test_the_last_image_that_decides_leaves_a_lower_bound_alone():
    """Below five expected false positives; below three, all of the holdout may lie below the threshold: no bound."""
    rng, truth = np.random.default_rng(6), norm.sf(norm.isf(0.008) - 3)
    found = [tpr_at_fpr(rng.normal(3, 1, 200), rng.normal(0, 1, 500), 0.008, 0.95) for _ in range(300)]
    assert {rate.high for rate in found} == {1.0}
    assert np.mean([rate.low <= truth for rate in found]) > 0.93
    assert min(rate.low for rate in found) > 0
    assert tpr_at_fpr(rng.normal(9, 1, 200), rng.normal(0, 1, 500), 0.002, 0.95).low == 0
    assert tpr_at_fpr(rng.normal(9, 1, 200), rng.normal(0, 1, 500), 0.001, 0.95) is None


def test_the_range_of_a_realised_fpr_is_the_beta_binomials():
    # n = 9, alpha = 0.1: the rate is Beta(1, 9); of 2 images none is flagged with probability 9 / 11, one with 9 / 55
    assert fpr_range(9, 2, 0.1, 0.95) == (0.0, 0.5)
    assert fpr_range(9, 2, 0.1, 0.97) == (0.0, 1.0), "9 / 11 + 9 / 55 = 0.982 lies below 0.985"
    assert fpr_range(98, 597, 0.01, 0.95) == (0.0, 0.0), "no p-value reaches 1 %"
    assert fpr_range(10**6, 10**6, 0.1, 0.95) == pytest.approx((0.1 - 0.000832, 0.1 + 0.000832), abs=2e-6)


@pytest.mark.parametrize("calibrating", [250, 894])
def test_the_range_holds_the_realised_fpr_of_an_exact_calibration_as_often_as_it_says(calibrating):
    rng, inside, counted = np.random.default_rng(7), [], []
    low, high = fpr_range(calibrating, 597, 0.05, 0.95)
    for _ in range(1000):
        p_values = conformal_p_values(rng.normal(size=597), rng.normal(size=calibrating))
        rate = exact_rate(int((p_values <= 0.05).sum()), 597, 0.95)
        inside.append(low <= rate.value <= high)
        counted.append(rate.low <= 0.05 <= rate.high)
    assert 0.94 < np.mean(inside) < 0.98
    assert np.mean(counted) < 0.93, "Clopper and Pearson's leaves out the draw of the images that calibrate"


def test_swapped_labels_are_told_apart():
    assert true_positives_at_fpr(MEMBER, HOLDOUT, 0.3) / 6 > 0.3 > true_positives_at_fpr(HOLDOUT, MEMBER, 0.3) / 10
    assert auc(MEMBER, HOLDOUT, 0.95)[0] > 0.5 > auc(HOLDOUT, MEMBER, 0.95)[0]


def test_auc_counts_pairs_and_half_of_ties():
    pairs = (MEMBER[:, None] > HOLDOUT).sum() + 0.5 * (MEMBER[:, None] == HOLDOUT).sum()
    assert auc(MEMBER, HOLDOUT, 0.95)[0] == pytest.approx(pairs / 60)


@pytest.mark.parametrize(("members", "holdout", "spread"), [(3, 400, 1), (5, 400, 1), (10, 400, 1), (80, 120, 2)])
@pytest.mark.parametrize("truth", [0.5, 0.9, 0.99])
def test_auc_intervals_cover_the_true_area_for_few_images_at_the_boundary_and_unequal_spreads(
    members, holdout, spread, truth
):
    rng, shift = np.random.default_rng(0), norm.ppf(truth) * np.sqrt(1 + spread**2)
    covered = 0
    for _ in range(300):
        _, low, high = auc(rng.normal(shift, spread, members), rng.normal(0, 1, holdout), 0.95)
        covered += low <= truth <= high
    assert covered / 300 > 0.93


def test_auc_intervals_keep_a_width_where_no_error_was_seen():
    value, low, high = auc(np.array([10.0, 11.0, 12.0]), np.arange(9.0), 0.95)
    assert (value, high) == (1, 1)
    assert 0.3 < low < 0.7, "three images cannot vouch for more"
    assert auc(np.arange(9.0), np.array([10.0, 11.0, 12.0]), 0.95) == pytest.approx((0, 0, 1 - low))
    assert auc(np.arange(10.0, 310), np.zeros(600), 0.95)[1] > 0.98


def test_auc_intervals_with_many_alike_images_are_near_delongs():
    rng = np.random.default_rng(1)
    member, holdout = rng.normal(1, 1, 2000), rng.normal(0, 1, 3000)
    value, low, high = auc(member, holdout, 0.95)
    below = np.array([(holdout < membership_score).mean() for membership_score in member]).var(ddof=1) / 2000
    above = np.array([(member > membership_score).mean() for membership_score in holdout]).var(ddof=1) / 3000
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(below + above), rel=0.05)
    assert low < value < high


@pytest.mark.parametrize("decimals", [1, 15], ids=["ties", "no ties"])
def test_the_curve_and_the_area_are_scikit_learns(decimals):
    rng = np.random.default_rng(0)
    member, holdout = rng.normal(1, 1, 700).round(decimals), rng.normal(0, 1, 900).round(decimals)
    labels, membership_scores = np.repeat([1, 0], [700, 900]), np.r_[member, holdout]
    fpr, tpr, _ = roc_curve(labels, membership_scores, drop_intermediate=False)
    np.testing.assert_array_equal(roc(member, holdout), [fpr, tpr])
    assert auc(member, holdout, 0.95)[0] == pytest.approx(roc_auc_score(labels, membership_scores), rel=1e-12)


def test_asr_is_the_best_balanced_accuracy():
    assert asr(MEMBER, HOLDOUT) == pytest.approx((5 / 6 + 1 - 3 / 10) / 2)  # at threshold 5


def test_roc_steps_through_the_hand_made_table():
    fpr, tpr = roc(MEMBER, HOLDOUT)
    points = {(round(f * 10), round(t * 6)) for f, t in zip(fpr, tpr, strict=True)}
    assert {(0, 1), (1, 2), (1, 3), (2, 3), (3, 5)} <= points


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(0, 10, 0.0, 0.3085), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0), (6, 597, 0.0037, 0.0218)],
)
def test_exact_intervals_are_clopper_and_pearsons(count, total, low, high):
    rate = exact_rate(count, total, 0.95)
    assert (rate.value, rate.low, rate.high) == pytest.approx((count / total, low, high), abs=1e-4)


@pytest.mark.parametrize("attackers", [1, 2, 5, 10])
def test_the_membership_score_is_the_majority_vote_at_every_level(attackers):
    z = np.random.default_rng(attackers).normal(-1, 1, (300, attackers))
    for alpha in (0.5, 0.1, 0.05, 0.01):
        in_favour, said = (z <= norm.ppf(alpha)).sum(1), votes(bag_vote(z), alpha)
        even = in_favour == attackers / 2  # half of an even number: the mean of the middle two decides
        assert np.array_equal(said[~even], (in_favour > attackers / 2)[~even])


def test_an_even_number_of_voters_favours_neither_side():
    z = np.array([[-4.0, 1.0, 3.0, 9.0]])
    assert bag_vote(z).tolist() == [-2.0]
    assert bag_vote(-z).tolist() == [2.0], "a median that takes the upper middle would say 1"


def test_only_voters_vote():
    z = np.array([[-3.0, 5.0, 7.0], [-3.0, 5.0, 7.0], [1.0, 1.0, 1.0]])
    voters = np.array([[True, False, False], [False, True, True], [False, False, False]])
    assert bag_vote(z, voters).tolist() == [3.0, -6.0, -np.inf]
    np.testing.assert_array_equal(bag_vote(z[..., None], voters)[:, 0], bag_vote(z, voters))


def test_new_images_get_the_voters_of_calibrating_images_as_often_as_these_are():
    rng = np.random.default_rng(0)
    voters = rng.random((50, 10)) < 0.37
    voters[:, 0] = True
    z = rng.normal(size=(20_000, 10))
    drawn = drawn_voters(z, voters)
    np.testing.assert_allclose(drawn.mean(axis=0), voters.mean(axis=0), atol=0.02)
    shares = np.bincount(drawn.sum(axis=1), minlength=11) / 20_000
    np.testing.assert_allclose(shares, np.bincount(voters.sum(axis=1), minlength=11) / 50, atol=0.02)
    order = rng.permutation(20_000)
    np.testing.assert_array_equal(drawn_voters(z[order], voters), drawn[order])
    np.testing.assert_array_equal(drawn_voters(z + 1e-9, voters)[:99], drawn[:99])  # another batch's last digits
    assert drawn_voters(z, np.ones((50, 10), dtype=bool)).all()


@pytest.mark.parametrize("attackers", [2, 5, 10])
def test_out_of_bag_p_values_are_as_uniform_as_those_of_images_kept_apart(attackers):
    """Attackers that disagree as much as images differ: many voters make a less noisy membership score than few."""
    rng, nominal, realised, all_vote = np.random.default_rng(attackers), [], [], []
    for _ in range(150):
        out_of_bag = rng.random((300, attackers)) < 0.37
        z = {role: rng.normal(size=(count, 1)) for role, count in (("auxiliary", 300), ("holdout", 2000))}
        z = {role: values + rng.normal(0, 1, (len(values), attackers)) for role, values in z.items()}
        judged = judge({"holdout": z["holdout"]}, z["auxiliary"], out_of_bag, np.ones(300, dtype=bool))
        count = judged.calibration_size
        nominal.append(np.floor(0.05 * (count + 1)) / (count + 1))
        realised.append((judged.p_value["holdout"] <= 0.05).mean())
        all_vote.append((conformal_p_values(judged.membership_score["holdout"], judged.non_members) <= 0.05).mean())
    error = np.std(realised) / np.sqrt(150)
    assert abs(np.mean(realised) - np.mean(nominal)) < 3 * error
    assert np.mean(all_vote) < np.mean(nominal) - 3 * error, "judged by all attackers, new images err on one side"


def test_z_scores_of_gaussians_are_standardised():
    prediction = LocationScale(np.array([[0.0, 3.0]]), np.array([[2.0, 1.0]]))
    assert prediction.z_scores(np.array([[1.0, 1.0]])).tolist() == [[0.5, -2.0]]


def quantiles_z(log_scores: list[float], levels: list[float], values: list[float]) -> np.ndarray:
    """z-scores of log scores under the same quantiles.  Returns (N,)."""
    prediction = Quantiles(np.tile(values, (len(log_scores), 1, 1)), tuple(levels))
    return prediction.z_scores(np.array(log_scores)[:, None])[:, 0]


def test_z_scores_of_gaussian_quantiles_are_those_of_the_gaussian():
    levels, scores = [0.001, 0.01, 0.1, 0.5, 0.9], [-9.0, -3.1, -2.0, -0.7, 0.0, 0.6, 4.0]
    z = quantiles_z(scores, levels, 2 * norm.ppf(levels) + 1)
    np.testing.assert_allclose(z, (np.array(scores) - 1) / 2, atol=1e-6)
    several = LocationScale(np.array([[1.0, -2.0]]), np.array([[2.0, 0.3]]))
    observed = np.array([[0.5, -2.1]])
    np.testing.assert_allclose(Quantiles(several.quantiles()).z_scores(observed), several.z_scores(observed), atol=1e-6)


def test_a_score_on_a_quantile_is_voted_member_at_that_level_and_not_just_above_it():
    z = quantiles_z([2.0, 2.001], [0.01, 0.1, 0.5], [1.0, 2.0, 4.0])
    assert (z <= norm.ppf(0.1) + 1e-9).tolist() == [True, False]


def test_equal_quantiles_do_not_break_the_order():
    z = quantiles_z([0.9, 1.0, 1.1], [0.1, 0.2, 0.5], [1.0, 1.0, 1.0])
    assert np.isfinite(z).all()
    assert (np.diff(z) > 0).all()


def test_conformal_p_values_count_ties_against_the_suspect():
    non_members = np.array([1.0, 2.0, 2.0, 3.0])
    assert conformal_p_values(np.array([0.0, 2.0, 2.5, 9.0]), non_members).tolist() == [1.0, 0.8, 0.4, 0.2]


def test_p_values_of_fresh_non_members_are_below_alpha_no_more_often_than_alpha():
    rng = np.random.default_rng(0)
    flagged = [(conformal_p_values(rng.normal(size=200), rng.normal(size=199)) <= 0.05).mean() for _ in range(300)]
    assert 0.04 < np.mean(flagged) < 0.056


def shifted_judgement(shift: float, members: int = 400, holdout: int = 500, bag: int = 7):
    rng = np.random.default_rng(0)
    z = {"member": rng.normal(-shift, 1, (members, 1)), "holdout": rng.normal(0, 1, (holdout, 1))}
    z = {role: values + rng.normal(0, 0.3, (len(values), bag)) for role, values in z.items()}
    auxiliary = rng.normal(0, 1, (600, 1)) + rng.normal(0, 0.3, (600, bag))
    return judge(z, auxiliary, rng.random((600, bag)) < 0.37, np.ones(600, dtype=bool))


def test_calibrated_error_rates_hold_whatever_scale_the_learner_got_wrong():
    rng = np.random.default_rng(1)
    z = {"member": rng.normal(-9, 5, (50, 3)), "holdout": np.repeat(rng.normal(4, 5, (4000, 1)), 3, axis=1)}
    auxiliary = np.repeat(rng.normal(4, 5, (4000, 1)), 3, axis=1)
    judged = judge(z, auxiliary, rng.random((4000, 3)) < 0.5, np.ones(4000, dtype=bool))
    figures = summarise(judged, [0.1], 0.999)
    assert figures["realised_fpr_at_alpha_1e-1_ci_low"] < 0.1 < figures["realised_fpr_at_alpha_1e-1_ci_high"]
    assert (
        not figures["raw_realised_fpr_at_alpha_1e-1_ci_low"] < 0.1 < figures["raw_realised_fpr_at_alpha_1e-1_ci_high"]
    )


def test_images_that_every_attacker_saw_do_not_calibrate():
    out_of_bag = np.ones((10, 2), dtype=bool)
    out_of_bag[:4] = False
    z = {"member": np.zeros((1, 2)), "holdout": np.zeros((1, 2))}
    judged = judge(z, np.zeros((10, 2)), out_of_bag, np.ones(10, dtype=bool))
    assert (judged.calibration_size, judged.calibration_by) == (6, "out of bag")


def test_p_values_of_images_kept_apart_are_exactly_uniform():
    """Over every choice of the suspect among n + 1 exchangeable images, each p-value k / (n + 1) comes once."""
    rng = np.random.default_rng(3)
    pool, seen = rng.normal(5, 3, (20, 4)), rng.normal(-50, 9, (30, 4))  # what fits is judged quite otherwise
    calibrates = np.r_[np.zeros(30, dtype=bool), np.ones(19, dtype=bool)]
    out_of_bag = np.r_[rng.random((30, 4)) < 0.4, np.ones((19, 4), dtype=bool)]
    p_values = []
    for suspect in range(20):
        auxiliary = np.r_[seen, np.delete(pool, suspect, axis=0)]
        z = {"member": pool[[suspect]], "holdout": pool[[suspect]]}
        judged = judge(z, auxiliary, out_of_bag, calibrates)
        assert (judged.calibration_size, judged.calibration_by) == (19, "calibration split")
        p_values.append(judged.p_value["holdout"][0])
    np.testing.assert_allclose(sorted(p_values), np.arange(1, 21) / 20)


@pytest.mark.parametrize(("images", "alpha"), [(99, 0.01), (999, 0.001), (900, 0.00111), (97, 0.0103)])
def test_the_smallest_alpha_is_named_so_that_it_stands(images, alpha):
    named = smallest_alpha(images)
    assert named == alpha
    assert (images + 1) * named >= 1 - 1e-9


def judgement_of(p_values: list[float]) -> AttackResult:
    p = np.array(p_values)
    membership_score = {"member": -p, "holdout": -p}
    return AttackResult({}, membership_score, membership_score, {"member": p, "holdout": p}, np.zeros(99), "out of bag")


def test_false_positives_of_alike_images_are_counted_by_hand():
    judged = judgement_of([0.005, 0.5, 0.01, 0.02, 0.5, 0.5, 0.001])
    groups = {"class": pd.Series([3, 3, 1, 1, 1, None, None], dtype="Int64")}
    table = conditional_fpr(judged, groups, [0.01, 0.1], 0.95)
    counted = table[["group_by", "group", "nominal", "false_positives", "images"]].values.tolist()
    assert counted == [
        ["class", 1, 0.01, 1, 3],
        ["class", 3, 0.01, 1, 2],
        ["class", 1, 0.1, 2, 3],
        ["class", 3, 0.1, 1, 2],
    ]
    assert table["realised"].tolist() == pytest.approx([1 / 3, 1 / 2, 2 / 3, 1 / 2])
    assert table["ci_high"][0] == pytest.approx(exact_rate(1, 3, 0.95).high)


def test_deciles_share_images_evenly_and_never_part_equal_ones():
    assert deciles(np.arange(20.0)).tolist() == np.repeat(np.arange(1, 11), 2).tolist()
    assert deciles(-np.arange(10.0)).tolist() == list(range(10, 0, -1))
    assert deciles(np.r_[np.zeros(10), 1.0]).tolist() == [5] * 10 + [10]


def test_the_worst_decile_is_the_one_with_the_largest_rate_and_allows_for_having_been_looked_for():
    judged = judgement_of([0.5] * 40 + [0.005, 0.005, 0.5, 0.005])
    figures = worst_decile(judged, np.repeat([1, 2, 9], [20, 20, 4]), [0.01], 0.95)
    name = "worst_decile_fpr_at_alpha_1e-2"
    assert [figures[name], figures[f"{name}_count"], figures[f"{name}_images"]] == [0.75, 3, 4]
    assert figures[f"{name}_ci_low"] < exact_rate(3, 4, 0.95).low


def test_one_threshold_for_all_accuses_the_simple_and_thresholds_for_each_do_not():
    """The score of a non-member is its complexity and noise; who knows the complexity judges all alike."""
    rng = np.random.default_rng(7)
    complexity = {role: rng.normal(0, 2, 4000) for role in ("member", "holdout", "auxiliary")}
    noise = {role: rng.normal(0, 1, (4000, 1)) for role in complexity}
    out_of_bag, everyone = np.ones((4000, 1), dtype=bool), np.ones(4000, dtype=bool)
    worst = []
    for known in (0, 1):  # subtracted from the score or not
        z = {role: noise[role] + (1 - known) * complexity[role][:, None] for role in complexity}
        judged = judge({role: z[role] for role in ("member", "holdout")}, z["auxiliary"], out_of_bag, everyone)
        worst.append(worst_decile(judged, deciles(complexity["holdout"]), [0.05], 0.99))
        figures = summarise(judged, [0.05], 0.999)
        assert figures["realised_fpr_at_alpha_5e-2_ci_low"] < 0.05 < figures["realised_fpr_at_alpha_5e-2_ci_high"]
    name = "worst_decile_fpr_at_alpha_5e-2"
    assert worst[0][f"{name}_ci_low"] > 0.25
    assert worst[1][f"{name}_ci_low"] < 0.05


def test_worst_of_ten_intervals_cover_alpha_as_often_as_they_say():
    rng, decile = np.random.default_rng(5), np.repeat(np.arange(1, 11), 60)
    covered = 0
    for _ in range(300):
        figures = worst_decile(judgement_of(rng.random(600)), decile, [0.05], 0.9)
        covered += figures["worst_decile_fpr_at_alpha_5e-2_ci_low"] <= 0.05
    assert covered / 300 > 0.9


def test_figures_are_flat_and_carry_counts_and_intervals():
    figures = summarise(shifted_judgement(2.0), [0.1, 0.001], 0.95)
    assert figures["tpr_at_fpr_1e-1"] == figures["tpr_at_fpr_1e-1_count"] / 400
    assert figures["tpr_at_fpr_1e-1_ci_low"] < figures["tpr_at_fpr_1e-1"] < figures["tpr_at_fpr_1e-1_ci_high"]
    assert figures["tpr_at_fpr_1e-3"] is None, "500 holdout images cannot resolve an FPR of 0.1 %"
    assert figures["fpr_resolution"] == 1 / 500
    assert all(value is None or isinstance(value, int | float | str) for value in figures.values())


def test_curves_agree_with_the_figures():
    judged = shifted_judgement(2.0)
    figures = summarise(judged, [0.1], 0.95)
    curve = roc_points(judged)
    assert curve["tpr"][curve["fpr"] <= 0.1].max() == pytest.approx(figures["tpr_at_fpr_1e-1"])
    assert bag_size_curve(judged, 0.1)["tpr"].iloc[-1] == figures["tpr_at_fpr_1e-1"]
    calibrated = alpha_curve(judged, [0.1], 0.95).query("verdict == 'calibrated' and nominal == 0.1")
    assert calibrated["fpr"].item() == figures["realised_fpr_at_alpha_1e-1"]
    assert calibrated["tpr"].item() == figures["tpr_at_alpha_1e-1"]


def test_without_members_curves_have_columns_and_tprs_are_empty():
    known, unknown = shifted_judgement(2.0), shifted_judgement(2.0, members=0)
    for empty, one in ((bag_size_curve(of, 0.1) for of in (unknown, known)), map(roc_points, (unknown, known))):
        assert (len(empty), list(empty.columns)) == (0, list(one.columns))
    rows = alpha_curve(unknown, [0.1], 0.95)
    assert rows["tpr"].isna().all()
    assert rows["fpr"].notna().all()


@pytest.mark.parametrize(("alpha", "name"), [(0.1, "1e-1"), (0.05, "5e-2"), (0.001, "1e-3"), (0.025, "2.5e-2")])
def test_levels_have_exact_names(alpha, name):
    assert level_name(alpha) == name
