"""cost: power against cost, for one target: what an attack catches, and what it takes.

Every attack is judged on the same images, all of the target's members and holdout.  Timesteps are chosen by one
threshold's AUC on the pilot, another model of another draw.  Cost is told by network calls an image (a backward pass
counts as two), by seconds of training on this machine (they differ from run to run), and by the models trained.

data/scores/<view>.parquet, models/{<target>,shadow}/, data/training/shadow.csv -> metrics/cost.csv,
metrics/figures/cost.png
"""

from pathlib import Path

import pandas as pd
from pydantic import NonNegativeInt, PositiveInt

from leakgauge.cli import run
from leakgauge.files import resumable, write_bytes
from leakgauge.options import Options
from leakgauge.tables import read_metadata
from studies.attacks.ladder import COLUMNS, Attack, labelled, quantile_bags, single_scores
from studies.attacks.shadowed import shadowed
from studies.charts.cost import draw
from studies.families import FAMILIES, best_column
from studies.measurement import Measure, audits_of, options, reached, write_csv
from studies.population import read_population
from studies.settings import entry, section
from studies.targets.folders import targets_of
from studies.targets.recipe import Recipe
from studies.views import View


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
    asked, bag = options()
    own, population = section("cost", Cost), read_population()
    scores, shown = Path(f"data/scores/{own.view}.parquet"), entry("views", own.view, "view", View)
    recipe, of_shadow = (entry("models", name, "model", Recipe) for name in (shown.of, own.shadow))
    target = next(model for model in targets_of(shown.of, recipe, last_only=True) if model.seed == own.seed)
    (audit,), (pilot,) = (audits_of(own.view, population, [seed]) for seed in (own.seed, own.pilot))
    chosen = {family: best_column(pilot, prefix, asked) for family, prefix in FAMILIES.items()}
    calls = {column: facts["network_calls"] for column, facts in read_metadata(scores)["columns"].items()}
    inputs = [scores, Path(f"models/{own.shadow}"), Path(__file__).parent / "attacks"]
    with resumable("cost", [own.model_dump(), asked.model_dump(), bag.model_dump()], inputs) as folder:
        attacks = single_scores(audit, chosen, calls)
        attacks += quantile_bags(audit, chosen, calls, bag, folder)
        attacks += labelled(audit, chosen["SecMI (t-error)"], shown.t_error.interval, target.folder)
        attacks += shadowed(target, recipe, own.shadow, of_shadow, own.timesteps, folder)
    rows = [row for attack in attacks for row in measured(attack, own.fprs, asked)]
    table = pd.DataFrame(rows)
    write_csv(Path("metrics/cost.csv"), table)
    write_bytes(Path("metrics/figures/cost.png"), draw(table))


def measured(attack: Attack, fprs: list[float], asked: Measure) -> list[dict]:
    """A row an FPR."""
    facts = dict(zip(COLUMNS, attack[: len(COLUMNS)], strict=True))
    member, holdout = attack.membership_score["member"], attack.membership_score["holdout"]
    return [facts | {"fpr": fpr} | reached(member, holdout, asked, fpr) for fpr in fprs]


if __name__ == "__main__":
    run(cost)
