"""What can be said of each member, and how that goes with being found."""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors

from leakgauge.inference.conformal import AttackResult
from leakgauge.inference.roc import exact_rate
from studies.common.audits import Audit
from studies.common.measurement import ONE_FOR_ALL, PER_IMAGE, as_they_are
from studies.common.population import Population
from studies.common.settings import Measure

DRAWS = 500  # of the bootstrap
QUANTITIES = ("complexity", "nearest_member", "nearest_auxiliary")
RULES = {ONE_FOR_ALL: "for_all", PER_IMAGE: "for_each"}


def describe_members(audit: Audit, result: AttackResult, population: Population, asked: Measure) -> pd.DataFrame:
    """One row a member of a model: row (in the population), seed, class, `QUANTITIES`, and of both `RULES` its
    membership score and whether it is found.  Distances are root mean square, in grey levels."""
    members, auxiliary = audit.roles["member"], audit.roles["auxiliary"]
    place = {digest: row for row, digest in enumerate(population.hashes.tolist())}
    rows = np.array([place[digest] for digest in members.hashes.tolist()])
    images, others = (of.inputs.images[:].reshape(len(of), -1).astype(float) for of in (members, auxiliary))
    facts = {
        "row": rows,
        "seed": audit.seed,
        "class": population.labels[rows],
        "complexity": population.features[rows, population.names.index(asked.complexity)],
        "nearest_member": nearest(images, images, itself=True),
        "nearest_auxiliary": nearest(images, others, itself=False),
        "p_value": result.p_value["member"],
    }
    scores = {"for_all": as_they_are(audit.roles, asked.score), "for_each": result.membership_score}
    for rule, of_rule in scores.items():
        facts |= {rule: of_rule["member"], f"{rule}_found": found(of_rule["member"], of_rule["holdout"], asked.fpr)}
    return pd.DataFrame(facts)


def nearest(images: np.ndarray, others: np.ndarray, itself: bool) -> np.ndarray:
    """The distance of each image to its nearest neighbour among others, (N,).  images, others : (N, P), (M, P).

    itself : the others are the images, and none is its own neighbour.
    """
    distances, _ = NearestNeighbors(n_neighbors=1 + itself).fit(others).kneighbors(images)
    return distances[:, -1] / np.sqrt(images.shape[1])


def found(member: np.ndarray, holdout: np.ndarray, fpr: float) -> np.ndarray:
    """Which members the threshold flags that flags at most a share `fpr` of the holdout, (M,) bool."""
    allowed = int(np.floor(fpr * len(holdout) + 1e-9))
    return member > np.sort(holdout)[::-1][allowed]


def by_group(members: pd.DataFrame, groups: int, confidence: float) -> pd.DataFrame:
    """Columns by, group, low, high (of the quantity), rule, tpr with its exact interval, count and members."""
    rows = []
    for by in ("complexity", "class", *QUANTITIES[1:]):
        ranks = members[by].rank(method="first")
        group = members[by] if by == "class" else pd.qcut(ranks, groups, labels=range(1, groups + 1)).astype(int)
        for name, of_group in members.groupby(group):
            for rule, column in RULES.items():
                rate = exact_rate(int(of_group[f"{column}_found"].sum()), len(of_group), confidence)
                ends = of_group[by].min(), of_group[by].max()
                rows.append((by, name, *ends, rule, rate.value, rate.low, rate.high, rate.count, rate.total))
    columns = ["by", "group", "low", "high", "rule", "tpr", "tpr_ci_low", "tpr_ci_high", "tpr_count", "members"]
    return pd.DataFrame(rows, columns=columns)


def correlations(members: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Spearman's correlation of members' membership scores with each quantity, with a bootstrap interval over members.

    Margins are ranked within their model.  Columns quantity, rule, correlation, ci_low, ci_high.
    """
    rng, rows = np.random.default_rng(0), []
    for rule, column in RULES.items():
        membership_score = members.groupby("seed")[column].rank(pct=True).to_numpy()
        for quantity in QUANTITIES:
            values = members[quantity].to_numpy()
            drawn = [rng.integers(len(values), size=len(values)) for _ in range(DRAWS)]
            again = [spearmanr(membership_score[draw], values[draw]).statistic for draw in drawn]
            ends = np.quantile(again, [(1 - confidence) / 2, (1 + confidence) / 2])
            rows.append((quantity, rule, spearmanr(membership_score, values).statistic, *ends))
    return pd.DataFrame(rows, columns=["quantity", "rule", "correlation", "ci_low", "ci_high"])
