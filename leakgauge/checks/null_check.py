"""Do networks that have learnt nothing tell the role?  Then something other than training does.

Nor must a base, which saw as little of members as of others; else what it tells passes for what the target learnt.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from leakgauge.checks.plan import Plan
from leakgauge.inference.roc import auc


def null_check(scores: Mapping[str, np.ndarray], plan: Plan) -> dict[str, dict[str, Any]]:
    """Role -> the AUC of telling it, under untrained networks and the base, from the images that it must look like.

    scores : role -> (N, K) under each of K networks, lower is more member-like.  The AUC is that of the network under
    which it is farthest from 0.5.  Its interval allows for that: the intervals of all networks hold together at the
    level of one test (Bonferroni).  An interval without 0.5 fails.
    """
    found: dict[str, dict[str, Any]] = {}
    for role, own, others in plan.comparisons(scores):
        mine, theirs = -np.asarray(own), -np.asarray(others)
        areas = [auc(mine[:, k], theirs[:, k], 1 - plan.level / mine.shape[1]) for k in range(mine.shape[1])]
        area, low, high = max(areas, key=lambda one: abs(one[0] - 0.5))
        found[role] = {"auc": area, "auc_ci_low": low, "auc_ci_high": high, "fails": not low <= 0.5 <= high}
    return found
