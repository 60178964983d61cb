"""uplift: what thresholds for each image add to one threshold for all, for every score and learner.

Of each family of scores the timestep is chosen on the pilot seed by one threshold's AUC; a few t-errors stand beside
them as they are.  One bag a learner learns all columns at once.

data/scores/<view>.parquet -> metrics/uplift.csv, metrics/figures/uplift.png
"""

from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import NonNegativeInt

from leakgauge.cli import run
from leakgauge.files import resumable, write_bytes
from leakgauge.options import Options
from studies.charts.uplift import draw
from studies.families import FAMILIES, best_column
from studies.measurement import (
    POWER,
    Audit,
    BagOptions,
    Measure,
    audits_of,
    fit_bag,
    options,
    reached,
    with_means,
    write_csv,
)
from studies.paired import area, gain, tpr_at
from studies.population import read_population
from studies.settings import section

SETTING = ["score", "column", "learner"]
GAINS = [f"{name}{end}" for name in ("uplift", "auc_uplift") for end in ("", "_ci_low", "_ci_high")]


class Uplift(Options):
    """Section `uplift`."""

    view: str
    seeds: list[NonNegativeInt]
    pilot: NonNegativeInt
    learners: list[str]  # names in the registry `learners`
    also: list[str]  # columns beside the chosen ones
    bag_size: int


def uplift() -> None:
    """Write metrics/uplift.csv and its figure."""
    asked, bag = options()
    own, population = section("uplift", Uplift), read_population()
    (pilot,) = audits_of(own.view, population, [own.pilot])
    columns = {family: best_column(pilot, prefix, asked) for family, prefix in FAMILIES.items()}
    columns |= {column: column for column in own.also if column not in columns.values()}
    bag = bag.model_copy(update={"size": own.bag_size})
    inputs = [Path(f"data/scores/{own.view}.parquet")]
    with resumable("uplift", [own.model_dump(), asked.model_dump(), bag.model_dump()], inputs) as folder:
        rows = []
        for audit in audits_of(own.view, population, own.seeds):
            for learner in own.learners:
                named = bag.model_copy(update={"learner": learner})
                rows += of_learner(audit, columns, named, asked, folder / f"{audit.seed}-{learner}")
        table = with_means(pd.DataFrame(rows)[[*SETTING, "seed", *POWER, *GAINS]], SETTING, asked.confidence)
        write_csv(Path("metrics/uplift.csv"), table)
        write_bytes(Path("metrics/figures/uplift.png"), draw(table, asked.fpr))


def of_learner(
    audit: Audit, columns: dict[str, str], bag: BagOptions, asked: Measure, folder: Path
) -> list[dict[str, Any]]:
    """A row a score: what a learner's thresholds reach, and what they gain over one for all."""
    fitted = fit_bag(audit.roles, list(columns.values()), bag, folder, f"{bag.learner}, seed {audit.seed}")
    rows = []
    for place, (score, column) in enumerate(columns.items()):
        membership_score = fitted.judge(place).membership_score
        of_each = membership_score["member"], membership_score["holdout"]
        for_all = -audit.roles["member"].log_scores[column], -audit.roles["holdout"].log_scores[column]
        found = [gain(of_each, for_all, how, asked.confidence, audit.seed) for how in (tpr_at(asked.fpr), area)]
        row = {"score": score, "column": column, "learner": bag.learner, "seed": audit.seed}
        rows.append(row | reached(*of_each, asked) | dict(zip(GAINS, [*found[0], *found[1]], strict=True)))
    return rows


if __name__ == "__main__":
    run(uplift)
