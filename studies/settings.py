"""Read studies/params.yaml: strict sections, as in the main pipeline, and two registries.

`models` : what is trained.  `views` : how a model is looked at (as it is, rounded, through noise, at other timesteps).
An entry overrides the defaults of section `model` (`view`).
"""

from typing import Any, TypeVar

from pydantic import BaseModel

from leakgauge.config import PARAMS, check_names, read_params, validated
from leakgauge.errors import InputError

Model = TypeVar("Model", bound=BaseModel)
STUDIES = ("mismatch", "processes", "memorisation", "defences", "cost", "uplift", "exposure", "beyond")
SECTIONS = ("population", "model", "models", "view", "views", "bag", "measure", "learners", *STUDIES)


def section(name: str, model: type[Model]) -> Model:
    """A section as a validated `model`.  Raises InputError naming the key."""
    return validated(model, _params(name), lambda _: name)


def entry(registry: str, name: str, defaults: str, model: type[Model]) -> Model:
    """An entry of a registry, over the section of its defaults.  Raises InputError naming the key."""
    entries = _params(registry)
    check_names(registry, entries)
    if not isinstance(entries.get(name), dict):
        raise InputError(f"{PARAMS}: {registry}.{name} is not there (there is {', '.join(entries)})")
    own = entries[name]
    return validated(model, {**_params(defaults), **own}, lambda key: f"{registry}.{name}" if key in own else defaults)


def _params(name: str) -> dict[str, Any]:
    values = read_params(SECTIONS, "studies/").get(name)
    if not isinstance(values, dict):
        raise InputError(f"{PARAMS}: section '{name}' is missing")
    return values
