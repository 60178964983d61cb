"""uplift: what thresholds for each image add to one threshold for all, for every score and learner.

Of each family of scores the timestep is chosen on the pilot seed by one threshold's AUC; a few t-errors stand beside
them as they are.  One bag a learner learns all columns at once.

data/scores/<view>.parquet -> metrics/uplift.csv, metrics/figures/uplift.png
"""

from collections.abc import Iterator

from pydantic import NonNegativeInt

from leakgauge.cli import run
from leakgauge.options import Options
from studies.common.audits import Audit
from studies.common.families import FAMILIES, best_column
from studies.common.measurement import as_they_are, reached
from studies.common.runner import Row, Study, run_study
from studies.uplift.figure import draw
from studies.uplift.paired import area, gain, tpr_at


class Uplift(Options):
    """Section `uplift`."""

    view: str
    seeds: list[NonNegativeInt]
    pilot: NonNegativeInt
    learners: list[str]  # names in the registry `learners`
    also: list[str]  # columns beside the chosen ones


def uplift() -> None:
    """Write metrics/uplift.csv and its figure."""
    run_study("uplift", Uplift, rows, {"uplift": draw}, by=["score", "column", "learner"])


def rows(study: Study[Uplift]) -> Iterator[Row]:
    """What every learner's thresholds gain, by target and score."""
    own = study.own
    (pilot,) = study.audits(own.view, [own.pilot])
    columns = {family: best_column(pilot, prefix, study.asked) for family, prefix in FAMILIES.items()}
    columns |= {column: column for column in own.also if column not in columns.values()}
    for audit in study.audits(own.view, own.seeds):
        for learner in own.learners:
            yield from of_learner(study, audit, columns, learner)


def of_learner(study: Study[Uplift], audit: Audit, columns: dict[str, str], learner: str) -> Iterator[Row]:
    """A row a score: what a learner's thresholds reach, and what they gain over one for all."""
    fitted = study.fit(audit.roles, list(columns.values()), f"seed {audit.seed}", study.learner(learner))
    for place, (score, column) in enumerate(columns.items()):
        of_each, for_all = fitted.judge(place).membership_score, as_they_are(audit.roles, column)
        row = {"score": score, "column": column, "learner": learner, "seed": audit.seed} | reached(of_each, study.asked)
        for name, measure in {"uplift": tpr_at(study.asked.fpr), "auc_uplift": area}.items():
            found = gain(of_each, for_all, measure, study.asked.confidence, audit.seed)
            row |= dict(zip((name, f"{name}_ci_low", f"{name}_ci_high"), found, strict=True))
        yield row


if __name__ == "__main__":
    run(uplift)
