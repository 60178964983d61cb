"""What is documented from the code: `python -m leakgauge.reference` writes

- the comments of params.yaml, behind the values that stand there,
- docs/reference/options.md, command-line.md and python.md,
- docs/params.schema.json, which editors read for completion and warnings.
"""

import argparse
import ast
import copy
import io
import json
import os
import textwrap
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from leakgauge.cli import read_yaml
from leakgauge.commands import parser
from leakgauge.config import PARAMS
from leakgauge.datasets import Dataset
from leakgauge.files import write_bytes
from leakgauge.options import (
    SECTIONS,
    GBMOptions,
    Learner,
    LinearOptions,
    MarginalOptions,
    MLPOptions,
    Options,
    ResNetOptions,
    Suspects,
    Target,
)

PAGES, SCHEMA = Path("docs/reference"), Path("docs/params.schema.json")
PUBLIC = {  # of the library: module -> what of it is for notebooks
    "leakgauge/diffusion/denoiser.py": ("Denoiser",),
    "leakgauge/attacks/t_error.py": ("t_errors",),
    "leakgauge/features/__init__.py": ("image_features",),
    "leakgauge/bags.py": ("QuantileBag",),
    "leakgauge/inference/metrics.py": ("membership_metrics",),
    "leakgauge/quantile/inputs.py": ("Inputs",),
    "leakgauge/attacks/rediffuse.py": ("rediffuse",),
    "leakgauge/tables.py": ("read_table", "decode_images", "read_features", "log_scores"),
}
COLUMN, WIDTH = 33, 118  # where comments begin, and lines end
KINDS: dict[str, type[BaseModel]] = {
    "marginal": MarginalOptions,
    "linear": LinearOptions,
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


def options_page() -> str:
    """Every option."""
    lines = [
        "# Options",
        "",
        "Made by `python -m leakgauge.reference` of `leakgauge/options.py`, where every option has its default, its",
        "bounds and its sentence once.  A target's entry overrides any option of a section under the section's name.",
        "Options of datasets stand beside their readers, in `leakgauge/datasets/`; see the",
        "[guide](../guides/datasets.md).",
        "Editors that know `yaml-language-server` complete them, by `docs/params.schema.json`.",
        "",
    ]
    registries: dict[str, type[BaseModel]] = {"targets.<name>": Target, "suspects.<name>": Suspects}
    learners = {f"learners.<name> of kind {kind}": model for kind, model in KINDS.items()}
    for name, model in {**registries, **learners, **SECTIONS}.items():
        lines += [f"## `{name}`", "", _sentence(model), "", "| option | default | what it is |", "|---|---|---|"]
        lines += [*_rows(model, ""), ""]
    return "\n".join(lines)


def command_line_page() -> str:
    """The help of every command, and what every stage reads and writes."""
    lines = ["# Command line", "", "Made by `python -m leakgauge.reference` of the programs' own help.", ""]
    for command, text in helps().items():
        lines += [f"## `{command}`", "", "```text", text.rstrip(), "```", ""]
    lines += ["## Stages", "", "Programs that DVC runs, one a stage; each has `--help` and `--debug`.", ""]
    for path in sorted(Path("stages").glob("[a-z]*.py")):
        text = ast.get_docstring(_tree(path)) or ""
        lines += [f"### `python -m stages.{path.stem}`", "", "```text", text, "```", ""]
    return "\n".join(lines)


def helps() -> dict[str, str]:
    """Command -> its help, as it is printed 100 columns wide."""
    os.environ["COLUMNS"] = "100"
    return _helps("leakgauge", parser())


def _helps(command: str, of: argparse.ArgumentParser) -> dict[str, str]:
    """Of a command, and of those that it has."""
    found = {command: of.format_help()}
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, one in action.choices.items():
                found |= _helps(f"{command} {name}", one)
    return found


def python_page() -> str:
    """The public names of the library: signatures and docstrings, read without an import."""
    lines = [
        "# Python",
        "",
        "What a notebook calls: the public names of `leakgauge`, and the functions that read the pipeline's tables.",
        "",
        "The library needs no DVC and no params.yaml: arrays in, arrays out. Images are (N, C, H, W) uint8.",
        "`help(leakgauge)` shows them in six lines, and `docs/library.py` is a walk through an audit, cell by cell.",
        "What the pipeline adds: checks, calibrated verdicts at any size, resumable work, a page.",
        "",
        "Made by `python -m leakgauge.reference` of the docstrings.",
        "",
        "```python",
        textwrap.dedent(
            (ast.get_docstring(_tree("leakgauge/__init__.py")) or "").partition("\n\n")[2].rpartition("\n\n")[0]
        ),
        "```",
        "",
    ]
    for path, names in PUBLIC.items():
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for node in _tree(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
                lines += [f"## `{node.name}`", "", f"`{module}.{node.name}`", "", *_documented(node, "")]
    return "\n".join(lines)


def _tree(path: str | Path) -> ast.Module:
    return ast.parse(Path(path).read_text(encoding="utf-8"))


def _documented(node: ast.FunctionDef | ast.ClassDef, owner: str) -> list[str]:
    """A function, or a class and its public methods.  owner : of a method, `QuantileBag.`."""
    lines = ["```python", f"{owner}{_signature(node)}", "```", "", "```text", ast.get_docstring(node) or "", "```", ""]
    for inner in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_") and ast.get_docstring(inner):
            lines += [f"### `{node.name}.{inner.name}`", "", *_documented(inner, f"{node.name}.")]
    return lines


def _signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    """How it is called, without `self`; a line an argument where it is long."""
    if isinstance(node, ast.ClassDef):
        made_by = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        if made_by:
            return node.name + _signature(made_by[0]).removeprefix("__init__").removesuffix(" -> None")
        fields = [ast.unparse(one) for one in node.body if isinstance(one, ast.AnnAssign)]
        return f"{node.name}({', '.join(fields)})"
    arguments = copy.deepcopy(node.args)
    if arguments.args and arguments.args[0].arg in ("self", "cls"):
        arguments.args.pop(0)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{node.name}({ast.unparse(arguments)}){returns}"
    return line if len(line) <= 100 else line.replace(", ", ",\n    ")


def pages() -> dict[str, str]:
    """Name of a reference page -> its text."""
    return {"options": options_page(), "command-line": command_line_page(), "python": python_page()}


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
    """Write all of them."""
    read_yaml(PARAMS, "the repository's root")  # a file that is no YAML is refused by name
    write_bytes(PARAMS, commented(PARAMS.read_text(encoding="utf-8")).encode())
    for name, text in pages().items():
        write_bytes(PAGES / f"{name}.md", (text.rstrip() + "\n").encode())
    write_bytes(SCHEMA, (json.dumps(schema(), indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
