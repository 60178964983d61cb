"""studies/dvc.yaml tells the truth about code and views, and imports between its packages go one way."""

from pathlib import Path

import pytest
from conftest import REPOSITORY
from dvc.repo import Repo
from ruamel.yaml import YAML
from test_dag import idle, imported, undeclared

STUDIES = REPOSITORY / "studies"
STAGES = [stage for stage in Repo(str(STUDIES)).index.stages if stage.name]
NO_STUDY = {"prepare", "train", "score", "report"}
PARAMS = YAML(typ="safe", pure=True).load((STUDIES / "params.yaml").read_text())
# package -> packages of studies/ that it may import from (its modules at the top are open to all, but for stages)
ARROWS = {
    "targets": {"targets"},
    "attacks": {"attacks", "targets"},
    "auxiliary": {"auxiliary"},
    "generative": {"generative"},
    "protection": {"protection", "targets"},
    "charts": {"charts"},
}
STUDY_STAGES = {stage.name.split("@")[0] for stage in STAGES}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_study_depends_on_all_the_code_it_imports_and_on_no_other(stage):
    assert not undeclared(stage)
    assert not idle(stage)


def test_every_stage_module_is_a_stage_and_every_study_has_a_section_and_is_in_the_report():
    modules = {path.stem for path in STUDIES.glob("*.py") if 'if __name__ == "__main__"' in path.read_text()}
    assert modules == STUDY_STAGES
    for study in STUDY_STAGES - NO_STUDY:
        assert study in PARAMS
        report = next(stage for stage in STAGES if stage.name == "report")
        assert f"studies/metrics/{study}.csv" in {dep.fs_path.removeprefix(f"{REPOSITORY}/") for dep in report.deps}


def test_every_view_is_of_a_model_and_every_model_is_looked_at():
    of = {view["of"] for view in PARAMS["views"].values()}
    assert of <= set(PARAMS["models"])
    assert set(PARAMS["models"]) - of == {"shadow"}  # only attackers see those


def test_every_study_depends_on_exactly_the_views_that_its_section_names():
    for study in STUDY_STAGES - NO_STUDY:
        stage = next(stage for stage in STAGES if stage.name == study)
        scores = {Path(dep.fs_path).stem for dep in stage.deps if "/data/scores/" in dep.fs_path}
        assert scores == set(strings(PARAMS[study])) & set(PARAMS["views"]), study


def strings(values: object) -> list[str]:
    """All strings among nested values."""
    if isinstance(values, dict):
        return [text for value in values.values() for text in strings(value)]
    if isinstance(values, list):
        return [text for value in values for text in strings(value)]
    return [values] if isinstance(values, str) else []


@pytest.mark.parametrize("package", ARROWS)
def test_imports_between_packages_of_the_studies_go_one_way(package):
    for file in (STUDIES / package).glob("*.py"):
        for other in imported(file):
            if other.is_relative_to(STUDIES):
                place = other.relative_to(STUDIES).parts
                allowed = (
                    place[0].removesuffix(".py") not in STUDY_STAGES if len(place) == 1 else place[0] in ARROWS[package]
                )
                assert allowed, f"{file.name} imports {other}"
            else:
                assert other.is_relative_to(REPOSITORY / "leakgauge")


def test_the_main_pipeline_imports_nothing_of_the_studies():
    for file in [*(REPOSITORY / "stages").rglob("*.py"), *(REPOSITORY / "leakgauge").rglob("*.py")]:
        assert not [other for other in imported(file) if other.is_relative_to(STUDIES)]
