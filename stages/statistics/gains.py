"""What one judgement gains over another on the same images, as figures of the metrics."""

from stages.statistics.judgement import Judgement
from stages.statistics.paired import Difference, paired_difference
from stages.statistics.summary import Figures, level_name


def gain(of: Judgement, over: Judgement | None, name: str | None, fpr: float, confidence: float) -> Figures:
    """Flat figures: `compared_with`, and the paired difference of TPR at `fpr` and of AUC with its interval.

    over, name : the judgement compared with and what it is called; None, and all figures are None, where there is none.
    So they are where no member is known, and the TPR's where the holdout cannot resolve `fpr`.
    """
    tpr, auc = None, None
    if over is not None and len(of.margin["member"]):
        member, holdout = ((of.margin[role], over.margin[role]) for role in ("member", "holdout"))
        tpr, auc = paired_difference(member, holdout, fpr, confidence)
    return {"compared_with": name, **_named(f"tpr_gain_at_fpr_{level_name(fpr)}", tpr), **_named("auc_gain", auc)}


def _named(name: str, found: Difference | None) -> Figures:
    values = (None, None, None) if found is None else (found.value, found.low, found.high)
    return dict(zip((name, f"{name}_ci_low", f"{name}_ci_high"), values, strict=True))
