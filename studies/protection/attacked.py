"""A defended model attacked, thrice."""

from pathlib import Path
from typing import Any

from studies.measurement import (
    ONE_FOR_ALL,
    PER_IMAGE,
    BagOptions,
    Measure,
    fit_bag,
    fused,
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
    margins = {
        ONE_FOR_ALL: {role: -roles[role].log_scores[asked.score] for role in ("member", "holdout")},
        PER_IMAGE: fitted.judge().margin,
        SEVERAL: fused(fitted).margin,
    }
    return [
        {"rule": rule} | reached(margin["member"][setting.members], margin["holdout"], asked)
        for rule, margin in margins.items()
    ]
