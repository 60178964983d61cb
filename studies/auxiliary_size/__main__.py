"""auxiliary_size: how many auxiliary images an attack needs.

Bags are fitted, and calibrated out of bag, on random subsets of the auxiliary images, a smaller one part of a larger.

data/scores/<view>.parquet -> metrics/auxiliary_size.csv, metrics/figures/auxiliary_size.png
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from leakgauge.cli import run
from leakgauge.config import PARAMS
from leakgauge.errors import InputError
from leakgauge.inference.conformal import AttackResult, fpr_range
from leakgauge.inference.roc import exact_rate
from leakgauge.options import Options
from leakgauge.quantile.bag import FEWEST_IMAGES
from studies.auxiliary_size.figure import draw
from studies.common.audits import Audit
from studies.common.measurement import reached
from studies.common.runner import Row, Study, run_study
from studies.common.settings import Measure

REALISED = tuple(f"realised_fpr{end}" for end in ("", "_ci_low", "_ci_high", "_expected_low", "_expected_high"))


class AuxiliarySize(Options):
    """Section `auxiliary_size`."""

    view: str
    seeds: list[NonNegativeInt]
    counts: list[PositiveInt | Literal["all"]] = Field(min_length=1)  # images of each subset


def auxiliary_size() -> None:
    """Write metrics/auxiliary_size.csv and its figure."""
    run_study("auxiliary_size", AuxiliarySize, rows, {"auxiliary_size": draw}, by=["learner", "auxiliary"])


def rows(study: Study[AuxiliarySize]) -> Iterator[Row]:
    """Every target and subset: power, loss out of bag, and the FPR that calibrated verdicts realise."""
    for audit in study.audits(study.own.view, study.own.seeds):
        for subset in subsets(study, audit):
            roles = audit.roles | {"auxiliary": audit.roles["auxiliary"][subset]}
            fitted = study.fit(roles, [study.asked.score], f"{len(subset)} auxiliary images, seed {audit.seed}")
            result = fitted.judge()
            of = {"learner": study.bag.learner, "auxiliary": len(subset), "seed": audit.seed}
            found = reached(result.membership_score, study.asked) | {"out_of_bag_loss": fitted.out_of_bag_loss}
            yield of | found | realised(result, study.asked)


def subsets(study: Study[AuxiliarySize], audit: Audit) -> list[np.ndarray]:
    """Rows of auxiliary images, ascending, of each size asked for.  Raises InputError where it cannot be."""
    total = len(audit.roles["auxiliary"])
    counts = sorted({total if count == "all" else count for count in study.own.counts})
    for count in counts:
        if not FEWEST_IMAGES <= count <= total:
            raise InputError(
                f"{PARAMS}: auxiliary_size.counts: {count} images asked for: needs at least {FEWEST_IMAGES} "
                f"and at most the {total} that there are"
            )
    order = np.random.default_rng(study.bag.seed).permutation(total)
    return [np.sort(order[:count]) for count in counts]


def realised(result: AttackResult, asked: Measure) -> dict[str, float]:
    """The FPR of calibrated verdicts at the FPR asked for, and what chance leaves of an exact calibration.

    NaN where too few images calibrate for any p-value to be so low.
    """
    if (result.calibration_size + 1) * asked.fpr < 1 - 1e-9:
        return dict.fromkeys(REALISED, np.nan)
    flagged = result.p_value["holdout"] <= asked.fpr
    rate = exact_rate(int(flagged.sum()), len(flagged), asked.confidence)
    expected = fpr_range(result.calibration_size, rate.total, asked.fpr, asked.confidence)
    return dict(zip(REALISED, (rate.value, rate.low, rate.high, *expected), strict=True))


if __name__ == "__main__":
    run(auxiliary_size)
