"""memorisation: leakage against epochs, the number of members and the network's width, beside the denoising gap.

The gap is the training loss on images that were not trained on less that on members: what overfitting means to whoever
trains the model, and never looks at a t-error.

data/scores/<view>.parquet -> metrics/memorisation.csv, metrics/figures/memorisation.png
"""

from collections.abc import Iterator

from pydantic import NonNegativeInt

from leakgauge.cli import run
from leakgauge.options import Options
from studies.common.audits import Audit, denoising_loss
from studies.common.measurement import by_rule
from studies.common.runner import Row, Study, run_study
from studies.common.views import recipe_of
from studies.memorisation.figure import draw


class Memorisation(Options):
    """Section `memorisation`."""

    seeds: list[NonNegativeInt]
    epochs: str  # a view of a model's snapshots
    members: dict[int, str]  # members -> view
    width: dict[int, str]  # channels -> view


def memorisation() -> None:
    """Write metrics/memorisation.csv and its figure."""
    run_study("memorisation", Memorisation, rows, {"memorisation": draw}, by=["experiment", "value", "rule"])


def rows(study: Study[Memorisation]) -> Iterator[Row]:
    """Leakage by both rules, and the losses, of every model."""
    score = study.asked.score
    for experiment, value, view, audit in settings(study):
        result = study.fit(audit.roles, [score], f"{view}, seed {audit.seed}, step {audit.step}").judge()
        losses = {f"{role}_loss": denoising_loss(audit.roles[role]) for role in ("member", "holdout")}
        for rule, found in by_rule(audit.roles, score, result, study.asked).items():
            of = {"experiment": experiment, "value": value, "rule": rule, "seed": audit.seed}
            yield of | found | losses


def settings(study: Study[Memorisation]) -> Iterator[tuple[str, float, str, Audit]]:
    """Experiment, value, view and audit of every model; an epoch shows each member once."""
    own, recipe = study.own, recipe_of(study.own.epochs)
    for audit in study.audits(own.epochs, own.seeds, last_only=False):
        yield "epochs", audit.step * recipe.batch_size / recipe.shares.member, own.epochs, audit
    for experiment, views in (("members", own.members), ("width", own.width)):
        for value, view in views.items():
            for audit in study.audits(view, own.seeds):
                yield experiment, value, view, audit


if __name__ == "__main__":
    run(memorisation)
