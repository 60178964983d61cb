"""cost: power against cost, for one target: what an attack catches, and what it takes.

Every attack is judged on the same images, all of the target's members and holdout.  Timesteps are chosen by one
threshold's AUC on the pilot, another model of another draw.  Cost is told by network calls an image (a backward pass
counts as two), by seconds of training on this machine (they differ from run to run), and by the models trained.

data/scores/<view>.parquet, models/{<target>,shadow}/, data/training/shadow.csv -> metrics/cost.csv,
metrics/figures/cost.png
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import NonNegativeInt, PositiveInt

from leakgauge.cli import run
from leakgauge.options import Options
from leakgauge.tables import read_metadata
from studies.common.families import FAMILIES, best_column
from studies.common.measurement import reached
from studies.common.runner import Row, Study, run_study
from studies.common.views import model_of, read_view
from studies.cost.figure import draw
from studies.cost.ladder import Attack, labelled, quantile_bags, single_scores
from studies.cost.shadowed import shadowed


class Cost(Options):
    """Section `cost`."""

    view: str  # of the target
    shadow: str  # a name in the registry `models`: models trained on the target's auxiliary images
    seed: NonNegativeInt  # of the target
    pilot: NonNegativeInt  # another seed, on which timesteps are chosen
    fprs: list[float]  # at which the TPR is told
    timesteps: list[PositiveInt]  # at which GSA takes gradients


def cost() -> None:
    """Write metrics/cost.csv and its figure."""
    run_study("cost", Cost, rows, {"cost": lambda table, _: draw(table)})


def rows(study: Study[Cost]) -> Iterator[Row]:
    """A row an attack and FPR."""
    for attack in attacks(study):
        facts = {name: value for name, value in attack._asdict().items() if name != "membership_score"}
        for fpr in study.own.fprs:
            yield facts | {"fpr": fpr} | reached(attack.membership_score, study.asked, fpr)


def attacks(study: Study[Cost]) -> list[Attack]:
    """Every attack on the target, from the cheapest on."""
    own, shown = study.own, read_view(study.own.view)
    target = model_of(own.view, own.seed)
    (audit,), (pilot,) = (study.audits(own.view, [seed]) for seed in (own.seed, own.pilot))
    chosen = {family: best_column(pilot, prefix, study.asked) for family, prefix in FAMILIES.items()}
    columns = read_metadata(Path(f"data/scores/{own.view}.parquet"))["columns"]
    calls = {column: facts["network_calls"] for column, facts in columns.items()}
    return [
        *single_scores(audit, chosen, calls),
        *quantile_bags(study, audit, chosen, calls),
        *labelled(audit, chosen["SecMI (t-error)"], shown.t_error.interval, target.folder),
        *shadowed(study.population, target, shown.of, own.shadow, own.timesteps, study.folder),
    ]


if __name__ == "__main__":
    run(cost)
