"""Do out-of-bag p-values realise what those of a calibration split would?  With the library's own attackers."""

from typing import Any

import numpy as np
import pandas as pd

from leakgauge.compute import spread
from leakgauge.inference.conformal import AttackResult, conformal_p_values, judge
from leakgauge.quantile.bag import Learner, attacker_seed, fit_attacker
from leakgauge.quantile.base import resamples
from leakgauge.quantile.inputs import Inputs

TITLE = "Out-of-bag calibration: the realised FPR"
ABOUT = (
    "Log scores depend on four features of an image, with noise whose size depends on them too.  Bags of `mlp` "
    "and `gbm` are fitted on n auxiliary images and judge 4,000 fresh non-members and 4,000 members, whose scores "
    "are two units of noise lower.  A bag of 30 is cut into bags of 5, 10 and 11.  Exact: the mean of a "
    "calibration split of as many images, floor(alpha (n + 1)) / (n + 1).  Before: the upper middle of an even "
    "number of voters, all attackers for new images, those that never saw it for each that calibrates.  The "
    "realised FPR is corrected by a control variate: that of the images' true noise, whose mean is exact.  It is given "
    "as a percentage of the exact one: before -> now (standard error).  TPR: "
    "members with a p-value of at most alpha; the loss is what fewer voters cost."
)
LEARNERS = {
    "mlp": {
        "kind": "mlp",
        "head": "location_scale",
        "width": 16,
        "depth": 1,
        "epochs": 6,
        "batch_size": 64,
        "learning_rate": 0.01,
        "weight_decay": 0.1,
        "dropout": 0.0,
        "precision": "float32",
    },
    "gbm": {
        "kind": "gbm",
        "head": "location_scale",
        "trees": 25,
        "scale_trees": 5,
        "leaves": 4,
        "learning_rate": 0.15,
        "min_leaf": 10,
        "feature_fraction": 1.0,
    },
}
REPETITIONS = {  # by auxiliary images; networks take longer
    "mlp": {100: 40, 300: 30, 1000: 16, 5000: 4},
    "gbm": {100: 60, 300: 40, 1000: 24, 5000: 8},
}
BAGS, LARGEST, ALPHAS, FRESH, DROP = (5, 10, 11, 30), 30, (0.1, 0.05, 0.01, 0.001), 4000, 2.0


def simulate() -> pd.DataFrame:
    """A row a learner, bag size and number of auxiliary images, and one for all numbers: of each level the realised FPR
    as a percentage of the exact one, before -> now (standard error of now)."""
    jobs = [
        (learner, count, seed)
        for learner, times in REPETITIONS.items()
        for count, number in times.items()
        for seed in range(number)
    ]
    found = pd.DataFrame([row for rows in spread(_draw, jobs, "bags") for row in rows])
    return as_table(found)


def as_table(found: pd.DataFrame) -> pd.DataFrame:
    """found : a row a draw, bag size and level, as `_draw` makes them."""
    table = []
    for (learner, size), of_bag in found.groupby(["learner", "B"], sort=False):
        ratios = {key: _ratios(rows) for key, rows in of_bag.groupby(["n", "asked"])}
        for count in (*sorted(of_bag["n"].unique().tolist()), "all"):
            row = {"learner": learner, "B": size, "n": count}
            for asked in (100 * alpha for alpha in ALPHAS):
                parts = [of for (n, level), of in ratios.items() if level == asked and count in (n, "all")]
                row[f"{asked:g} %"] = _cell(parts) if parts else "-"
            at = of_bag[(of_bag["asked"] == 5) & ((of_bag["n"] == count) | (count == "all"))]
            row["TPR at 5 %"] = f"{at['tpr_before'].mean():.1f} -> {at['tpr'].mean():.1f}"
            table.append(row)
    return pd.DataFrame(table)


def _ratios(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Of both rules the mean over draws of realised / exact, in percent, and its standard error."""
    control, ratios = rows["control"] / rows["exact"] - 1, {}
    for name in ("before", "realised"):
        ratio = rows[name] / rows["exact"]
        adjusted = 100 * (ratio - np.cov(ratio, control)[0, 1] / control.var() * control)
        ratios[name] = float(adjusted.mean()), float(adjusted.std(ddof=1) / np.sqrt(len(rows)))
    return ratios


def _cell(parts: list[dict[str, tuple[float, float]]]) -> str:
    """Several numbers of images together, each weighted by how exactly it is known."""
    weights = np.array([of["realised"][1] ** -2 for of in parts])
    before, now = (np.average([of[name][0] for of in parts], weights=weights) for name in ("before", "realised"))
    return f"{before:.1f} -> {now:.1f} ({weights.sum() ** -0.5:.1f})"


def _draw(learner: str, count: int, seed: int) -> list[dict[str, Any]]:
    """One auxiliary set: a row a bag size and level, in percent, averaged over the bags that thirty attackers make."""
    rng = np.random.default_rng([1, count, seed])
    roles = {"auxiliary": (count, 0.0), "holdout": (FRESH, 0.0), "member": (FRESH, DROP)}
    drawn = {role: _images(rng, *of) for role, of in roles.items()}
    z, out_of_bag = _bag(learner, drawn, seed)
    noise = {role: of[2] for role, of in drawn.items()}
    rows = []
    for size in BAGS:
        bags = [slice(start, start + size) for start in range(0, LARGEST - size + 1, size)]
        for alpha in ALPHAS:
            of_bags = [
                _rates({role: of[:, bag] for role, of in z.items()}, out_of_bag[:, bag], noise, alpha) for bag in bags
            ]
            if all(of_bags):
                means = pd.DataFrame(of_bags).mean().to_dict()
                rows.append({"learner": learner, "B": size, "asked": 100 * alpha, "n": count} | means)
    return rows


def _rates(
    z: dict[str, np.ndarray], out_of_bag: np.ndarray, noise: dict[str, np.ndarray], alpha: float
) -> dict[str, float]:
    """What both rules realise at alpha, and the control; empty where no p-value reaches alpha."""
    voted = out_of_bag.any(axis=1)
    flagging = int(np.floor(alpha * (voted.sum() + 1) + 1e-9))
    if not flagging:
        return {}
    others = {role: z[role] for role in ("holdout", "member")}
    now: AttackResult = judge(others, z["auxiliary"], out_of_bag, np.ones(len(out_of_bag), dtype=bool))
    calibrating = upper_middle(z["auxiliary"][voted], out_of_bag[voted])
    before = {
        role: conformal_p_values(upper_middle(of, np.ones_like(of, dtype=bool)), calibrating)
        for role, of in others.items()
    }
    return {
        "exact": 100 * flagging / (voted.sum() + 1),
        "control": 100 * (conformal_p_values(-noise["holdout"], -noise["auxiliary"][voted]) <= alpha).mean(),
        "realised": 100 * (now.p_value["holdout"] <= alpha).mean(),
        "before": 100 * (before["holdout"] <= alpha).mean(),
        "tpr": 100 * (now.p_value["member"] <= alpha).mean(),
        "tpr_before": 100 * (before["member"] <= alpha).mean(),
    }


def upper_middle(z: np.ndarray, voters: np.ndarray) -> np.ndarray:
    """The membership score as it was: the (V // 2 + 1)-th smallest z of V voters.  z, voters : (N, B)."""
    ordered = np.sort(np.where(voters, z, np.inf), axis=1)
    return -ordered[np.arange(len(z)), voters.sum(axis=1) // 2]


def _images(rng: np.random.Generator, count: int, drop: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (count, 4), log scores (count,), and the noise in them (count,)."""
    x, noise = rng.standard_normal((count, 4)).astype(np.float32), rng.standard_normal(count)
    size = 0.5 * np.exp(0.3 * x[:, 2])
    return x, np.sin(2 * x[:, 0]) + 0.5 * x[:, 1] + size * (noise - drop), noise


def _bag(learner: str, drawn: dict, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Role -> (N, 30) z-scores of one bag, and its out-of-bag mask."""
    options = Learner.model_validate(LEARNERS[learner]).root
    inputs = {role: Inputs(np.empty((len(of[0]), 0, 0, 0), dtype=np.uint8), of[0]) for role, of in drawn.items()}
    count = len(drawn["auxiliary"][0])
    resample = resamples(np.zeros(count, dtype=bool), seed, LARGEST)
    scores = drawn["auxiliary"][1][:, None]
    bag = [
        fit_attacker(inputs["auxiliary"], scores, options, attacker_seed(seed, number), one)[0]
        for number, one in enumerate(resample)
    ]
    z = {}
    for role, of in drawn.items():
        observed = of[1][:, None]
        z[role] = np.concatenate([attacker.predict(inputs[role]).z_scores(observed) for attacker in bag], axis=1)
    return z, np.stack([one.out_of_bag for one in resample], axis=1)
