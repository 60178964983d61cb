"""What is compared with what, at which level."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from leakgauge.options import Check

COMPARISONS = {  # role -> those that it must look like
    "member": ("auxiliary", "holdout"),
    "auxiliary": ("holdout",),
    "suspect": ("auxiliary", "holdout"),
}
NEAR = ("auxiliary", "holdout")  # where near-duplicates of members and of suspects are looked for
REFERENCE = "reference"  # where those of every role are, if a reference was trained: its scores would tell the role
CONFIDENCE = 0.95  # of every interval that is shown


def findings_of(roles: Sequence[str], captions: bool, reference: bool = False) -> list[str]:
    """All tests that there can be of some roles, by the names of their findings.

    captions : whether any image has one.  reference : whether there are images that a reference is trained on.

    Every test is here: the chance of a false alarm is shared out over these.
    """
    kinds = ("blind", "label_role", "null_check", *(["caption_role"] if captions else []))
    near = [f"{role}_near_{among}" for role in roles if role in ("member", "suspect") for among in NEAR]
    near += [f"{role}_near_{REFERENCE}" for role in roles if reference]
    return [f"{kind}_{role}" for kind in kinds for role in roles] + near


@dataclass(frozen=True)
class Plan:
    """How the tests of a target, or of a set of suspects, are made."""

    roles: tuple[str, ...]  # that are compared with others
    level: float  # at which each test fails
    seed: int

    @classmethod
    def of(cls, options: Check, roles: Sequence[str], captions: bool, reference: bool = False) -> Self:
        """`false_alarm` shared out (Bonferroni) over `findings_of` these roles."""
        return cls(tuple(roles), options.false_alarm / len(findings_of(roles, captions, reference)), options.seed)

    @property
    def permutations(self) -> int:
        """So many that the least p-value is below the level."""
        return math.ceil(1 / self.level)

    def comparisons(self, values: Mapping[str, Sequence[Any] | np.ndarray]) -> Iterator[tuple[str, Any, list[Any]]]:
        """A role, the values of its images, and those of the images that it must look like, role after role."""
        for role in self.roles:
            if len(values.get(role, ())):
                yield role, values[role], [value for other in COMPARISONS[role] for value in values[other]]
