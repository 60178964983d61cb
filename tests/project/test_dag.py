"""dvc.yaml tells the truth about what each stage imports, and imports go one way."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from graph import (
    ARROWS,
    LIBRARY,
    PLUMBERS,
    STAGES,
    WITHOUT_TORCH,
    declared,
    idle,
    imported,
    plumbing,
    stages_of,
    undeclared,
    watched_as_data,
)
from ruamel.yaml import YAML

from leakgauge.options import Source


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
    assert modules == {stage.name.split("@")[0] for stage in STAGES}


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


def test_the_lock_knows_no_stage_that_is_gone():
    locked = YAML(typ="safe").load((REPOSITORY / "dvc.lock").read_text())["stages"]
    params = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text())
    assert set(locked) == {stage.name for stage in stages_of(params)}


def test_no_stage_imports_another():
    for file in (REPOSITORY / "stages").glob("*.py"):
        assert all(other.is_relative_to(LIBRARY) for other in imported(file)), file


def test_what_measures_imports_no_torch():
    files = [file for file in LIBRARY.rglob("*.py") if part(file) in WITHOUT_TORCH]
    names = ", ".join(".".join(file.relative_to(REPOSITORY).with_suffix("").parts) for file in files)
    code = f"import sys, {names.replace('.__init__', '')}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


def test_stages_import_torch_lightgbm_and_scikit_learn_for_those_alone_who_need_them():
    names = ("images", "split", "base", "score", "score_suspects", "fit", "predict", "evaluate", "copies", "report")
    stages = ", ".join(f"stages.{name}" for name in names)
    code = f"import sys, {stages}; sys.exit(' '.join({{'torch', 'lightgbm', 'sklearn'}} & {{*sys.modules}}) or None)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
        assert re.fullmatch(rf"exec python -m (stages|studies)\.{name}", stage.get("do", stage)["cmd"])


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
