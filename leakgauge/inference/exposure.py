"""The worst case: the judge that finds most, and the members that every judge finds.

Whoever decides on a release asks how bad it can be.  The largest of several TPRs is above its true value by chance
alone; so its interval is that at which all judges' intervals hold together (Bonferroni), from the highest lower end to
the highest upper end: the largest of the true TPRs is within, at the confidence asked for.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from leakgauge.inference.conformal import conformal_p_values
from leakgauge.inference.metrics import Figures, widened
from leakgauge.inference.roc import tpr_at_fpr
from leakgauge.inference.supervised import SUPERVISED
from leakgauge.inference.z_scores import Roles

RATES = ("tpr", "tpr_ci_low", "tpr_ci_high")


def worst_case(
    judges: Mapping[str, Roles], fpr: float, confidence: float, wider: Mapping[str, float]
) -> Figures | None:
    """The largest TPR at `fpr` over all judges, with an interval corrected for the choice.

    judges : name -> role -> (N,) membership scores.  wider : name -> by which its interval is.  None where no member is
    known, or the holdout cannot resolve `fpr`.
    """
    together, found = 1 - (1 - confidence) / len(judges), {}
    for name, of in judges.items():
        rate = tpr_at_fpr(of["member"], of["holdout"], fpr, together) if len(of["member"]) else None
        if rate is None:
            return None
        figures = dict(zip(RATES, (rate.value, rate.low, rate.high), strict=True))
        found[name] = widened(figures, wider[name])
    worst = max(found, key=lambda name: found[name]["tpr"])
    ends = {end: max(figures[end] for figures in found.values()) for end in RATES[1:]}
    return {"judge": worst, "judges": len(judges), "fpr": fpr, "tpr": found[worst]["tpr"], **ends}


def exposure(verdicts: pd.DataFrame, headline: str, alpha: float) -> pd.DataFrame:
    """The members from the most to the least exposed.

    verdicts : rows of data/verdicts/<target>.parquet.  headline : the judge of the headline.
    Columns: image_id; p_value of the headline judge; p_value_supervised where there is that judge; found_by, how many
    judges have a p-value of at most `alpha`; judges, of how many; like_it, the conformal p-value of `found_by`: about
    the share of images not trained on that as many judges find.
    """
    by_judge = verdicts.pivot(index=["role", "image_id"], columns="learner", values="p_value")
    found = (by_judge <= alpha).sum(axis=1)
    members = by_judge.loc[["member"]].droplevel("role") if "member" in by_judge.index else by_judge.iloc[:0]
    table = pd.DataFrame({"image_id": members.index.to_numpy(), "p_value": members[headline].to_numpy()})
    if SUPERVISED in members:
        table["p_value_supervised"] = members[SUPERVISED].to_numpy()
    table["found_by"] = found.loc["member"].to_numpy() if len(members) else np.empty(0, dtype=np.int64)
    table["judges"] = by_judge.shape[1]
    table["like_it"] = conformal_p_values(table["found_by"].to_numpy(), found.loc["holdout"].to_numpy())
    return table.sort_values(["found_by", "p_value", "image_id"], ascending=[False, True, True], ignore_index=True)
