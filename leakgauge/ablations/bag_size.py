"""How many attackers a bag needs: random sub-bags of one large bag."""

import numpy as np
import pandas as pd

from leakgauge.bags import BagRunner, Named
from leakgauge.inference.conformal import bag_vote
from leakgauge.inference.metrics import Evaluate
from leakgauge.inference.roc import true_positives_at_fpr

COLUMNS = ["learner", "attackers", "sub_bags", "tpr", "tpr_sd", "tpr_min", "tpr_max"]


def measure(
    runner: BagRunner, learner: Named, score: str, sizes: list[int], sub_bags: int, asked: Evaluate
) -> pd.DataFrame:
    """TPR at the curves' FPR: mean, standard deviation, least and largest over sub-bags.  Columns: `COLUMNS`.

    Sub-bags are drawn without replacement, from as many attackers as the largest size: those of about that size are
    much the same, and their spread is small for that reason alone.
    """
    all_rows = np.arange(len(runner.roles["auxiliary"]))
    z = runner.fit(learner, max(sizes), [score], all_rows, "sweep bag size").judge().z  # (N, B) a role
    rows = []
    for size in sorted(set(sizes)):
        rng = np.random.default_rng([runner.seed, size])
        drawn = [rng.permutation(max(sizes))[:size] for _ in range(sub_bags)]
        hits = pd.Series([_hits(z, attackers, asked.curve_fpr) for attackers in drawn], dtype=float)
        reached = np.array([hits.mean(), hits.std(), hits.min(), hits.max()]) / len(z["member"])
        rows.append((learner.name, size, sub_bags, *reached))
    return pd.DataFrame(rows, columns=COLUMNS)


def _hits(z: dict[str, np.ndarray], attackers: np.ndarray, fpr: float) -> int | None:
    """The members that some of the attackers catch at `fpr`; None where the holdout cannot resolve it."""
    member, holdout = (bag_vote(z[role][:, attackers]) for role in ("member", "holdout"))
    return true_positives_at_fpr(member, holdout, fpr)
