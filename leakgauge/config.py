"""Read params.yaml: strict sections, with a target's overrides laid over the defaults.

`params.yaml` has three registries (`datasets`, `targets`, `learners`) and one section per stage.  A target
may override any option of a section under the section's own name.  Every key is required and none may be
added: the file is the only place where an option's value is written.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from leakgauge.cli import NAME, NAME_RULE, read_yaml
from leakgauge.errors import InputError

PARAMS = Path("params.yaml")
REGISTRIES = ("datasets", "targets", "learners")
SECTIONS = (
    *("split", "train_target", "tune", "score", "select", "fit", "stack"),
    *("evaluate", "infer", "sweep", "guard", "report"),
)


class Options(BaseModel):
    """Base of every options class: no unknown keys, no silent conversions, no changes after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Target(Options):
    """An entry of the `targets` registry: a model under audit, and its overrides of the sections."""

    dataset: str  # a name in the `datasets` registry
    source: Literal["train", "path", "hub", "pytorch_ddpm", "scores"]  # train it here, take it, or only its scores
    path: str  # what the target is made from, for DVC to watch: the recipe that trains it, the folder, the scores' file
    split: dict[str, Any]
    train_target: dict[str, Any]
    tune: dict[str, Any]
    score: dict[str, Any]
    select: dict[str, Any]
    fit: dict[str, Any]
    stack: dict[str, Any]
    evaluate: dict[str, Any]
    infer: dict[str, Any]
    sweep: dict[str, Any]
    guard: dict[str, Any]


Model = TypeVar("Model", bound=BaseModel)


def section(name: str, model: type[Model], target: str | None = None) -> Model:
    """Section `name`, overridden by `targets.<target>.<name>`, as a validated `model`.

    Raises InputError naming the key.
    """
    params = _read()
    values = params.get(name)
    if not isinstance(values, Mapping):
        raise InputError(f"{PARAMS}: section '{name}' is missing")
    overrides = getattr(target_entry(target), name) if target else {}
    return validated(model, {**values, **overrides}, lambda key: key_name(name, key, target).removesuffix(f".{key}"))


def key_name(name: str, key: str, target: str | None = None) -> str:
    """Where option `key` of section `name` stands in the file: with the target if it overrides it."""
    overridden = target and key in getattr(target_entry(target), name)
    return f"targets.{target}.{name}.{key}" if overridden else f"{name}.{key}"


def target_entry(name: str) -> Target:
    """The entry `name` of the `targets` registry.  Raises InputError."""
    return entry("targets", name, Target)


def entry(registry: str, name: str, model: type[Model]) -> Model:
    """The entry `name` of a registry as a validated `model`.  Raises InputError naming the key."""
    entries = _read().get(registry)
    if not isinstance(entries, Mapping) or not isinstance(entries.get(name), Mapping):
        known = ", ".join(entries) if isinstance(entries, Mapping) else "nothing"
        raise InputError(f"{PARAMS}: {registry}.{name} is not there (there is {known})")
    return validated(model, entries[name], lambda _: f"{registry}.{name}")


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
        if name.endswith("_fusion"):
            raise InputError(f"{PARAMS}: learners.{name}: the fused scores of a learner are called so: rename it")
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
