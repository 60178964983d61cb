"""dvc.yaml tells the truth about what each stage imports, and imports go one way."""

import ast
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import REPOSITORY, ask_about, dump_params
from dvc.repo import Repo
from ruamel.yaml import YAML

from leakgauge.options import Source

LIBRARY = REPOSITORY / "leakgauge"
PARAMS = ask_about(  # of which params.yaml has none
    "asked",
    {"source": "folder", "path": "asked"},
    YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text()),
)


def stages_of(params: dict) -> list:
    """The stages that DVC makes of dvc.yaml; of studies/: test_studies_dag.py."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(REPOSITORY / "dvc.yaml", folder)
        dump_params(params, Path(folder))
        with Repo.init(folder, no_scm=True) as repo:
            return [stage for stage in repo.index.stages if stage.name]


STAGES = stages_of(PARAMS)
# What reads, writes, prints and hands out work, and changes no number: no stage depends on it.  Defaults of options do,
# and how a target's own are laid over them, but they land in data/config, on which stages depend.
PLUMBING = {
    LIBRARY / f"{name}.py"
    for name in ("__init__", "cli", "cluster", "config", "errors", "files", "options", "reference", "tables")
}
RESOLVES = {LIBRARY / "config.py", LIBRARY / "options.py"}
RESOLVERS = ("config", "report")  # stages that read options from params.yaml, not from data/config
# package or module of the library -> those that it may import from, beside `PLUMBING` and compute.py
ARROWS: dict[str, set[str]] = {
    "datasets": set(),
    "features": set(),
    "diffusion": set(),
    "imports": set(),
    "draws": set(),
    "attacks": {"diffusion"},
    "scoring": {"attacks", "diffusion", "draws"},
    "quantile": set(),
    "inference": {"draws"},
    "bags": {"quantile", "inference"},
    "checks": {"inference"},
    "report": set(),
}
PLUMBERS = {
    "errors": set(),
    "cli": {"errors"},
    "files": {"errors", "cli"},
    "tables": {"errors", "files"},
    "options": set(),
    "config": {"errors", "cli", "options"},
    "compute": {"cli"},
    "cluster": {"errors", "files", "compute", "attacks"},
    "reference": {"cli", "files", "options", "config", "datasets"},
    "__init__": set(),
}
WITHOUT_TORCH = {
    *("inference", "checks", "report", "imports", "features", "draws"),
    *("tables", "config", "options", "cli", "files", "errors", "reference"),
}
CODE = ("leakgauge", "stages", "studies")
COMMANDS = {"audit"}  # run by users, not by DVC


def imported(file: Path) -> set[Path]:
    """The project's files that a file imports directly."""
    files = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.split(".")[0] in CODE:
                path = REPOSITORY.joinpath(*name.split("."))
                files |= {found for found in (path.with_suffix(".py"), path / "__init__.py") if found.is_file()}
    return {file for file in files if len(ast.parse(file.read_text()).body) > 1}  # a docstring alone decides nothing


def closure(file: Path) -> set[Path]:
    """A file and everything of the project that it imports, directly or not."""
    seen: set[Path] = set()
    waiting = {file}
    while waiting:
        file = waiting.pop()
        seen.add(file)
        waiting |= imported(file) - seen
    return seen


def module_of(stage) -> Path:
    words = stage.cmd.split()
    assert words[:2] == ["python", "-m"]
    return REPOSITORY.joinpath(*words[2].split(".")).with_suffix(".py")


def declared(stage) -> set[Path]:
    """The project's code among a stage's dependencies."""
    paths = {REPOSITORY / dep.def_path for dep in stage.deps if dep.protocol == "local"}
    return {path for path in paths if any(path.is_relative_to(REPOSITORY / code) for code in CODE) and _is_code(path)}


def _is_code(path: Path) -> bool:
    return path.suffix == ".py" or any(path.glob("*.py"))


def watched_as_data(stage) -> set[Path]:
    """What the stage's entry in a registry is made from, code or not, imported or not."""
    key = stage.name.partition("@")[2]
    sources = (("datasets", "path"), ("targets", "model"))
    return {REPOSITORY / PARAMS[registry][key][option] for registry, option in sources if key in PARAMS[registry]}


def plumbing(stage) -> set[Path]:
    """What changes none of its numbers."""
    return PLUMBING - RESOLVES if stage.name.split("@")[0] in RESOLVERS else PLUMBING


def undeclared(stage) -> list[Path]:
    """What a stage imports and does not depend on, beside plumbing."""
    covered = declared(stage)
    needed = closure(module_of(stage)) - plumbing(stage)
    return [file for file in needed if not any(file == dep or file.is_relative_to(dep) for dep in covered)]


def idle(stage) -> list[Path]:
    """Code that a stage depends on, and of which it imports nothing."""
    needed = closure(module_of(stage))
    return [
        path
        for path in declared(stage) - watched_as_data(stage)
        if not needed & ({path} if path.is_file() else set(path.rglob("*.py")))
    ]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_depends_on_all_the_code_that_decides_its_numbers(stage):
    assert not undeclared(stage)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_depends_on_no_package_of_which_it_imports_nothing(stage):
    assert not idle(stage)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_no_stage_depends_on_plumbing(stage):
    assert not [path for path in declared(stage) & plumbing(stage) if path not in watched_as_data(stage)]


def test_there_is_a_stage_for_every_stage_module_and_no_other_module_there():
    modules = {path.stem for path in (REPOSITORY / "stages").glob("*.py")} - {"__init__"}
    assert modules - COMMANDS == {stage.name.split("@")[0] for stage in STAGES}


def part(file: Path) -> str:
    """The package or module of the library that a file belongs to."""
    return file.relative_to(LIBRARY).parts[0].removesuffix(".py")


def test_every_package_and_module_has_its_place_in_the_order():
    there = {part(file) for file in LIBRARY.rglob("*.py")}
    assert there == set(ARROWS) | set(PLUMBERS)


@pytest.mark.parametrize("name", [*ARROWS, *PLUMBERS])
def test_imports_go_one_way(name):
    allowed = {
        name,
        *(PLUMBERS[name] if name in PLUMBERS else ARROWS[name] | set(PLUMBERS) - {"__init__", "reference"}),
    }
    for file in LIBRARY.rglob("*.py"):
        if part(file) == name:
            for other in imported(file):
                assert other.is_relative_to(LIBRARY), f"{file} imports {other}"
                assert part(other) in allowed, f"{file} imports {other}"


def test_no_stage_imports_another():
    for file in (REPOSITORY / "stages").glob("*.py"):
        assert all(other.is_relative_to(LIBRARY) for other in imported(file)), file


def test_what_measures_imports_no_torch():
    files = [file for file in LIBRARY.rglob("*.py") if part(file) in WITHOUT_TORCH]
    names = ", ".join(".".join(file.relative_to(REPOSITORY).with_suffix("").parts) for file in files)
    code = f"import sys, {names.replace('.__init__', '')}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


def test_fit_is_handed_nothing_but_options_and_auxiliary_data():
    for stage in STAGES:
        if stage.name.startswith("fit@"):
            read = {dep.def_path for dep in stage.deps if dep.def_path.startswith(("data/", "models/", "metrics/"))}
            data = {path for path in read if not path.startswith("data/config/")}
            assert {Path(path).name for path in data} == {"auxiliary.parquet"}


@pytest.mark.parametrize("pipeline", ["dvc.yaml", "studies/dvc.yaml"])
def test_no_command_holds_what_a_user_may_choose(pipeline):
    stages = YAML(typ="safe").load((REPOSITORY / pipeline).read_text())["stages"]
    for name, stage in stages.items():
        assert re.fullmatch(rf"python -m (stages|studies)\.{name}", stage.get("do", stage)["cmd"])


def test_what_a_stage_puts_into_git_is_a_metric_or_a_plot_lest_dvc_note_no_run_of_it():
    for stage in STAGES:
        for out in stage.outs:
            if stage.name != "report":
                assert out.use_cache or out.metric or out.plot, f"{stage.name}: {out}"


@pytest.mark.parametrize("pipeline", ["dvc.yaml", "studies/dvc.yaml"])
def test_what_is_filled_into_a_dependency_is_a_parameter_of_the_stage(pipeline):
    """Else it could change between DVC's reading of params.yaml and the stage's, and DVC would note the old.

    Of a target, data/config/<target>/source.json says the same.
    """
    stages = YAML(typ="safe").load((REPOSITORY / pipeline).read_text())["stages"]
    for name, stage in stages.items():
        definition = stage.get("do", stage)
        watched = definition.get("params", [])
        for chosen in re.findall(r"\$\{(.+?)\}", " ".join(definition.get("deps", []))):
            if "foreach" in stage and chosen.startswith("item."):
                chosen = f"{stage['foreach'].strip('${}')}.${{key}}.{chosen.removeprefix('item.')}"
                if "data/config/${key}/source.json" in definition["deps"]:
                    watched = [*watched, *(f"targets.${{key}}.{field}" for field in Source.model_fields)]
            elif chosen == "key" or chosen.startswith("item."):
                continue  # the name of the run
            assert any(chosen == option or chosen.startswith(f"{option}.") for option in watched), (name, chosen)


def test_every_section_and_registry_of_params_is_some_stages_business():
    params = (REPOSITORY / "params.yaml").read_text()
    top = {line.split(":")[0] for line in params.splitlines() if line[:1].isalpha()}
    watched = {name.split(".")[0] for stage in STAGES for dep in stage.deps for name in getattr(dep, "params", [])}
    assert top == watched
