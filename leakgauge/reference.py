"""The options, documented in three places from one source: `python -m leakgauge.reference` writes

- the comments of params.yaml, behind the values that stand there,
- docs/options.md, the reference page,
- docs/params.schema.json, which editors read for completion and warnings.
"""

import io
import json
import textwrap
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from leakgauge.cli import read_yaml
from leakgauge.config import PARAMS
from leakgauge.datasets import Dataset
from leakgauge.files import write_bytes
from leakgauge.options import (
    SECTIONS,
    GBMOptions,
    Learner,
    MarginalOptions,
    MLPOptions,
    Options,
    ResNetOptions,
    Suspects,
    Target,
)

PAGE, SCHEMA = Path("docs/options.md"), Path("docs/params.schema.json")
COLUMN, WIDTH = 33, 118  # where comments begin, and lines end
KINDS: dict[str, type[BaseModel]] = {
    "marginal": MarginalOptions,
    "gbm": GBMOptions,
    "mlp": MLPOptions,
    "resnet": ResNetOptions,
}


def commented(text: str) -> str:
    """params.yaml with the comments of learners and sections as the options have them; values stay.

    text : of the file; what stands before `learners:` is not touched.
    """
    head, _, _ = text.partition("\nlearners:")
    params = YAML(typ="safe", pure=True).load(text)
    lines = [head, "learners:                        # of per-image thresholds"]
    for name, values in params.get("learners", {}).items():
        lines += [f"  {name}:", *_option_lines(values, KINDS[values["kind"]], 4)]
    for name, model in SECTIONS.items():
        if name not in params:
            continue
        lines += ["", *_with_comment(f"{name}:", _sentence(model)), *_option_lines(params[name], model, 2)]
    return "\n".join(lines) + "\n"


def _option_lines(values: dict[str, Any], model: type[BaseModel], indent: int) -> list[str]:
    lines: list[str] = []
    for key, value in values.items():
        inner = _model_of(model.model_fields[key])
        comment = "" if key == "kind" else model.model_fields[key].description or ""
        if inner and isinstance(value, dict) and indent == 2:
            lines += [*_with_comment(f"{' ' * indent}{key}:", comment), *_option_lines(value, inner, indent + 2)]
        else:
            lines += _with_comment(f"{' ' * indent}{key}: {_as_yaml(value)}", comment)
    return lines


def _with_comment(line: str, comment: str) -> list[str]:
    """A line with its comment at `COLUMN`, or behind it, and on lines of its own where it is long."""
    if not comment:
        return [line]
    place = max(COLUMN, len(line) + 1)
    first, *more = (
        textwrap.wrap(comment, WIDTH - place - 2) if place < WIDTH - 40 else textwrap.wrap(comment, WIDTH - COLUMN)
    )
    if place >= WIDTH - 40:
        return [*(f"{' ' * COLUMN}# {part}" for part in (first, *more)), line]
    more = textwrap.wrap(" ".join(more), WIDTH - COLUMN - 2)
    return [f"{line.ljust(place)}# {first}", *(f"{' ' * COLUMN}# {part}" for part in more)]


def _as_yaml(value: Any) -> str:
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.width = True, 10_000
    yaml.dump([value], stream)
    return stream.getvalue().strip()[1:-1].replace("[, ", "[")


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    """The options within an option, if there are any."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _sentence(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def page() -> str:
    """The reference page."""
    lines = [
        "# Options",
        "",
        "Made by `python -m leakgauge.reference` of `leakgauge/options.py`, where every option has its default, its",
        "bounds and its sentence once.  A target's entry overrides any option of a section under the section's name.",
        "Options of datasets stand beside their readers, in `leakgauge/datasets/`.",
        "",
    ]
    registries: dict[str, type[BaseModel]] = {"targets.<name>": Target, "suspects.<name>": Suspects}
    learners = {f"learners.<name> of kind {kind}": model for kind, model in KINDS.items()}
    for name, model in {**registries, **learners, **SECTIONS}.items():
        lines += [f"## `{name}`", "", _sentence(model), "", "| option | default | what it is |", "|---|---|---|"]
        lines += [*_rows(model, ""), ""]
    return "\n".join(lines)


def _rows(model: type[BaseModel], prefix: str) -> list[str]:
    rows = []
    for key, field in model.model_fields.items():
        if inner := _model_of(field):
            rows += _rows(inner, f"{prefix}{key}.")
            continue
        default = "required" if field.is_required() else f"`{_as_yaml(_plain(field.default))}`"
        bounds = ", ".join(_bound(bound) for bound in field.metadata)
        what = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{prefix}{key}` | {default} | {what}{f' ({bounds})' if bounds else ''} |")
    return rows


def _bound(bound: Any) -> str:
    """`Gt(gt=0)` -> `> 0`."""
    signs = {
        "gt": ">",
        "ge": "at least",
        "lt": "<",
        "le": "at most",
        "min_length": "entries, at least",
        "pattern": "like",
    }
    return next(
        (f"{sign} {getattr(bound, name)}" for name, sign in signs.items() if getattr(bound, name, None) is not None), ""
    )


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else value


def schema() -> dict[str, Any]:
    """The JSON schema of params.yaml."""

    class Registries(Options):
        """params.yaml."""

        datasets: dict[str, Dataset]
        targets: dict[str, Target]
        suspects: dict[str, Suspects]
        learners: dict[str, Learner]

    made = Registries.model_json_schema()
    for name, model in SECTIONS.items():
        own = model.model_json_schema()
        made["$defs"] |= own.pop("$defs", {})
        made["properties"][name] = own
    return made


def main() -> None:
    """Write all three."""
    read_yaml(PARAMS, "the repository's root")  # a file that is no YAML is refused by name
    write_bytes(PARAMS, commented(PARAMS.read_text(encoding="utf-8")).encode())
    write_bytes(PAGE, page().encode())
    write_bytes(SCHEMA, (json.dumps(schema(), indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
