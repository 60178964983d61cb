"""dvc.yaml tells the truth about what each stage imports, and no arrow between rooms points the wrong way."""

import ast
import re
from pathlib import Path

import pytest
from conftest import REPOSITORY
from dvc.repo import Repo
from ruamel.yaml import YAML

PARAMS = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text())
STAGES = [stage for stage in Repo(str(REPOSITORY)).index.stages if stage.name]  # of studies/: test_studies_dag.py
# room -> rooms it may import from (stages/*.py that are not stages are doors, open to all)
ARROWS = {
    "datasets": {"datasets"},
    "descriptors": {"descriptors"},
    "diffusion": {"diffusion"},
    "published": {"published"},
    "scores": {"scores", "diffusion"},
    "engines": {"engines", "scores", "diffusion"},
    "quantile": {"quantile"},
    "statistics": {"statistics"},
    "experiments": {"experiments", "quantile", "statistics"},
    "guards": {"guards", "statistics"},
    "presentation": {"presentation"},
}
CODE = ("stages", "studies")
COMMANDS = {"audit"}  # run by users, not by DVC
DOORS = {"command", "device", "files", "parallel", "params", "resume", "tables"}


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
    paths = {Path(dep.fs_path) for dep in stage.deps if dep.protocol == "local"}
    return {path for path in paths if any(path.is_relative_to(REPOSITORY / code) for code in CODE) and _is_code(path)}


def _is_code(path: Path) -> bool:
    return path.suffix == ".py" or any(path.glob("*.py"))


def watched_as_data(stage) -> set[Path]:
    """The `path` of the stage's entry in a registry: what the entry is made from, code or not, imported or not."""
    key = stage.name.partition("@")[2]
    return {
        REPOSITORY / PARAMS[registry][key]["path"] for registry in ("datasets", "targets") if key in PARAMS[registry]
    }


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_depends_on_all_the_code_it_imports(stage):
    covered = declared(stage)
    missing = [f for f in closure(module_of(stage)) if not any(f == dep or f.is_relative_to(dep) for dep in covered)]
    assert not missing


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_depends_on_no_code_it_does_not_import(stage):
    needed = closure(module_of(stage))
    for path in declared(stage) - watched_as_data(stage):
        files = {path} if path.is_file() else set(path.rglob("*.py"))
        idle = {f for f in files - needed if len(ast.parse(f.read_text()).body) > 1}
        assert not idle, f"{stage.name} does not import {idle}"


def test_there_is_a_stage_for_every_stage_module_and_no_other_module_at_the_top():
    modules = {path.stem for path in (REPOSITORY / "stages").glob("*.py")} - {"__init__"} - DOORS
    assert modules - COMMANDS == {stage.name.split("@")[0] for stage in STAGES}


@pytest.mark.parametrize("room", ARROWS)
def test_arrows_between_rooms_go_one_way(room):
    for file in (REPOSITORY / "stages" / room).glob("*.py"):
        for other in imported(file):
            place = other.relative_to(REPOSITORY / "stages").parts
            allowed = place[0].removesuffix(".py") in DOORS if len(place) == 1 else place[0] in ARROWS[room]
            assert allowed, f"{file.name} imports {other}"


def test_fit_is_handed_nothing_but_auxiliary_data_and_the_name_of_the_chosen_score():
    for stage in STAGES:
        if stage.name.startswith("fit@"):
            data = {dep.def_path for dep in stage.deps if dep.def_path.startswith(("data/", "models/", "metrics/"))}
            target = stage.name.removeprefix("fit@").split("-")[0]
            choice = f"data/selection/{target}.json"  # holds one name: test_select.py
            assert data - {choice}
            assert all(path.endswith("/auxiliary.parquet") for path in data - {choice})


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
    """Else it could change between DVC's reading of params.yaml and the stage's, and DVC would note the old."""
    stages = YAML(typ="safe").load((REPOSITORY / pipeline).read_text())["stages"]
    for name, stage in stages.items():
        definition = stage.get("do", stage)
        watched = definition.get("params", [])
        for chosen in re.findall(r"\$\{(.+?)\}", " ".join(definition.get("deps", []))):
            if "foreach" in stage and chosen.startswith("item."):
                chosen = f"{stage['foreach'].strip('${}')}.${{key}}.{chosen.removeprefix('item.')}"
            elif chosen == "key" or chosen.startswith("item."):
                continue  # the name of the run
            assert any(chosen == option or chosen.startswith(f"{option}.") for option in watched), (name, chosen)


def test_every_section_and_registry_of_params_is_some_stages_business():
    params = (REPOSITORY / "params.yaml").read_text()
    top = {line.split(":")[0] for line in params.splitlines() if line[:1].isalpha()}
    watched = {name.split(".")[0] for stage in STAGES for dep in stage.deps for name in getattr(dep, "params", [])}
    assert top == watched
