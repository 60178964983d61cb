"""memorisation: leakage against epochs, the number of members and the network's width, beside the denoising gap.

The gap is the training loss on images that were not trained on less that on members: what overfitting means to whoever
trains the model, and never looks at a t-error.

data/scores/<view>.parquet -> metrics/memorisation.csv, metrics/figures/memorisation.png
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pydantic import NonNegativeInt

from leakgauge.cli import run
from leakgauge.files import resumable, write_bytes
from leakgauge.options import Options
from studies.charts.memorisation import draw
from studies.denoising import denoising_loss
from studies.measurement import (
    ONE_FOR_ALL,
    PER_IMAGE,
    POWER,
    Audit,
    audits_of,
    fit_bag,
    one_for_all,
    options,
    reached,
    with_means,
    write_csv,
)
from studies.population import Population, read_population
from studies.settings import entry, section
from studies.targets.recipe import Recipe
from studies.views import View

SETTING = ["experiment", "value", "rule"]
LOSSES = ["member_loss", "holdout_loss"]


class Memorisation(Options):
    """Section `memorisation`."""

    seeds: list[NonNegativeInt]
    epochs: str  # a view of a model's snapshots
    members: dict[int, str]  # members -> view
    width: dict[int, str]  # channels -> view


def memorisation() -> None:
    """Write metrics/memorisation.csv and its figure."""
    asked, bag = options()
    own, population = section("memorisation", Memorisation), read_population()
    views = [own.epochs, *own.members.values(), *own.width.values()]
    inputs = [Path(f"data/scores/{view}.parquet") for view in dict.fromkeys(views)]
    rows = []
    with resumable("memorisation", [own.model_dump(), asked.model_dump(), bag.model_dump()], inputs) as folder:
        for experiment, value, view, audit in settings(own, population):
            losses = {f"{role}_loss": denoising_loss(audit.roles[role]) for role in ("member", "holdout")}
            of = {"experiment": experiment, "value": value, "seed": audit.seed, **losses}
            work = folder / f"{view}-{audit.seed}-{audit.step}"
            what = f"{experiment} {value:g}, seed {audit.seed}"
            membership_score = fit_bag(audit.roles, [asked.score], bag, work, what).judge().membership_score
            rows.append(of | {"rule": ONE_FOR_ALL} | one_for_all(audit.roles, asked.score, asked))
            rows.append(
                of | {"rule": PER_IMAGE} | reached(membership_score["member"], membership_score["holdout"], asked)
            )
        table = pd.DataFrame(rows)[[*SETTING, "seed", *POWER, *LOSSES]]
        table = with_means(table, SETTING, asked.confidence)
        write_csv(Path("metrics/memorisation.csv"), table)
        write_bytes(Path("metrics/figures/memorisation.png"), draw(table, asked.fpr))


def settings(own: Memorisation, population: Population) -> Iterator[tuple[str, float, str, Audit]]:
    """Experiment, value, view and audit of every model; an epoch shows each member once."""
    recipe = entry("models", entry("views", own.epochs, "view", View).of, "model", Recipe)
    for audit in audits_of(own.epochs, population, own.seeds, last_only=False):
        yield "epochs", audit.step * recipe.batch_size / recipe.shares.member, own.epochs, audit
    for experiment, views in (("members", own.members), ("width", own.width)):
        for value, view in views.items():
            for audit in audits_of(view, population, own.seeds):
                yield experiment, value, view, audit


if __name__ == "__main__":
    run(memorisation)
