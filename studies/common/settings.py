"""Read studies/params.yaml: strict sections, as in the main pipeline, and registries.

`models` : what is trained.  `views` : how a model is looked at (as it is, rounded, through noise, at other timesteps).
An entry of either overrides the defaults of section `model` (`view`).

Sections `measure` and `bag` and the registry `learners` are the main pipeline's, but for what stands here.  Stage
`prepare` writes what comes out, so that DVC sees a change where there is one, and all else reads it there.
"""

from contextlib import chdir
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt

from leakgauge import config
from leakgauge.config import CONFIG, PARAMS, check_names, read_params, validated
from leakgauge.errors import InputError
from leakgauge.files import write_json
from leakgauge.options import Evaluate, Fit, Learner, Options, Rate

Model = TypeVar("Model", bound=BaseModel)
STUDIES = sorted(path.parent.name for path in Path(__file__).parents[1].glob("*/__main__.py"))
SECTIONS = ("population", "model", "models", "view", "views", "bag", "measure", "learners", *STUDIES)
SHARED = "studies", "shared"  # folder and name of what `prepare` writes, below `CONFIG`


class Measure(Options):
    """Section `measure`: what all studies report."""

    score: str  # the column that studies of one score take
    fpr: Rate  # at which they tell the TPR
    alphas: list[Rate] = Field(min_length=1)  # false-positive rates asked for
    confidence: Rate  # of every interval
    complexity: str  # the image feature that stands for it


class BagOptions(Options):
    """Section `bag`: the attackers of a study that asks for one sort of them."""

    learner: str  # a name in the registry `learners`
    size: PositiveInt
    seed: NonNegativeInt


class Shared(Options):
    """What all studies share."""

    measure: Measure
    bag: BagOptions
    learners: dict[str, Learner]


def section(name: str, model: type[Model]) -> Model:
    """A section as a validated `model`.  Raises InputError naming the key."""
    return validated(model, params(name), lambda _: name)


def entry(registry: str, name: str, defaults: str, model: type[Model]) -> Model:
    """An entry of a registry, over the section of its defaults.  Raises InputError naming the key."""
    entries = params(registry)
    check_names(registry, entries)
    if not isinstance(entries.get(name), dict):
        raise InputError(f"{PARAMS}: {registry}.{name} is not there (there is {', '.join(entries)})")
    own = entries[name]
    return validated(model, {**params(defaults), **own}, lambda key: f"{registry}.{name}" if key in own else defaults)


def params(name: str) -> dict[str, Any]:
    """A section or registry as it stands in the file.  Raises InputError where it is missing."""
    values = read_params(SECTIONS, "studies/").get(name)
    if not isinstance(values, dict):
        raise InputError(f"{PARAMS}: section '{name}' is missing")
    return values


def shared() -> Shared:
    """What all studies share, as `prepare` wrote it.  Raises InputError for a missing or damaged file."""
    return config.section(SHARED[1], Shared, SHARED[0])


def write_shared() -> None:
    """Write what all studies share.  Raises InputError naming the key."""
    of_main, learners = _of_main_pipeline(), params("learners")
    check_names("learners", learners)
    names = {**of_main["learners"], **learners}
    merged = Shared(
        measure=validated(Measure, {**of_main["measure"], **params("measure")}, lambda _: "measure"),
        bag=validated(BagOptions, {**of_main["bag"], **params("bag")}, lambda _: "bag"),
        learners={name: _learner(name, of_main["learners"].get(name, {}), learners.get(name, {})) for name in names},
    )
    write_json(CONFIG.joinpath(*SHARED).with_suffix(".json"), merged.model_dump())


def _learner(name: str, of_main: dict[str, Any], own: Any) -> Learner:
    if not isinstance(own, dict):
        raise InputError(f"{PARAMS}: learners.{name}: holds no options")
    return validated(Learner, {**of_main, **own}, lambda _: f"learners.{name}")


def _of_main_pipeline() -> dict[str, dict[str, Any]]:
    """Options of ../params.yaml that studies take over, by their section and name here."""
    try:
        with chdir(".."):
            evaluate, fit = config.asked("evaluate", Evaluate), config.asked("fit", Fit)
            learners = {name: config.entry("learners", name, Learner).model_dump() for name in config.names("learners")}
    except InputError as error:
        raise InputError(f"../{error}") from None
    measure = {name: getattr(evaluate, name) for name in ("alphas", "confidence", "complexity")}
    return {
        "measure": {"fpr": evaluate.curve_fpr, **measure},
        "bag": {"size": fit.bag_size, "seed": fit.seed},
        "learners": learners,
    }
