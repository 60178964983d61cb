"""Which defended models there are."""

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import NonNegativeInt

from leakgauge.options import Options
from studies.measurement import Audit, audits_of
from studies.population import Population
from studies.settings import entry
from studies.targets.recipe import Recipe
from studies.views import View

NONE, EARLY, DUPLICATES = "none", "early stopping", "duplicates kept"


class Defences(Options):
    """Section `defences`."""

    seeds: list[NonNegativeInt]
    fusion: list[str]  # score columns of the attacker that has several
    reference: str  # a view of the model without a defence
    early_stopping: str  # a view of a model's snapshots: what an earlier stop would have left
    repeated: str  # a view of the model with duplicates: what de-duplication does away with
    defences: dict[str, dict[str, str]]  # defence -> strength -> view

    @property
    def views(self) -> list[str]:
        """All that are looked at, each once."""
        others = [view for views in self.defences.values() for view in views.values()]
        return list(dict.fromkeys([self.reference, self.early_stopping, self.repeated, *others]))


class Setting(NamedTuple):
    """One defended model.  members : which of its members count, a slice of their rows."""

    defence: str
    strength: str
    view: str
    audit: Audit
    members: slice


def settings(own: Defences, population: Population) -> Iterator[Setting]:
    """Every model, the undefended one first."""
    all_rows = slice(None)
    for audit in audits_of(own.reference, population, own.seeds):
        yield Setting(NONE, "", own.reference, audit, all_rows)
    steps = recipe_of(own.reference).steps
    for audit in audits_of(own.early_stopping, population, own.seeds, last_only=False):
        if audit.step < steps:
            yield Setting(EARLY, f"{audit.step} steps", own.early_stopping, audit, all_rows)
    repeats, members = recipe_of(own.repeated).repeats, recipe_of(own.repeated).shares.member
    copied = round(repeats.share * members)
    for audit in audits_of(own.repeated, population, own.seeds):
        yield Setting(DUPLICATES, f"{repeats.times} copies", own.repeated, audit, slice(0, copied))
        yield Setting(DUPLICATES, "1 copy", own.repeated, audit, slice(copied, None))
    for defence, views in own.defences.items():
        for strength, view in views.items():
            for audit in audits_of(view, population, own.seeds):
                yield Setting(defence, strength, view, audit, all_rows)


def recipe_of(view: str) -> Recipe:
    """How the model of a view is trained."""
    return entry("models", entry("views", view, "view", View).of, "model", Recipe)
