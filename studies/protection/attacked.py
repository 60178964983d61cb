"""A defended model attacked, thrice."""

from pathlib import Path
from typing import Any

from studies.measurement import (
    ONE_FOR_ALL,
    PER_IMAGE,
    BagOptions,
    Measure,
    fit_bag,
    reached,
)
from studies.protection.settings import Setting

SEVERAL = "one for each image, several scores"


def attacked(
    setting: Setting, fusion: list[str], asked: Measure, bag: BagOptions, folder: Path
) -> list[dict[str, Any]]:
    """A row an attacker: `rule`, and the columns of `POWER`.  folder : for unfinished work."""
    roles = setting.audit.roles
    columns = list(dict.fromkeys([asked.score, *fusion]))
    fitted = fit_bag(roles, columns, bag, folder, f"{setting.defence} {setting.strength}, seed {setting.audit.seed}")
    membership_scores = {
        ONE_FOR_ALL: {role: -roles[role].log_scores[asked.score] for role in ("member", "holdout")},
        PER_IMAGE: fitted.judge().membership_score,
        SEVERAL: fitted.fused().membership_score,
    }
    return [
        {"rule": rule} | reached(membership_score["member"][setting.members], membership_score["holdout"], asked)
        for rule, membership_score in membership_scores.items()
    ]
