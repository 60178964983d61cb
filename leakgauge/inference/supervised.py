"""An attacker that already knows half of the training set: it learns from those images what gives members away.

The other judges learn from non-members alone.  Whoever has some of the members (the developer; one of several owners;
someone with an earlier leak) can do more: a logistic regression over all that is known of an image, the bag's votes by
every learner and score, and the logarithm of every score.

**No image judges itself.**  Members and holdout are halved by unit (two-fold cross-fitting).  Each half is judged by a
regression that was fitted on the other half, with a strength of regularisation that cross-validation within that other
half chose.  p-values come from auxiliary images, on which no regression is fitted: fitting, calibration and measurement
use disjoint images.

**Intervals.**  Both halves are measured, so each image counts once.  But the two regressions err alike: where little
leaks, the chance difference between members and holdout in one half fits one regression and measures the other.  For a
linear rule in many dimensions the two halves' errors can be fully correlated, which doubles the variance.  So every
interval of this judge is wider by sqrt(2) than that of as many independent images: never too narrow, and too wide where
much leaks (`benchmarks/supervised`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leakgauge.draws import share_by_name
from leakgauge.inference.conformal import AttackResult, bag_vote, conformal_p_values, drawn_voters
from leakgauge.inference.units import unit_codes
from leakgauge.inference.z_scores import MEASURED, Roles, ZTable

SUPERVISED = "supervised"
FEWEST = 20  # units of members, and of holdout, that each regression is fitted on
BY = "auxiliary, of two regressions"  # what calibrates
STRENGTHS = (0.01, 0.1, 1.0)  # C of the regression, from strong to weak regularisation
FOLDS = 5  # of the cross-validation
WIDER = float(np.sqrt(2))
Fit = Callable[[np.ndarray, np.ndarray, list[str]], tuple[Any, float]]


@dataclass
class Features:
    """What is known of every image, column after column.

    of_all : role -> (N,) columns, bags judged by all attackers.  matched : the same by as many attackers as vote on an
    auxiliary image, auxiliary images included: behind p-values.  Lower is more member-like.
    """

    of_all: dict[str, list[np.ndarray]] = field(default_factory=dict)
    matched: dict[str, list[np.ndarray]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    usable: np.ndarray | None = None  # (n,) bool: the auxiliary images that calibrate, by every learner
    voters: dict[str, Roles] = field(default_factory=dict)  # learner -> role -> (N, B) bool, the same for all columns

    def add_votes(self, learner: str, column: str, z: Roles, table: ZTable) -> None:
        """The votes of a learner's bag by one score.  z : role -> (N, B)."""
        calibrates = table.calibrates & table.out_of_bag.any(axis=1)
        self.usable = calibrates if self.usable is None else self.usable & calibrates
        if learner not in self.voters:
            drawn = {role: drawn_voters(z[role], table.out_of_bag[calibrates]) for role in MEASURED}
            self.voters[learner] = {**drawn, "auxiliary": table.out_of_bag}
        for role, values in z.items():
            if role in MEASURED:
                self.of_all.setdefault(role, []).append(-bag_vote(values))
            self.matched.setdefault(role, []).append(-bag_vote(values, self.voters[learner][role]))
        self.names.append(f"{learner}.{column}")

    def add_scores(self, column: str, scores: Roles) -> None:
        """The logarithm of a score, role -> (N,); nothing where one of them is not positive."""
        if not all((np.isfinite(values) & (values > 0)).all() for values in scores.values()):
            return
        for role, values in scores.items():
            if role in MEASURED:
                self.of_all.setdefault(role, []).append(np.log(values))
            self.matched.setdefault(role, []).append(np.log(values))
        self.names.append(column)


@dataclass(frozen=True)
class Supervised:
    """The judge's result, and what its regressions were fitted on."""

    result: AttackResult
    strengths: tuple[float, float]  # C of the two regressions
    fitted_on: list[dict[str, int]]  # how many units of each role, of each regression


def logistic(member: np.ndarray, holdout: np.ndarray, units: list[str]) -> tuple[Any, float]:
    """A regression whose `decision_function` is high for members, and its C.

    member, holdout : (M, D) and (N, D).  units : of all of them, members first; no unit is in two folds.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(class_weight="balanced", max_iter=2000)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), regression),
        {"logisticregression__C": STRENGTHS},
        scoring="roc_auc",
        cv=StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0),
    )
    trained = np.repeat([1, 0], [len(member), len(holdout)])
    found = search.fit(np.concatenate([member, holdout]), trained, groups=units)
    return found.best_estimator_, float(found.best_params_["logisticregression__C"])


def supervised(features: Features, units: Mapping[str, Sequence[str]], fit: Fit = logistic) -> Supervised | None:
    """Judge members and holdout; None where either has too few units.

    units : role -> the unit of each image; an image's own name where the dataset has no units.
    fit : what is fitted; the benchmark tries others.
    """
    second = {role: share_by_name([f"half {unit}" for unit in units[role]], 0.5, 0) for role in MEASURED}
    counts = [_units(units, second, half) for half in (True, False)]  # that the judges of both halves are fitted on
    if min(min(count.values()) for count in counts) < FEWEST:
        return None
    known = features.of_all, features.matched
    of_all, matched = ({role: np.stack(columns, axis=1) for role, columns in of.items()} for of in known)
    logit, alike, p_value = ({role: np.empty(len(second[role])) for role in MEASURED} for _ in range(3))
    calibrating, strengths = [], []
    calibrating_units = unit_codes(np.array(units["auxiliary"], dtype=object)[features.usable])
    for half in (False, True):
        others = {role: second[role] != half for role in MEASURED}
        names = [unit for role in MEASURED for unit, at in zip(units[role], others[role], strict=True) if at]
        member, holdout = (of_all[role][others[role]] for role in MEASURED)
        model, strength = fit(member, holdout, names)
        non_members = model.decision_function(matched["auxiliary"][features.usable])
        for role in MEASURED:
            judged = second[role] == half
            logit[role][judged] = model.decision_function(of_all[role][judged])
            alike[role][judged] = model.decision_function(matched[role][judged])
            p_value[role][judged] = conformal_p_values(alike[role][judged], non_members, calibrating_units)
        calibrating.append(non_members)
        strengths.append(strength)
    result = AttackResult({}, logit, alike, p_value, np.mean(calibrating, axis=0), BY, calibrating_units)
    return Supervised(result, (strengths[0], strengths[1]), counts)


def _units(units: Mapping[str, Sequence[str]], second: dict[str, np.ndarray], half: bool) -> dict[str, int]:
    """Role -> how many units a half has."""
    return {
        role: len({unit for unit, at in zip(units[role], second[role], strict=True) if at == half}) for role in MEASURED
    }
