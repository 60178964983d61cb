"""processes: which timesteps leak under which diffusion process, network and DDIM interval, and how much.

The same members trained every model.  A timestep is another noise level in another process, so leakage is told by the
noise level, sigma_t / alpha_t, at which the t-error is measured.

data/scores/<view>.parquet -> metrics/processes.csv, metrics/figures/processes.png
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import NonNegativeInt

from leakgauge.cli import run
from leakgauge.files import resumable, write_bytes
from leakgauge.options import Options
from studies.charts.processes import draw
from studies.measurement import (
    ONE_FOR_ALL,
    PER_IMAGE,
    POWER,
    BagOptions,
    Measure,
    audits_of,
    fit_bag,
    one_for_all,
    options,
    reached,
    with_means,
    write_csv,
)
from studies.population import read_population
from studies.settings import entry, section
from studies.targets.objectives import Objective
from studies.targets.recipe import Recipe
from studies.views import View

SETTING = ["experiment", "setting", "interval", "timestep", "noise", "rule"]


class Processes(Options):
    """Section `processes`."""

    seeds: list[NonNegativeInt]
    views: dict[str, str]  # what a process is called -> view
    intervals: dict[int, str]  # DDIM interval -> view


def processes() -> None:
    """Write metrics/processes.csv and its figure."""
    asked, bag = options()
    own = section("processes", Processes)
    looked_at = [("process", name, view) for name, view in own.views.items()]
    looked_at += [("interval", str(interval), view) for interval, view in own.intervals.items()]
    inputs = [Path(f"data/scores/{view}.parquet") for _, _, view in looked_at]
    config = [own.model_dump(), asked.model_dump(), bag.model_dump()]
    with resumable("processes", config, inputs) as folder:
        parts = [
            timesteps(view, own.seeds, asked, bag, folder / view).assign(experiment=experiment, setting=name)
            for experiment, name, view in looked_at
        ]
        rows = with_means(pd.concat(parts)[[*SETTING, "seed", *POWER]], SETTING, asked.confidence)
        write_csv(Path("metrics/processes.csv"), rows)
        write_bytes(Path("metrics/figures/processes.png"), draw(rows, asked.fpr))


def timesteps(view: str, seeds: list[int], asked: Measure, bag: BagOptions, folder: Path) -> pd.DataFrame:
    """What the t-error of each timestep tells, by both rules, for each seed of a view's model."""
    shown = entry("views", view, "view", View)
    process = Objective(entry("models", shown.of, "model", Recipe).process).process
    rows = []
    for audit in audits_of(view, read_population(), seeds):
        columns = [f"t_error_t{t}" for t in shown.t_error.timesteps]
        fitted = fit_bag(audit.roles, columns, bag, folder / str(audit.seed), f"{view}, seed {audit.seed}")
        for place, (t, column) in enumerate(zip(shown.t_error.timesteps, columns, strict=True)):
            noise = (process.sigma[t] / process.alpha[t]).item()
            of: dict[str, Any] = {"seed": audit.seed, "interval": shown.t_error.interval, "timestep": t, "noise": noise}
            membership_score = fitted.judge(place).membership_score
            conditional = reached(membership_score["member"], membership_score["holdout"], asked)
            rows.append(of | {"rule": ONE_FOR_ALL} | one_for_all(audit.roles, column, asked))
            rows.append(of | {"rule": PER_IMAGE} | conditional)
    assert np.isfinite([row["noise"] for row in rows]).all()
    return pd.DataFrame(rows)


if __name__ == "__main__":
    run(processes)
