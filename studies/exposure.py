"""exposure: who leaks.  The members that are found, by complexity, class and nearest neighbour.

All seeds' members together, each judged under its own model: by one threshold for all images and by one for each, both
at the FPR asked for over all of the model's holdout.

data/scores/<view>.parquet -> metrics/exposure.csv, metrics/exposure_correlations.csv, metrics/figures/exposure.png,
metrics/exposed/exposure.png (shows members, so for DVC's cache, not git)
"""

from pathlib import Path

import pandas as pd
from pydantic import NonNegativeInt, PositiveInt

from leakgauge.cli import run
from leakgauge.files import resumable, write_bytes
from leakgauge.options import Options
from studies.charts.exposure import draw, draw_extremes
from studies.measurement import audits_of, fit_bag, options, write_csv
from studies.members import by_group, correlations, describe_members
from studies.population import read_population
from studies.settings import section


class Exposure(Options):
    """Section `exposure`."""

    view: str
    seeds: list[NonNegativeInt]
    complexity: str  # the image statistic that stands for it
    groups: PositiveInt  # of equally many members
    shown: PositiveInt  # members in the grid, of the most and of the least exposed


def exposure() -> None:
    """Write metrics/exposure.csv, the correlations and both figures."""
    asked, bag = options()
    own, population = section("exposure", Exposure), read_population()
    inputs = [Path(f"data/scores/{own.view}.parquet")]
    with resumable("exposure", [own.model_dump(), asked.model_dump(), bag.model_dump()], inputs) as folder:
        parts = []
        for audit in audits_of(own.view, population, own.seeds):
            fitted = fit_bag(audit.roles, [asked.score], bag, folder / str(audit.seed), f"seed {audit.seed}")
            parts.append(describe_members(audit, fitted.judge(), population, own.complexity, asked))
        members = pd.concat(parts, ignore_index=True)
        table = by_group(members, own.groups, asked.confidence)
        write_csv(Path("metrics/exposure.csv"), table)
        write_csv(Path("metrics/exposure_correlations.csv"), correlations(members, asked.confidence))
        write_bytes(Path("metrics/figures/exposure.png"), draw(table, asked.fpr, own.complexity))
        first = members[members["seed"] == own.seeds[0]]
        write_bytes(Path("metrics/exposed/exposure.png"), draw_extremes(first, population.pixels, own.shown))


if __name__ == "__main__":
    run(exposure)
