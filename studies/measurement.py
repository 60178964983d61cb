"""How every study measures: one threshold for all images, or one for each, at a false-positive rate, with intervals."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveInt, RootModel

from leakgauge.bags import BagRunner, Fitted, Named, Scored
from leakgauge.config import PARAMS
from leakgauge.errors import InputError
from leakgauge.files import write_bytes
from leakgauge.inference.comparisons import mean_over_seeds
from leakgauge.inference.metrics import power
from leakgauge.options import Learner, Options, Rate
from leakgauge.quantile.inputs import Inputs
from leakgauge.tables import read_table
from studies.population import ROLES, Population
from studies.settings import section

ONE_FOR_ALL = "one threshold for all"
PER_IMAGE = "one for each image"
POWER = ["auc", "auc_ci_low", "auc_ci_high", "tpr", "tpr_ci_low", "tpr_ci_high", "tpr_count", "members"]
ALL_SEEDS = -1  # in place of a seed: the mean over the seeds of a setting


class Measure(Options):
    """Section `measure`."""

    score: str  # the column that studies of one score take
    fpr: Rate  # at which they tell the TPR
    alphas: list[Rate] = Field(min_length=1)  # false-positive rates asked for
    confidence: Rate  # of every interval


class BagOptions(Options):
    """Section `bag`: the attackers of a study that asks for one sort of them."""

    learner: str  # a name in the registry `learners`
    size: PositiveInt
    seed: NonNegativeInt


Learners = RootModel[dict[str, Learner]]


class Audit(NamedTuple):
    """One trained model as a view shows it: its images by role, with every score."""

    seed: int
    step: int
    roles: dict[str, Scored]


def read_audits(view: str, population: Population) -> list[Audit]:
    """The models of a view, in order.  Raises InputError for a missing or damaged table."""
    table = read_table(Path(f"data/scores/{view}.parquet")).to_pandas()
    audits = []
    for (seed, step), rows in table.groupby(["seed", "step"]):
        roles = {role: _scored(rows[rows["role"] == role], population) for role in ROLES}
        audits.append(Audit(int(seed), int(step), roles))
    return audits


def audits_of(view: str, population: Population, seeds: list[int], last_only: bool = True) -> list[Audit]:
    """The models of a view that some seeds made.  last_only : of each seed's snapshots.

    Raises InputError where a seed is missing.
    """
    audits = [audit for audit in read_audits(view, population) if audit.seed in seeds]
    if missing := set(seeds) - {audit.seed for audit in audits}:
        raise InputError(f"{PARAMS}: views.{view}: its model has no seed {min(missing)}")
    last = max(audit.step for audit in audits)
    return [audit for audit in audits if not last_only or audit.step == last]


def _scored(rows: pd.DataFrame, population: Population) -> Scored:
    places = population.rows_of(rows["image_id"].tolist())
    scores = {name: np.log(rows[name].to_numpy()) for name in rows if name not in ("seed", "step", "role", "image_id")}
    return Scored(Inputs(population.pixels[places], population.features[places]), population.hashes[places], scores)


def read_learner(name: str) -> Named:
    """An entry of the registry `learners`.  Raises InputError."""
    known = section("learners", Learners).root
    if name not in known:
        raise InputError(f"{PARAMS}: learners.{name} is not there (there is {', '.join(known)})")
    return Named(name, known[name].root)


def fit_bag(roles: dict[str, Scored], columns: list[str], bag: BagOptions, folder: Path, what: str) -> Fitted:
    """A bag that learns some score columns of the auxiliary images.  folder : for unfinished work.

    what : told beside the progress bar.
    """
    learner = read_learner(bag.learner)
    all_rows = np.arange(len(roles["auxiliary"]))
    return BagRunner(roles, bag.seed, folder).fit(learner, bag.size, columns, all_rows, what)


def reached(member: np.ndarray, holdout: np.ndarray, asked: Measure, fpr: float | None = None) -> dict[str, float]:
    """The columns of `POWER`.  member, holdout : membership scores, higher is more member-like.  fpr : other than
    asked for.

    TPR columns are NaN where the holdout cannot resolve the FPR.
    """
    found = power(member, holdout, fpr or asked.fpr, asked.confidence)
    count = np.nan if found["tpr"] is None else round(found["tpr"] * len(member))
    values = {name: np.nan if value is None else value for name, value in found.items()}
    return values | {"tpr_count": count, "members": len(member)}


def one_for_all(roles: dict[str, Scored], column: str, asked: Measure, fpr: float | None = None) -> dict[str, float]:
    """What one threshold for all images reaches by a score column: the columns of `POWER`."""
    member, holdout = (-roles[role].log_scores[column] for role in ("member", "holdout"))
    return reached(member, holdout, asked, fpr)


def with_means(rows: pd.DataFrame, by: list[str], confidence: float) -> pd.DataFrame:
    """The rows, and for each setting one more of seed `ALL_SEEDS`: the mean of its seeds; counts and members are sums.

    by : the columns that make a setting.  Every figure with an interval gets one over seeds (`mean_over_seeds`): none
    (NaN) below three seeds, for seeds draw from the same images and two tell no spread.  Few seeds may agree by chance,
    so the interval is never narrower than it would be if the seeds' images were independent.
    """
    named = [name.removesuffix("_ci_low") for name in rows if name.endswith("_ci_low")]
    groups = rows.groupby(by, sort=False, dropna=False)
    means = rows.drop(columns="seed").groupby(by, sort=False, dropna=False).mean(numeric_only=True).reset_index()
    for place, (_, group) in enumerate(groups):
        for name in named:
            means.loc[place, [f"{name}_ci_low", f"{name}_ci_high"]] = _interval(group, name, confidence)
        for count in ("tpr_count", "members"):
            means.loc[place, count] = group[count].sum(skipna=False)
    return pd.concat([rows, means.assign(seed=ALL_SEEDS)], ignore_index=True)[rows.columns]


def _interval(group: pd.DataFrame, name: str, confidence: float) -> tuple[float, float]:
    """Ends over the seeds of a setting; those of a rate or an AUC lie in [0, 1]."""
    mean, low, high = mean_over_seeds(group[name].to_numpy(), confidence)
    halves = (group[f"{name}_ci_high"] - group[f"{name}_ci_low"]) / 2
    apart = np.sqrt((halves**2).sum()) / len(group)  # were the images of the seeds independent
    low, high = np.minimum(low, mean - apart), np.maximum(high, mean + apart)  # NaN stays NaN
    return (low, high) if name.endswith("uplift") else (np.clip(low, 0, 1), np.clip(high, 0, 1))


def write_csv(path: Path, rows: pd.DataFrame) -> None:
    """A table of results, the same bytes for the same rows."""
    write_bytes(path, rows.to_csv(index=False, float_format="%.6g").encode())


def options() -> tuple[Measure, BagOptions]:
    """Sections `measure` and `bag`.  Raises InputError."""
    return section("measure", Measure), section("bag", BagOptions)
