"""Which defended models there are."""

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import NonNegativeInt

from leakgauge.options import Options
from studies.common.audits import Audit
from studies.common.runner import Study
from studies.common.views import recipe_of

NONE, EARLY, DUPLICATES = "none", "early stopping", "duplicates kept"


class Defences(Options):
    """Section `defences`."""

    seeds: list[NonNegativeInt]
    fusion: list[str]  # score columns of the attacker that has several
    reference: str  # a view of the model without a defence
    early_stopping: str  # a view of a model's snapshots: what an earlier stop would have left
    repeated: str  # a view of the model with duplicates: what de-duplication does away with
    defences: dict[str, dict[str, str]]  # defence -> strength -> view


class Setting(NamedTuple):
    """One defended model.  members : which of its members count, a slice of their rows."""

    defence: str
    strength: str
    view: str
    audit: Audit
    members: slice


def settings(study: Study[Defences]) -> Iterator[Setting]:
    """Every model, the undefended one first."""
    own, all_rows = study.own, slice(None)
    for audit in study.audits(own.reference, own.seeds):
        yield Setting(NONE, "", own.reference, audit, all_rows)
    for audit in study.audits(own.early_stopping, own.seeds, last_only=False):
        if audit.step < recipe_of(own.reference).steps:
            yield Setting(EARLY, f"{audit.step} steps", own.early_stopping, audit, all_rows)
    repeats, members = recipe_of(own.repeated).repeats, recipe_of(own.repeated).shares.member
    copied = round(repeats.share * members)
    for audit in study.audits(own.repeated, own.seeds):
        yield Setting(DUPLICATES, f"{repeats.times} copies", own.repeated, audit, slice(0, copied))
        yield Setting(DUPLICATES, "1 copy", own.repeated, audit, slice(copied, None))
    for defence, views in own.defences.items():
        for strength, view in views.items():
            for audit in study.audits(view, own.seeds):
                yield Setting(defence, strength, view, audit, all_rows)
