"""Do networks that have learnt nothing tell the role?  Then something other than training does."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leakgauge.checks.plan import Plan, comparisons
from leakgauge.inference.roc import auc


def null_check(networks: Sequence[Mapping[str, np.ndarray]], plan: Plan) -> dict[str, dict[str, Any]]:
    """Role -> the AUC of telling it, under untrained networks, from the images that it must look like.

    networks : for each of at least one network, role -> (N,) membership scores, higher is more member-like.
    The AUC is that of the network under which it is farthest from 0.5.  Its interval allows for that: the intervals of
    all networks hold together at the level of one test (Bonferroni).  An interval without 0.5 fires.
    """
    confidence = 1 - plan.level / len(networks)
    areas: dict[str, list[tuple[float, float, float]]] = {}
    for membership_scores in networks:
        for role, own, others in comparisons(membership_scores):
            areas.setdefault(role, []).append(auc(own, np.array(others), confidence))
    farthest = {role: max(found, key=lambda area: abs(area[0] - 0.5)) for role, found in areas.items()}
    return {
        role: {"auc": area, "auc_ci_low": low, "auc_ci_high": high, "fires": not low <= 0.5 <= high}
        for role, (area, low, high) in farthest.items()
    }
