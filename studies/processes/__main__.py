"""processes: which timesteps leak under which diffusion process, network and DDIM interval, and how much.

The same members trained every model.  A timestep is another noise level in another process, so leakage is told by the
noise level, sigma_t / alpha_t, at which the t-error is measured.

data/scores/<view>.parquet -> metrics/processes.csv, metrics/figures/processes.png
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import NonNegativeInt

from leakgauge.cli import run
from leakgauge.options import Options
from leakgauge.tables import read_metadata
from studies.common.measurement import by_rule
from studies.common.runner import Row, Study, run_study
from studies.common.views import read_view
from studies.processes.figure import draw


class Processes(Options):
    """Section `processes`."""

    seeds: list[NonNegativeInt]
    views: dict[str, str]  # what a process is called -> view
    intervals: dict[int, str]  # DDIM interval -> view


def processes() -> None:
    """Write metrics/processes.csv and its figure."""
    by = ["experiment", "setting", "interval", "timestep", "noise", "rule"]
    run_study("processes", Processes, rows, {"processes": draw}, by)


def rows(study: Study[Processes]) -> Iterator[Row]:
    """Every timestep of the views of both experiments."""
    for name, view in study.own.views.items():
        yield from of_view(study, "process", name, view)
    for interval, view in study.own.intervals.items():
        yield from of_view(study, "interval", str(interval), view)


def of_view(study: Study[Processes], experiment: str, setting: str, view: str) -> Iterator[Row]:
    """What the t-error of each timestep tells, by both rules, for each seed of a view's model."""
    grid, noise = read_view(view).t_error, read_metadata(Path(f"data/scores/{view}.parquet"))["noise"]
    columns = [f"t_error_t{t}" for t in grid.timesteps]
    for audit in study.audits(view, study.own.seeds):
        fitted = study.fit(audit.roles, columns, f"{view}, seed {audit.seed}")
        for place, (t, column) in enumerate(zip(grid.timesteps, columns, strict=True)):
            of = {"experiment": experiment, "setting": setting, "interval": grid.interval, "timestep": t}
            of["noise"] = noise[column]
            for rule, found in by_rule(audit.roles, column, fitted.judge(place), study.asked).items():
                yield of | {"rule": rule, "seed": audit.seed} | found


if __name__ == "__main__":
    run(processes)
