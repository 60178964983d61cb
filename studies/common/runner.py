"""A study as it runs: it reads what is asked, keeps unfinished work, writes its table and draws its figures."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd

from leakgauge.bags import BagRunner, Fitted, Named, Scored
from leakgauge.config import PARAMS
from leakgauge.errors import InputError
from leakgauge.files import resumable, write_bytes
from leakgauge.options import Learner, Options
from studies.common.audits import Audit, audits_of
from studies.common.measurement import with_means
from studies.common.population import Population, read_population
from studies.common.settings import BagOptions, Measure, params, section, shared

METRICS, STUDIES = Path("metrics"), Path(__file__).parents[1]
Own = TypeVar("Own", bound=Options)
Row = dict[str, Any]


@dataclass(frozen=True)
class Study(Generic[Own]):
    """What a study is handed."""

    own: Own  # its section of params.yaml
    asked: Measure
    bag: BagOptions
    learners: dict[str, Learner]
    population: Population
    folder: Path  # for unfinished work

    def audits(self, view: str, seeds: list[int], last_only: bool = True) -> list[Audit]:
        """The models of a view that some seeds made.  Raises InputError where a seed is missing."""
        return audits_of(view, self.population, seeds, last_only)

    def learner(self, name: str) -> Named:
        """An entry of the registry `learners`.  Raises InputError."""
        if name not in self.learners:
            raise InputError(f"{PARAMS}: learners.{name} is not there (there is {', '.join(self.learners)})")
        return Named(name, self.learners[name].root)

    def fit(
        self,
        roles: dict[str, Scored],
        columns: list[str],
        what: str,
        learner: Named | None = None,
        size: int | None = None,
    ) -> Fitted:
        """A bag that learns some score columns of the auxiliary images.

        what : tells these roles from all others of the study: of unfinished work, and beside the progress bar.
        learner, size : other than section `bag` has them.
        """
        learner, size = learner or self.learner(self.bag.learner), size or self.bag.size
        rows = np.arange(len(roles["auxiliary"]))
        runner = BagRunner(roles, self.bag.seed, self.folder / what)
        return runner.fit(learner, size, columns, rows, f"{what}, {learner.name}")


@contextmanager
def running(name: str, options: type[Own]) -> Iterator[Study[Own]]:
    """A study with all that it reads.  Its unfinished work is kept until the block ends well.  Raises InputError."""
    own, settings = section(name, options), shared()
    named = set(strings(own.model_dump()))
    inputs = [Path(f"data/scores/{view}.parquet") for view in params("views") if view in named]
    models = [Path(f"models/{model}") for model in params("models") if model in named]
    inputs += [*filter(Path.exists, models), STUDIES / name, STUDIES / "common", STUDIES / "targets"]
    with resumable(name, [own.model_dump(), settings.model_dump()], inputs) as folder:
        yield Study(own, settings.measure, settings.bag, settings.learners, read_population(), folder)


def run_study(
    name: str,
    options: type[Own],
    rows: Callable[[Study[Own]], Iterable[Row]],
    figures: Mapping[str, Callable[[pd.DataFrame, Measure], bytes]],
    by: list[str] | None = None,
) -> None:
    """Write metrics/<name>.csv and its figures.

    options : of its section.  rows : of its table.  figures : name -> what makes a PNG of that table.  by : the columns
    that make a setting, whose seeds get a mean; None: the table stays as it is.  Raises InputError.
    """
    with running(name, options) as study:
        table = pd.DataFrame(rows(study))
        table = table if by is None else with_means(table, by, study.asked.confidence)
        write_csv(name, table)
        for figure, draw in figures.items():
            write_bytes(METRICS / f"figures/{figure}.png", draw(table, study.asked))


def write_csv(name: str, rows: pd.DataFrame) -> None:
    """A table of results, metrics/<name>.csv: the same bytes for the same rows."""
    write_bytes(METRICS / f"{name}.csv", rows.to_csv(index=False, float_format="%.6g").encode())


def strings(values: object) -> Iterator[str]:
    """All strings among nested values."""
    if isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from strings(value)
    elif isinstance(values, str):
        yield values
