"""The figures of one learner, flat, each rate with its count and its interval."""

from stages.statistics.calibration import fpr_range
from stages.statistics.intervals import Rate, exact_rate
from stages.statistics.judgement import Judgement
from stages.statistics.roc import asr, auc, tpr_at_fpr
from stages.statistics.vote import votes

Figures = dict[str, float | int | str | None]


def summarise(judgement: Judgement, alphas: list[float], confidence: float) -> Figures:
    """AUC, ASR, TPR at each FPR, and at each nominal alpha what the calibrated and the raw verdicts realise.

    A TPR at an FPR that the holdout cannot resolve is None, never a number; so is all that no member is known for.
    """
    member, holdout = judgement.margin["member"], judgement.margin["holdout"]
    area = auc(member, holdout, confidence) if len(member) else (None, None, None)
    figures: Figures = dict(zip(("auc", "auc_ci_low", "auc_ci_high"), area, strict=True))
    figures["asr"] = asr(member, holdout) if len(member) else None
    for alpha in alphas:
        rate = tpr_at_fpr(member, holdout, alpha, confidence) if len(member) else None
        figures |= named_rate(f"tpr_at_fpr_{level_name(alpha)}", rate)
    for alpha in alphas:
        verdicts = {
            "realised_fpr": judgement.p_value["holdout"] <= alpha,
            "raw_realised_fpr": votes(holdout, alpha),
            "tpr": judgement.p_value["member"] <= alpha,
        }
        for name, flagged in verdicts.items():
            rate = exact_rate(int(flagged.sum()), len(flagged), confidence) if len(flagged) else None
            figures |= named_rate(f"{name}_at_alpha_{level_name(alpha)}", rate)
        low, high = fpr_range(judgement.calibration_size, len(holdout), alpha, confidence)
        name = f"realised_fpr_at_alpha_{level_name(alpha)}_expected"
        figures |= {f"{name}_low": low, f"{name}_high": high}
    return figures | {
        "members": len(member),
        "holdout": len(holdout),
        "calibration": judgement.calibration_size,
        "calibration_by": judgement.calibration_by,
        "fpr_resolution": 1 / len(holdout),
        "p_value_resolution": 1 / (judgement.calibration_size + 1),
    }


def level_name(alpha: float) -> str:
    """0.01 -> '1e-2', 0.025 -> '2.5e-2'."""
    mantissa, exponent = f"{alpha:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def named_rate(name: str, rate: Rate | None) -> Figures:
    """A rate with its interval and count, by name; all None where there is no rate."""
    if rate is None:
        return dict.fromkeys((name, f"{name}_ci_low", f"{name}_ci_high", f"{name}_count"))
    return {name: rate.value, f"{name}_ci_low": rate.low, f"{name}_ci_high": rate.high, f"{name}_count": rate.count}
