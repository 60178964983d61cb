"""Read params.yaml: defaults, sections laid over them, and a target's own overrides over these.

Stage `config` validates all of it and writes what each stage reads into data/config/<target>/<section>.json, so that
DVC sees a change where there is one and nowhere else.  `asked` reads params.yaml, `section` what `config` wrote.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from leakgauge.cli import NAME, NAME_RULE, read_yaml
from leakgauge.errors import InputError
from leakgauge.options import SECTIONS, Ceiling, Evaluate, Kind, Levels, RoleLeaks, Source, Suspects, Target

PARAMS = Path("params.yaml")
CONFIG = Path("data/config")
REGISTRIES = ("datasets", "targets", "suspects", "learners")
RECIPES: dict[str, Kind] = {"training.py": "train", "pipelines.py": "hub"}  # of leakgauge/diffusion
ADAPTERS = (  # files of a folder that is one
    *("adapter_config.json", "unet/adapter_config.json", "transformer/adapter_config.json"),
    *("text_encoder*/adapter_config.json", "pytorch_lora_weights.safetensors", "learned_embeds.safetensors"),
)
NO_MODEL = (
    "neither a diffusers pipeline (model_index.json), nor an adapter (.safetensors, adapter_config.json), nor a "
    "pytorch-ddpm checkpoint (flagfile.txt), nor a file of scores (.parquet, .csv)"
)
PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin")
PICKLED = (
    "is a pickle, which is not opened, for that runs what is in it: convert its weights to safetensors; docs/guides/"
    "models.md says what they go with: a model.py (examples/ has those for other training codes), or a base"
)
Model = TypeVar("Model", bound=BaseModel)


def section(name: str, model: type[Model], target: str) -> Model:
    """Section `name` of a target, as stage `config` wrote it.  Raises InputError for a missing or damaged file."""
    path = CONFIG / target / f"{name}.json"
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found: run `dvc repro` to make it") from None
    except ValueError:
        raise InputError(f"{path}: not what `config` wrote: run `dvc repro` to make it") from None


def asked(name: str, model: type[Model], target: str | None = None) -> Model:
    """Section `name` of params.yaml, overridden by `targets.<target>.<name>`, as a validated `model`.

    Raises InputError naming the key.
    """
    values = _read().get(name) or {}
    if not isinstance(values, Mapping):
        raise InputError(f"{PARAMS}: section '{name}' holds no options")
    merged = _merged(values, _overrides(target, name)) if target else values
    return validated(model, merged, lambda key: key_name(name, key, target).removesuffix(f".{key}"))


def _overrides(target: str, name: str) -> dict[str, Any]:
    """What a target's entry says of a section; `members` is short for an option of `split`."""
    own = target_entry(target)
    short = {"member": own.members} if name == "split" and own.members is not None else {}
    return {**short, **getattr(own, name, {})}


def _merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings within mappings are merged, anything else is replaced."""
    both = {
        key: _merged(values[key], value)
        if isinstance(values.get(key), Mapping) and isinstance(value, Mapping)
        else value
        for key, value in over.items()
    }
    return {**values, **both}


def key_name(name: str, key: str, target: str | None = None) -> str:
    """Where option `key` of section `name` stands in the file: with the target if it overrides it."""
    if not target or key not in _overrides(target, name):
        return f"{name}.{key}"
    return (
        f"targets.{target}.{name}.{key}" if key in getattr(target_entry(target), name) else f"targets.{target}.members"
    )


def target_entry(name: str) -> Target:
    """The entry `name` of the registry `targets`.  Raises InputError."""
    return entry("targets", name, Target)


def source_of(target: str) -> Source:
    """Where a target comes from, as stage `config` wrote it.  Raises InputError."""
    return section("source", Source, target)


def role_leaks(target: str) -> RoleLeaks:
    """What stage `check` wrote.  Raises InputError for a missing or damaged file."""
    path = Path(f"data/checks/{target}.json")
    try:
        return RoleLeaks.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise InputError(f"{path}: not there, or not what `check` wrote: run `dvc repro` to make it") from None


def suspects_entry(name: str) -> Suspects:
    """The entry `name` of the registry `suspects`.  Raises InputError."""
    return entry("suspects", name, Suspects)


def entry(registry: str, name: str, model: type[Model]) -> Model:
    """The entry `name` of a registry as a validated `model`.  Raises InputError naming the key."""
    entries = _read().get(registry)
    if not isinstance(entries, Mapping) or not isinstance(entries.get(name), Mapping):
        known = ", ".join(entries) if isinstance(entries, Mapping) and entries else "nothing"
        raise InputError(f"{PARAMS}: {registry}.{name} is not there (there is {known})")
    return validated(model, entries[name], lambda _: f"{registry}.{name}")


def kind_of(model: Path) -> Kind | None:
    """What kind of target a path looks like, by its names; None where that is none."""
    if model.name in RECIPES:
        return RECIPES[model.name]
    if model.suffix in (".parquet", ".csv"):
        return "scores"
    if (model / "model_index.json").is_file():
        return "path"
    if (model / "flagfile.txt").is_file():
        return "pytorch_ddpm"
    is_adapter = model.suffix == ".safetensors" or any(any(model.glob(pattern)) for pattern in ADAPTERS)
    return "adapter" if is_adapter else None


def is_pickle(model: Path) -> bool:
    """Whether a path is a checkpoint as `torch.save` or `pickle` write it, by its name."""
    return model.suffix in PICKLES and not model.is_dir()


def models_in(folder: Path) -> list[Path]:
    """The models in a folder that is none itself, in the order of the numbers in their names; else nothing."""
    if not folder.is_dir() or kind_of(folder) is not None:
        return []
    there = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted((path for path in there if kind_of(path) in ("path", "adapter")), key=_in_order)


def _in_order(path: Path) -> list[int | str]:
    """Its name, split into texts and numbers; a text comes first."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def no_model(path: Path) -> str:
    """A sentence on a path that looks like no target: what it lacks, or which models lie in it."""
    if inner := [model.name for model in models_in(path)]:
        few = f"{', '.join(inner[:3])}{', ...' * (len(inner) > 3)}"
        return (
            f"is none itself, but holds {len(inner)} ({few}): name one of them, or have "
            f"`leakgauge audit {path} IMAGES` audit each of them, as a curve"
        )
    return PICKLED if is_pickle(path) else NO_MODEL


def names(registry: str) -> list[str]:
    """The names in a registry, in the order of the file."""
    return list(_read().get(registry) or {})


def read_params(known: tuple[str, ...], where: str) -> dict[str, Any]:
    """params.yaml as plain data, read as DVC reads it (YAML 1.2: `1e-3` is a number).

    known : the sections that there may be.  where : to run from.  Raises InputError.
    """
    params = read_yaml(PARAMS, where)
    for key in params:
        if key not in known:
            raise InputError(f"{PARAMS}: unknown section '{key}'{_suggestion(key, known)}")
    return params


def _read() -> dict[str, Any]:
    """params.yaml, its registries' names checked."""
    params = read_params((*REGISTRIES, *SECTIONS), "the repository's root")
    for registry in REGISTRIES:
        check_names(registry, params.get(registry) or {})
    for name in params.get("learners") or {}:
        if name.endswith("_fusion") or name == "stack":
            what = "the stack of learners is" if name == "stack" else "the fused scores of a learner are"
            raise InputError(f"{PARAMS}: learners.{name}: {what} called so: rename it")
    return params


def check_names(registry: str, entries: Iterable[Any]) -> None:
    """Names become parts of paths and of DVC's stage names.  Raises InputError at one that does not do for that."""
    seen: set[str] = set()
    for name in entries:
        where = f"{PARAMS}: {registry}.{_as_yaml(name)}"
        if not isinstance(name, str):
            raise InputError(f"{where}: YAML reads this name as {type(name).__name__}, not as text: {NAME_RULE}")
        if not NAME.fullmatch(name):
            raise InputError(f"{where}: {NAME_RULE}: rename it")
        if name.casefold() in seen:
            raise InputError(f"{where}: only capitals tell it from another name, and not on every disk: rename it")
        seen.add(name.casefold())


def _as_yaml(name: Any) -> str:
    return "null" if name is None else str(name).lower() if isinstance(name, bool) else f"{name}"


def validated(model: type[Model], values: Mapping[str, Any], place: Callable[[str], str]) -> Model:
    """`values` as a `model`.  place : first key of a faulty value -> where in the file it stands.

    Raises InputError naming the key.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        path = _keys(values, first["loc"], first["type"] == "missing")
        key = ".".join([place(path[0] if path else ""), *path])
        if first["type"] == "extra_forbidden":
            known = tuple(model.model_fields) if len(path) == 1 else ()
            raise InputError(f"{PARAMS}: {key}: unknown key{_suggestion(path[-1], known)}") from None
        if first["type"] == "missing":
            raise InputError(f"{PARAMS}: {key}: missing") from None
        found = "" if isinstance(first["input"], Mapping) else f", found {first['input']!r}"
        raise InputError(f"{PARAMS}: {key}: {first['msg']}{found}") from None


def _keys(values: Any, location: tuple[int | str, ...], missing: bool) -> list[str]:
    """The keys on the way to a fault; pydantic also names the branch of a union, which is no key of the file."""
    keys = []
    for depth, part in enumerate(location):
        there = part in values if isinstance(values, Mapping) else isinstance(part, int)
        if there or (missing and depth == len(location) - 1):
            keys.append(str(part))
        if there:
            values = values[part]
    return keys


def _suggestion(key: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(str(key), known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def chosen_score(target: str, columns: list[str], options: Evaluate) -> str | None:
    """The score that `evaluate.score` names; None: it is to be chosen.  columns : those that were learnt.

    Raises InputError for one that was not learnt, or where a choice has no images to rest on.
    """
    key = key_name("evaluate", "score", target)
    if options.score == "selected":
        if not options.selection:
            share = key_name("evaluate", "selection", target)
            raise InputError(f"{PARAMS}: {key}: selected, but nothing can be: {share} must be above 0")
        return None
    if options.score is not None and options.score not in columns:
        raise InputError(f"{PARAMS}: {key}: {options.score} was not learnt; fit.scores are {', '.join(columns)}")
    return options.score or columns[0]


def check_levels(target: str, levels: Levels, auxiliary: int, of: str = "images") -> None:
    """Raises InputError for an alpha that no p-value can reach.  auxiliary : how many images there are, or units."""
    calibrating = levels.calibration or auxiliary
    for key, alphas in (("alphas", levels.alphas), ("curve_fpr", [levels.curve_fpr])):
        if (calibrating + 1) * min(alphas) < 1 - 1e-9:
            raise InputError(
                f"{PARAMS}: {key_name('evaluate', key, target)}: {min(alphas):g} asked for, but {calibrating} "
                f"auxiliary {of} calibrate: the smallest alpha they support is {smallest_alpha(calibrating):g}"
            )


def check_ceilings(target: str, ceilings: Iterable[Ceiling], key: str) -> None:
    """Raises InputError for a ceiling at a rate that `evaluate.alphas` does not ask for.  key : where they stand."""
    alphas = asked("evaluate", Evaluate, target).alphas
    for one in ceilings:
        if one.fpr is not None and not any(math.isclose(one.fpr, alpha) for alpha in alphas):
            raise InputError(
                f"{key}: {one.text}: {key_name('evaluate', 'alphas', target)} has no rate of {100 * one.fpr:g} % "
                f"(it has {', '.join(f'{100 * alpha:g} %' for alpha in alphas)}): add it"
            )


def smallest_alpha(non_members: int) -> float:
    """The lowest level at which a p-value from so many non-members can flag anything, rounded up to three digits."""
    exact = 1 / (non_members + 1)
    digit = 10.0 ** (math.floor(math.log10(exact)) - 2)
    return float(f"{math.ceil(exact / digit - 1e-9) * digit:.3g}")
