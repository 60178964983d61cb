"""The figures of an audit: by judge, by decile of complexity, by curve."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from leakgauge.inference.conformal import AttackResult, bag_vote, fpr_range, votes
from leakgauge.inference.roc import Rate, asr, auc, exact_rate, roc, tpr_at_fpr, true_positives_at_fpr
from leakgauge.inference.units import design_effect

Figures = dict[str, Any]  # flat: numbers, words and None, but for tables within


def membership_metrics(
    member: np.ndarray, holdout: np.ndarray, alphas: Sequence[float] = (0.01, 0.001), confidence: float = 0.95
) -> Figures:
    """AUC, ASR and TPR at each false-positive rate, with their intervals.

    member, holdout : (M,) and (N,) membership scores, higher is more member-like.  All is None without members, and a
    TPR at an FPR that the holdout cannot resolve.  Raises ValueError for NaN, which no threshold can rank.
    """
    if np.isnan(member).any() or np.isnan(holdout).any():
        raise ValueError("membership scores hold NaN")
    area = auc(member, holdout, confidence) if len(member) else (None, None, None)
    figures: Figures = dict(zip(("auc", "auc_ci_low", "auc_ci_high"), area, strict=True))
    figures["asr"] = asr(member, holdout) if len(member) else None
    for alpha in alphas:
        rate = tpr_at_fpr(member, holdout, alpha, confidence) if len(member) else None
        figures |= named_rate(f"tpr_at_fpr_{level_name(alpha)}", rate)
    return figures


def summarise(result: AttackResult, alphas: list[float], confidence: float) -> Figures:
    """AUC, ASR, TPR at each FPR, and at each nominal alpha what the calibrated and the raw verdicts realise.

    A TPR at an FPR that the holdout cannot resolve is None, never a number; so is all that no member is known for.
    """
    member, holdout = result.membership_score["member"], result.membership_score["holdout"]
    figures = membership_metrics(member, holdout, alphas, confidence)
    for alpha in alphas:
        verdicts = {
            "realised_fpr": result.p_value["holdout"] <= alpha,
            "raw_realised_fpr": votes(holdout, alpha),
            "tpr": result.p_value["member"] <= alpha,
        }
        for name, flagged in verdicts.items():
            figures |= named_rate(f"{name}_at_alpha_{level_name(alpha)}", _rate(flagged, confidence))
        low, high = fpr_range(result.calibration_size, len(holdout), alpha, confidence)
        name = f"realised_fpr_at_alpha_{level_name(alpha)}_expected"
        figures |= {f"{name}_low": low, f"{name}_high": high}
    return figures | {
        "members": len(member),
        "holdout": len(holdout),
        "calibration": result.calibration_size,
        "calibration_by": result.calibration_by,
        "fpr_resolution": 1 / len(holdout),
        "p_value_resolution": 1 / (result.calibration_size + 1),
    }


def widened(figures: Figures, by: float, false_positives: bool = True) -> Figures:
    """The figures with intervals wider by a factor, about their values, within what is possible.

    false_positives : whether those of false-positive rates too; what chance allows of a rate is wider about the rate
    that was asked for.
    """
    if by == 1:
        return figures
    wide = dict(figures)
    for end in [name for name in figures if name.endswith(("_ci_low", "_ci_high", "_expected_low", "_expected_high"))]:
        name, _, kind = end.removesuffix("_low").removesuffix("_high").rpartition("_")
        of_fpr = "fpr_at_alpha" in name
        about = float(name.rpartition("_")[2]) if kind == "expected" else figures[name]
        if about is None or figures[end] is None or (of_fpr and not false_positives):
            continue
        lowest = -1.0 if "gain" in name else 0.0
        wide[end] = float(np.clip(about + by * (figures[end] - about), lowest, 1.0))
    return wide


def unit_factor(result: AttackResult, units: Mapping[str, np.ndarray | None]) -> float:
    """How much wider intervals are of images that are not independent: the root of the larger design effect.

    units : role -> codes of members and holdout; None where each image is its own.  Of the ranks of membership scores;
    whether a score is above a threshold is no more alike within a unit than its rank.
    """
    effects = [1.0]
    for role, codes in units.items():
        scores = result.membership_score[role]
        if codes is not None and len(scores):
            ranks = rankdata(scores) / len(scores)
            effects.append(design_effect(ranks, codes, float(ranks.var())))
    return math.sqrt(max(effects))


def level_name(alpha: float) -> str:
    """0.01 -> '1e-2', 0.025 -> '2.5e-2'."""
    mantissa, exponent = f"{alpha:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def named_rate(name: str, rate: Rate | None) -> Figures:
    """A rate with its interval and count, by name; all None where there is no rate."""
    if rate is None:
        return dict.fromkeys((name, f"{name}_ci_low", f"{name}_ci_high", f"{name}_count"))
    return {name: rate.value, f"{name}_ci_low": rate.low, f"{name}_ci_high": rate.high, f"{name}_count": rate.count}


DECILES = 10


def deciles(values: np.ndarray) -> np.ndarray:
    """The decile 1..10 of each value, (N,) int64.  Equal values share one, so deciles may differ in size."""
    share = (rankdata(values) - 0.5) / len(values)  # in (0, 1)
    return (share * DECILES).astype(np.int64) + 1


def conditional_fpr(
    result: AttackResult, groups: dict[str, pd.Series], alphas: list[float], confidence: float
) -> pd.DataFrame:
    """What calibrated verdicts realise on each group of the holdout.

    groups : what the holdout is grouped by -> the group of each image; images of no group (NA) count in none.
    Columns: group_by, group, nominal, realised, ci_low, ci_high, false_positives, images, expected_low, expected_high
    (what chance leaves of an exact calibration that treats groups alike, by `fpr_range`).
    """
    rows = []
    for by, group in groups.items():
        for alpha in alphas:
            flagged = pd.Series(result.p_value["holdout"] <= alpha)
            for name, of_group in flagged.groupby(group.reset_index(drop=True)):
                rate = exact_rate(int(of_group.sum()), len(of_group), confidence)
                expected = fpr_range(result.calibration_size, rate.total, alpha, confidence)
                rows.append((by, name, alpha, rate.value, rate.low, rate.high, rate.count, rate.total, *expected))
    columns = ["group_by", "group", "nominal", "realised", "ci_low", "ci_high", "false_positives", "images"]
    return pd.DataFrame(rows, columns=[*columns, "expected_low", "expected_high"])


def worst_decile(result: AttackResult, decile: np.ndarray, alphas: list[float], confidence: float) -> Figures:
    """The largest FPR that calibrated verdicts realise on any decile, with its counts, at each nominal alpha.

    The largest of ten is above nominal by chance alone.  Its interval, and `_expected_high`, the largest rate that
    chance leaves in a group of its size where calibration is exact and treats groups alike, allow for that: they are
    taken at the confidence at which all ten hold together (Bonferroni).
    """
    together = 1 - (1 - confidence) / DECILES
    figures: Figures = {}
    for alpha in alphas:
        flagged = result.p_value["holdout"] <= alpha
        groups = [flagged[decile == number] for number in np.unique(decile)]
        worst = max((exact_rate(int(group.sum()), len(group), together) for group in groups), key=lambda r: r.value)
        name = f"worst_decile_fpr_at_alpha_{level_name(alpha)}"
        _, most = fpr_range(result.calibration_size, worst.total, alpha, together)
        figures |= named_rate(name, worst) | {f"{name}_images": worst.total, f"{name}_expected_high": most}
    return figures


POINTS = 400  # of an ROC curve, at most
POWER = ("auc", "auc_ci_low", "auc_ci_high", "tpr", "tpr_ci_low", "tpr_ci_high")


def roc_points(result: AttackResult) -> pd.DataFrame:
    """The ROC curve from 1 / holdout up, thinned evenly on a log axis; read as steps.  Columns: fpr, tpr.

    Like every curve with a TPR it has no rows where no member is known.
    """
    if not len(result.membership_score["member"]):
        return pd.DataFrame(columns=["fpr", "tpr"])
    fpr, tpr = roc(result.membership_score["member"], result.membership_score["holdout"])
    grid = np.geomspace(1 / len(result.membership_score["holdout"]), 1, POINTS)
    steps = np.unique(np.searchsorted(fpr, grid * (1 + 1e-9), side="right") - 1)  # the best TPR with FPR <= grid
    return pd.DataFrame({"fpr": fpr[steps], "tpr": tpr[steps]}).query("fpr > 0")


ALPHAS = tuple(np.geomspace(1e-4, 0.5, 25).round(6).tolist())  # of the curve, beside those asked for
RATES = {"tpr": "member", "fpr": "holdout"}
VERDICT_RATES = [f"{rate}{end}" for rate in RATES for end in ("", "_ci_low", "_ci_high", "_count")]


def alpha_curve(result: AttackResult, alphas: list[float], confidence: float) -> pd.DataFrame:
    """What raw and calibrated verdicts at each alpha catch of members, and flag of the holdout.

    Columns: verdict, nominal, `VERDICT_RATES`, fpr_expected_low, fpr_expected_high (of calibrated verdicts: what chance
    leaves of an exact calibration, by `fpr_range`).  TPRs are None where no member is known.  An alpha below
    1 / (calibrating images + 1), which no p-value can reach, is left out.
    """
    rows = []
    for alpha in sorted({*alphas, *ALPHAS}):
        if (result.calibration_size + 1) * alpha < 1 - 1e-9:
            continue
        expected = fpr_range(result.calibration_size, len(result.p_value["holdout"]), alpha, confidence)
        calibrated = {role: result.p_value[role] <= alpha for role in RATES.values()}
        raw = {role: votes(result.membership_score[role], alpha) for role in RATES.values()}
        for verdict, flagged, ends in (("calibrated", calibrated, expected), ("raw", raw, (None, None))):
            rates = [named_rate(rate, _rate(flagged[role], confidence)) for rate, role in RATES.items()]
            rows.append((verdict, alpha, *rates[0].values(), *rates[1].values(), *ends))
    return pd.DataFrame(rows, columns=["verdict", "nominal", *VERDICT_RATES, "fpr_expected_low", "fpr_expected_high"])


def _rate(flagged: np.ndarray, confidence: float) -> Rate | None:
    return exact_rate(int(flagged.sum()), len(flagged), confidence) if len(flagged) else None


SUB_BAGS = 10  # of each size
SIZES = (1, 2, 3, 5, 10, 20, 30, 50)  # of sub-bags, beside the whole bag


def bag_size_curve(result: AttackResult, fpr: float) -> pd.DataFrame:
    """TPR at `fpr` of random sub-bags: mean, standard deviation, least and largest.

    Sub-bags are drawn without replacement from the bag's attackers: those of about its size are much the same, and
    their spread is small for that reason alone.  Columns: attackers, sub_bags, tpr, tpr_sd, tpr_min, tpr_max.
    """
    most = result.z["holdout"].shape[1]
    sizes = sorted({most, *(size for size in SIZES if size < most)}) if len(result.z["member"]) else ()
    rows = []
    for size in sizes:
        rng = np.random.default_rng(size)
        drawn = [rng.permutation(most)[:size] for _ in range(SUB_BAGS if size < most else 1)]
        tpr = pd.Series([_tpr(result, attackers, fpr) for attackers in drawn], dtype=float)
        rows.append((size, len(drawn), tpr.mean(), tpr.std(ddof=min(1, len(drawn) - 1)), tpr.min(), tpr.max()))
    return pd.DataFrame(rows, columns=["attackers", "sub_bags", "tpr", "tpr_sd", "tpr_min", "tpr_max"])


def _tpr(result: AttackResult, attackers: np.ndarray, fpr: float) -> float | None:
    """What some of the attackers catch; None where the holdout cannot resolve `fpr`."""
    member, holdout = (bag_vote(result.z[role][:, attackers]) for role in ("member", "holdout"))
    count = true_positives_at_fpr(member, holdout, fpr)
    return None if count is None else count / len(member)


def power(member: np.ndarray, holdout: np.ndarray, fpr: float, confidence: float) -> dict[str, float | None]:
    """auc and tpr at `fpr`, each with its interval; tpr is None where the holdout cannot resolve `fpr`."""
    area, area_low, area_high = auc(member, holdout, confidence)
    rate = tpr_at_fpr(member, holdout, fpr, confidence)
    tpr = (rate.value, rate.low, rate.high) if rate else (None, None, None)
    return dict(zip(POWER, (area, area_low, area_high, *tpr), strict=True))
