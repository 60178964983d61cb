"""studies/dvc.yaml tells the truth about code and views, and imports between the folders of studies/ go one way."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from dvc.repo import Repo
from graph import PLUMBING, RESOLVES, closure, imported
from pipeline import environment
from ruamel.yaml import YAML

from studies.common.runner import strings
from studies.common.settings import SECTIONS

STUDIES = REPOSITORY / "studies"
STAGES = [stage for stage in Repo(str(STUDIES)).index.stages if stage.name]
NO_STUDY = {"prepare", "train", "score", "report"}
PARAMS = YAML(typ="safe", pure=True).load((STUDIES / "params.yaml").read_text())
FOLDERS = {path.parent.name for path in STUDIES.glob("*/__main__.py")}
STUDY_STAGES = [stage for stage in STAGES if stage.name in FOLDERS]
RESOLVERS = {"prepare": RESOLVES, "score": {REPOSITORY / "leakgauge/options.py"}}  # defaults of options decide these
BASE = {STUDIES / "common" / f"{name}.py" for name in ("__init__", "population", "settings")}  # what targets need


def module_of(stage) -> Path:
    name = stage.name.split("@")[0]
    return STUDIES / name / "__main__.py" if name in FOLDERS else STUDIES / f"{name}.py"


def needed(stage) -> set[Path]:
    """The code that decides what a stage writes."""
    return closure(module_of(stage)) - (PLUMBING - RESOLVERS.get(stage.name.split("@")[0], set()))


def declared(stage) -> set[Path]:
    """The code among what a stage depends on."""
    paths = {Path(dep.fs_path) for dep in stage.deps}
    return {path for path in paths if path.suffix == ".py" or any(path.glob("*.py"))}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_depends_on_all_the_code_that_decides_its_numbers_and_on_no_other(stage):
    code, covered = needed(stage), declared(stage)
    assert not [file for file in code if not any(file.is_relative_to(path) for path in covered)]
    assert not [path for path in covered if not any(file.is_relative_to(path) for file in code)]


def test_every_folder_with_a_study_is_a_stage_with_a_section_and_a_row_of_the_overview():
    assert {stage.name.split("@")[0] for stage in STAGES} == FOLDERS | NO_STUDY
    assert set(PARAMS) == set(SECTIONS)
    overview = (STUDIES / "README.md").read_text()
    for study in FOLDERS:
        assert overview.count(f"({study}/findings.md)") == 1


def test_the_report_depends_on_what_every_study_found_and_no_study_does():
    text = {stage.name: {dep.fs_path for dep in stage.deps if dep.fs_path.endswith(".md")} for stage in STAGES}
    assert text.pop("report") == {str(STUDIES / name) for name in ["README.md", *(f"{s}/findings.md" for s in FOLDERS)]}
    assert not any(text.values())
    for stage in STUDY_STAGES:
        assert not any(list(path.rglob("*.md")) for path in declared(stage) if path.is_dir())


def test_a_study_that_dvc_started_is_known_by_its_folder_and_compares_its_inputs(tmp_path):
    started = {**environment(), "DVC_STAGE": "width", "PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-m", "studies.width"]
    done = subprocess.run(words, cwd=tmp_path, env=started, capture_output=True, text=True)
    assert done.stderr == "studies.width: dvc.yaml: not found: run from the folder of dvc.yaml\n"


def test_what_is_in_git_is_a_plot_and_every_study_has_a_table_and_a_figure():
    for stage in STUDY_STAGES:
        assert all(out.use_cache or out.plot for out in stage.outs)
        names = {Path(out.fs_path).relative_to(STUDIES / "metrics").as_posix() for out in stage.outs if out.plot}
        assert names >= {f"{stage.name}.csv", f"figures/{stage.name}.png"}


def test_every_view_is_of_a_model_and_every_model_is_looked_at():
    of = {view["of"] for view in PARAMS["views"].values()}
    assert of <= set(PARAMS["models"])
    assert set(PARAMS["models"]) - of == {"shadow"}  # only attackers see those


@pytest.mark.parametrize("stage", STUDY_STAGES, ids=lambda stage: stage.name)
def test_a_study_depends_on_exactly_the_views_that_its_section_names(stage):
    scores = {Path(dep.fs_path).stem for dep in stage.deps if "/data/scores/" in dep.fs_path}
    assert scores == set(strings(PARAMS[stage.name])) & set(PARAMS["views"])


def allowed(file: Path) -> set[Path]:
    """The files of studies/ that one of them may import: targets know no view, what is shared knows no study."""
    folder = file.relative_to(STUDIES).parts[0]
    targets, common = set((STUDIES / "targets").glob("*.py")), set((STUDIES / "common").glob("*.py"))
    if file in BASE:
        return BASE
    return targets | BASE if folder == "targets" else targets | common | set((STUDIES / folder).glob("*.py"))


def test_imports_between_the_folders_of_the_studies_go_one_way():
    files = [file for folder in ("common", "targets", *FOLDERS) for file in (STUDIES / folder).glob("*.py")]
    for file in files:
        for other in imported(file):
            assert other in allowed(file) or other.is_relative_to(REPOSITORY / "leakgauge"), f"{file} imports {other}"
            assert other.name != "__main__.py"


def test_the_main_pipeline_imports_nothing_of_the_studies():
    for file in [*(REPOSITORY / "stages").rglob("*.py"), *(REPOSITORY / "leakgauge").rglob("*.py")]:
        assert not [other for other in imported(file) if other.is_relative_to(STUDIES)]
