"""How a model is looked at: what an attacker is shown of it, and which scores are taken."""

from pydantic import Field, NonNegativeInt, PositiveInt

from leakgauge.config import PARAMS
from leakgauge.errors import InputError
from leakgauge.options import Attacks
from studies.common.settings import entry
from studies.targets.recipe import Recipe, Target, read_model, read_recipe, targets_of


class View(Attacks):
    """An entry of the registry `views`, over section `view`: what is shown of a model, and the scores taken."""

    of: str  # a name in the registry `models`
    last_only: bool = True  # of its snapshots
    bits: PositiveInt | None = None  # weights are rounded to so many bits; None: as they are
    noise: float = Field(0.0, ge=0)  # deviation of what is added to every prediction that leaves the model
    samples: NonNegativeInt = 0  # images drawn from each model


def read_view(name: str) -> View:
    """An entry of the registry `views`.  Raises InputError."""
    return entry("views", name, "view", View)


def recipe_of(view: str) -> Recipe:
    """How the model of a view is trained.  Raises InputError."""
    return read_recipe(read_view(view).of)


def model_of(view: str, seed: int) -> Target:
    """The last of the models that a seed made.  Raises InputError where there is none."""
    of = read_view(view).of
    for target in targets_of(of, read_model(of), last_only=True):
        if target.seed == seed:
            return target
    raise InputError(f"{PARAMS}: views.{view}: its model has no seed {seed}")
