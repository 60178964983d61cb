"""Section `guard`, which two stages read: `check`, before anything is scored, and `guard`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeInt, PositiveFloat

from leakgauge.config import Options

COMPARISONS = {  # role -> those that it must look like
    "member": ("auxiliary", "holdout"),
    "auxiliary": ("holdout",),
    "suspect": ("auxiliary", "holdout"),
}
CONFIDENCE = 0.95  # of every interval that is shown


@dataclass(frozen=True)
class Plan:
    """How the tests of a target are made."""

    level: float  # at which each fires
    seed: int

    @property
    def permutations(self) -> int:
        """So many that the least p-value is below the level."""
        return math.ceil(1 / self.level)


class Guard(Options):
    """Section `guard`."""

    seed: NonNegativeInt  # of folds, permutations and untrained networks
    false_alarm: float = Field(ge=0.005, lt=1)  # probability that any guard fires where roles were drawn at random
    blind_auc: float = Field(ge=0.5, lt=1)  # the interval's lower end above which sets count as different
    hash_distance: int = Field(ge=0, le=64)  # bits of a near-duplicate's hash that may differ
    pixel_rmse: PositiveFloat  # and its pixels, as a multiple of what is typical of non-members

    def plan(self, tables: Mapping[str, pa.Table]) -> Plan:
        """`false_alarm` shared out (Bonferroni) over the tests that a target can have.  tables : images by role.

        Of each comparison a blind check, labels, captions if there are any, and the null check; of members and of
        suspects near-duplicates among auxiliary and among holdout images.
        """
        captions = any("caption" in table.column_names for table in tables.values())
        near = 2 * len({"member", "suspect"} & tables.keys())
        return Plan(self.false_alarm / (len(COMPARISONS.keys() & tables.keys()) * (3 + captions) + near), self.seed)


def comparisons(values: Mapping[str, Sequence[Any] | np.ndarray]) -> Iterator[tuple[str, Any, list[Any]]]:
    """A role, the values of its images, and those of the images that it must look like, role after role."""
    for role, others in COMPARISONS.items():
        if len(values.get(role, ())):
            yield role, values[role], [value for other in others for value in values[other]]
