"""mismatch: what auxiliary images from another distribution do to the error rates, and what weighting brings back.

Members and holdout stay as they are; auxiliary images are shifted, described and scored anew, then fitted on.  The
blind check is asked first, as `guard` would: do auxiliary images differ from those asked about, whose membership nobody
knows?  Calibration is plain, or weighted by a density ratio that is learnt from the same two sets.

data/scores/<view>.parquet, models/<target>/ -> metrics/mismatch.csv, metrics/figures/mismatch.png
"""

from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveInt

from leakgauge.cli import run
from leakgauge.config import PARAMS
from leakgauge.errors import InputError
from leakgauge.files import resumable, write_bytes
from leakgauge.options import Options
from studies.auxiliary.shifted import blind, judged, only_t_error, shift_auxiliary
from studies.auxiliary.shifts import SHIFTS
from studies.charts.mismatch import draw
from studies.measurement import BagOptions, Measure, audits_of, fit_bag, options, write_csv
from studies.population import read_population
from studies.settings import entry, section
from studies.targets.folders import targets_of
from studies.targets.recipe import Recipe
from studies.views import View, open_view


class Mismatch(Options):
    """Section `mismatch`."""

    view: str  # of the target
    seeds: list[NonNegativeInt]
    learners: list[str]  # names in the registry `learners`
    shifts: dict[str, list[float]]  # name -> strengths, in ascending order, 0 first: none
    permutations: PositiveInt  # of the blind check
    blind_auc: float = Field(ge=0.5, lt=1)  # fires where the interval's lower end is above it, as in `guard`
    blind_p_value: float = Field(gt=0, lt=1)  # and the p-value at most this


def mismatch() -> None:
    """Write metrics/mismatch.csv and its figure."""
    asked, bag = options()
    own = section("mismatch", Mismatch)
    if unknown := set(own.shifts) - set(SHIFTS):
        raise InputError(f"{PARAMS}: mismatch.shifts.{min(unknown)}: unknown; there are {', '.join(SHIFTS)}")
    if not asked.score.startswith("t_error_t"):
        raise InputError(f"{PARAMS}: measure.score: {asked.score}: this study scores shifted images by a t-error")
    inputs = [Path(f"data/scores/{own.view}.parquet"), Path(__file__).parent / "auxiliary"]
    with resumable("mismatch", [own.model_dump(), asked.model_dump(), bag.model_dump()], inputs) as folder:
        table = pd.DataFrame([row for seed in own.seeds for row in of_seed(own, seed, asked, bag, folder)])
        write_csv(Path("metrics/mismatch.csv"), table)
        write_bytes(Path("metrics/figures/mismatch.png"), draw(table))


def of_seed(own: Mismatch, seed: int, asked: Measure, bag: BagOptions, folder: Path) -> list[dict[str, Any]]:
    """The rows of one target: every shift, strength, learner, calibration and alpha."""
    population, shown = read_population(), entry("views", own.view, "view", View)
    (audit,) = audits_of(own.view, population, [seed])
    recipe = entry("models", shown.of, "model", Recipe)
    folders = {model.seed: model.folder for model in targets_of(shown.of, recipe, last_only=True)}
    target = open_view(folders[seed], shown)
    view = only_t_error(shown, int(asked.score.removeprefix("t_error_t")))
    rows = []
    for shift, strengths in own.shifts.items():
        for strength in strengths:
            roles = shift_auxiliary(audit.roles, shift, strength, seed, target, view, population)
            found = blind(roles, asked.confidence, own.permutations, seed)
            fires = found.p_value <= own.blind_p_value and found.low > own.blind_auc
            of = {"shift": shift, "strength": strength, "seed": seed, "auxiliary": len(roles["auxiliary"])}
            of |= {"blind_auc": found.auc, "blind_auc_ci_low": found.low, "blind_auc_ci_high": found.high}
            of |= {"blind_p_value": found.p_value, "warned": fires}
            for learner in own.learners:
                work, named = folder / f"{seed}-{shift}-{strength:g}", bag.model_copy(update={"learner": learner})
                fitted = fit_bag(roles, [asked.score], named, work, f"{shift} {strength:g}, {learner}, seed {seed}")
                rows += [of | {"learner": learner} | row for row in judged(fitted, roles, seed, asked)]
    return rows


if __name__ == "__main__":
    run(mismatch)
