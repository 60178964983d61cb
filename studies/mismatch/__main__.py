"""mismatch: what auxiliary images from another distribution do to the error rates, and what weighting brings back.

Members and holdout stay as they are; auxiliary images are shifted, described and scored anew, then fitted on.  The
blind check is asked first, as stage `check` would: do auxiliary images differ from those asked about, whose membership
nobody knows?  Calibration is plain, or weighted by a density ratio that is learnt from the same two sets.

data/scores/<view>.parquet, models/<target>/ -> metrics/mismatch.csv, metrics/figures/mismatch.png
"""

from collections.abc import Iterator

from pydantic import Field, NonNegativeInt, PositiveInt

from leakgauge.cli import run
from leakgauge.config import PARAMS
from leakgauge.errors import InputError
from leakgauge.options import Options
from studies.common.audits import Audit
from studies.common.runner import Row, Study, run_study
from studies.common.scoring import open_view
from studies.common.views import model_of, read_view
from studies.mismatch.figure import draw
from studies.mismatch.shifted import blind, judged, only_t_error, shift_auxiliary
from studies.mismatch.shifts import SHIFTS


class Mismatch(Options):
    """Section `mismatch`."""

    view: str  # of the target
    seeds: list[NonNegativeInt]
    learners: list[str]  # names in the registry `learners`
    shifts: dict[str, list[float]]  # name -> strengths, in ascending order, 0 first: none
    permutations: PositiveInt  # of the blind check
    blind_auc: float = Field(ge=0.5, lt=1)  # it warns where the interval's lower end is above it, as in `check`
    blind_p_value: float = Field(gt=0, lt=1)  # and the p-value at most this


def mismatch() -> None:
    """Write metrics/mismatch.csv and its figure."""
    run_study("mismatch", Mismatch, rows, {"mismatch": lambda table, _: draw(table)})


def rows(study: Study[Mismatch]) -> Iterator[Row]:
    """Every target, shift, strength, learner, calibration and alpha.  Raises InputError for what cannot be shifted."""
    own, score = study.own, study.asked.score
    if unknown := set(own.shifts) - set(SHIFTS):
        raise InputError(f"{PARAMS}: mismatch.shifts.{min(unknown)}: unknown; there are {', '.join(SHIFTS)}")
    if not score.startswith("t_error_t"):
        raise InputError(f"{PARAMS}: measure.score: {score}: this study scores shifted images by a t-error")
    for audit in study.audits(own.view, own.seeds):
        yield from of_audit(study, audit)


def of_audit(study: Study[Mismatch], audit: Audit) -> Iterator[Row]:
    """The rows of one target."""
    own, asked, seed, shown = study.own, study.asked, audit.seed, read_view(study.own.view)
    target = open_view(model_of(own.view, seed).folder, shown)
    view = only_t_error(shown, int(asked.score.removeprefix("t_error_t")))
    for shift, strength in [(shift, strength) for shift, strengths in own.shifts.items() for strength in strengths]:
        roles = shift_auxiliary(audit.roles, shift, strength, seed, target, view, study.population)
        found = blind(roles, asked.confidence, own.permutations, seed)
        warned = found.p_value <= own.blind_p_value and found.low > own.blind_auc
        of = {"shift": shift, "strength": strength, "seed": seed, "auxiliary": len(roles["auxiliary"])}
        of |= {"blind_auc": found.auc, "blind_auc_ci_low": found.low, "blind_auc_ci_high": found.high}
        of |= {"blind_p_value": found.p_value, "warned": warned}
        for learner in own.learners:
            what = f"{shift} {strength:g}, seed {seed}"
            fitted = study.fit(roles, [asked.score], what, study.learner(learner))
            yield from (of | {"learner": learner} | row for row in judged(fitted, roles, seed, asked))


if __name__ == "__main__":
    run(mismatch)
