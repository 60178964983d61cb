"""exposure: who leaks.  The members that are found, by complexity, class and nearest neighbour.

All seeds' members together, each judged under its own model: by one threshold for all images and by one for each, both
at the FPR asked for over all of the model's holdout.

data/scores/<view>.parquet -> metrics/exposure.csv, metrics/exposure_correlations.csv, metrics/figures/exposure.png,
metrics/exposed/exposure.png (shows members, so for DVC's cache, not git)
"""

import pandas as pd
from pydantic import NonNegativeInt, PositiveInt

from leakgauge.cli import run
from leakgauge.files import write_bytes
from leakgauge.options import Options
from studies.common.runner import METRICS, Study, running, write_csv
from studies.exposure.figure import draw, draw_extremes
from studies.exposure.members import by_group, correlations, describe_members


class Exposure(Options):
    """Section `exposure`."""

    view: str
    seeds: list[NonNegativeInt]
    groups: PositiveInt  # of equally many members
    shown: PositiveInt  # members in the grid, of the most and of the least exposed


def exposure() -> None:
    """Write metrics/exposure.csv, the correlations and both figures."""
    with running("exposure", Exposure) as study:
        own, asked, members = study.own, study.asked, all_members(study)
        table = by_group(members, own.groups, asked.confidence)
        write_csv("exposure", table)
        write_csv("exposure_correlations", correlations(members, asked.confidence))
        write_bytes(METRICS / "figures/exposure.png", draw(table, asked.fpr, asked.complexity))
        first = members[members["seed"] == own.seeds[0]]
        write_bytes(METRICS / "exposed/exposure.png", draw_extremes(first, study.population.pixels, own.shown))


def all_members(study: Study[Exposure]) -> pd.DataFrame:
    """A row a member of any seed's model, as `describe_members` has them."""
    parts = []
    for audit in study.audits(study.own.view, study.own.seeds):
        result = study.fit(audit.roles, [study.asked.score], f"seed {audit.seed}").judge()
        parts.append(describe_members(audit, result, study.population, study.asked))
    return pd.concat(parts, ignore_index=True)


if __name__ == "__main__":
    run(exposure)
