"""What `dvc plots` draws: every template fits its table, compiles, and tells revisions, learners and fusions apart."""

import copy
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import vl_convert
from conftest import REPOSITORY
from pipeline import TARGET, environment
from ruamel.yaml import YAML

TEMPLATES = REPOSITORY / ".dvc/plots"
BUILT_IN = {"bar_horizontal", "linear"}  # DVC's own
GREY, OKABE_ITO = "#777777", {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"}


def used() -> dict[str, str]:
    """The table of each template that dvc.yaml uses, for the default target and one learner."""
    pipeline = YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())
    found = {}
    for stage in pipeline["stages"].values():
        for plot in stage.get("do", stage).get("plots", []):
            for path, properties in plot.items() if isinstance(plot, dict) else ():
                place = re.sub(r"\$\{(key|item\.target)\}", TARGET, path).replace("${item.learner}", "mlp")
                found[properties["template"]] = place
    return {template: table for template, table in found.items() if template not in BUILT_IN}


def dvc_plots(*words: str) -> str:
    """What `dvc plots show` prints."""
    done = subprocess.run(
        ["dvc", "plots", "show", *words], cwd=REPOSITORY, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def drawn() -> dict[str, dict[str, Any]]:
    """Each template as DVC fills it, with two revisions of its table."""
    content = json.loads(dvc_plots("--json", *used().values()))["data"]
    return {template: revised(content[table][0]["content"]) for template, table in used().items()}


def revised(spec: dict[str, Any]) -> dict[str, Any]:
    """The same rows once as those of HEAD and once as the workspace's."""
    rows = spec["data"]["values"]
    both = [row | {"rev": rev} for rev in ("HEAD", "workspace") for row in rows]
    return spec | {"data": spec["data"] | {"values": both}}


def parts(spec: Any, key: str) -> list[Any]:
    """All values of a key, at any depth; the data apart."""
    if isinstance(spec, list):
        return [value for part in spec for value in parts(part, key)]
    if not isinstance(spec, dict):
        return []
    below = [value for name, part in spec.items() if name != "values" for value in parts(part, key)]
    return below + ([spec[key]] if key in spec else [])


def names(values: list[Any]) -> set[str]:
    return {name for value in values for name in (value if isinstance(value, list) else [value])}


def strokes(spec: dict[str, Any], learner: str) -> list[tuple[str, bool]]:
    """Colour, and whether it is dashed, of each line of a learner, or of a target."""
    lines = re.findall(
        rf'<path[^>]*aria-label="[^"]*(?:learner|target): {learner}(?:;[^"]*)?"[^>]*>', vl_convert.vegalite_to_svg(spec)
    )
    return [
        (found[1].upper(), 'stroke-dasharray="5,3"' in line)
        for line in lines
        if 'aria-roledescription="line mark"' in line and (found := re.search(r'stroke="(#\w+)"', line))
    ]


def test_every_template_is_used_and_there():
    assert set(used()) == {path.stem for path in TEMPLATES.glob("*.json")}


@pytest.mark.parametrize("template", used())
def test_a_template_reads_columns_of_its_table(template, drawn):
    spec = drawn[template]
    columns = {*pd.read_csv(REPOSITORY / used()[template], nrows=0).columns, "rev"}
    made = names(parts(spec, "as"))
    read = names(parts(spec, "field") + parts(spec, "fold"))
    read |= {name for parse in parts(spec, "parse") for name in parse}
    read |= set(re.findall(r"datum\.(\w+)", " ".join(parts(spec, "filter") + parts(spec, "calculate"))))
    assert read <= columns | made
    assert not re.search("<DVC_METRIC", json.dumps(spec)), "an anchor that DVC does not fill"


@pytest.mark.parametrize("template", used())
def test_a_template_draws_a_panel_a_revision(template, drawn):
    svg = vl_convert.vegalite_to_svg(drawn[template])
    assert ">HEAD<" in svg and ">workspace<" in svg
    assert svg.count("<path") > 10
    assert "NaN" not in svg and "Infinity" not in svg


@pytest.mark.parametrize("template", ["alpha", "bag_size", "roc"])
def test_a_fusion_is_dashed_in_its_learners_colour(template, drawn):
    lines = strokes(drawn[template], "gbm")
    assert {dashed for _, dashed in lines} == {True, False}
    assert len({colour for colour, _ in lines}) == 1
    assert {colour for colour, _ in lines} <= OKABE_ITO


def test_one_threshold_for_all_is_dashed_in_its_targets_colour(drawn):
    lines = strokes(drawn["targets"], TARGET)
    assert {dashed for _, dashed in lines} == {True, False}
    assert len({colour for colour, _ in lines}) == 1


@pytest.mark.parametrize(
    ("template", "baseline"),
    [("alpha", "marginal"), ("bag_size", "marginal"), ("roc", "marginal"), ("timestep", "one threshold for all")],
)
def test_the_baseline_alone_is_grey_wherever_it_stands_and_where_it_is_missing(template, baseline, drawn):
    spec = copy.deepcopy(drawn[template])
    of_baseline = [row for row in spec["data"]["values"] if row["learner"].startswith(baseline)]
    others = [row for row in spec["data"]["values"] if row not in of_baseline]
    spec["data"]["values"] = others + of_baseline
    assert {colour for colour, _ in strokes(spec, baseline)} == {GREY}
    for rows in (others + of_baseline, others):
        spec["data"]["values"] = rows
        colours = {learner: {colour for colour, _ in strokes(spec, learner)} for learner in ("gbm", "mlp", "resnet")}
        assert all(len(found) == 1 and found <= OKABE_ITO for found in colours.values()), colours


def test_a_rate_of_zero_is_drawn_below_the_lowest_that_is_not(drawn):
    spec = copy.deepcopy(drawn["alpha"])
    rows = [row for row in spec["data"]["values"] if row["learner"] == "gbm" and row["verdict"] == "calibrated"]
    spec["data"]["values"] = [row | {"fpr": "0.00002" if number else "0"} for number, row in enumerate(rows)]
    data = vl_convert.vegalite_to_vega(spec)["data"]
    assert "0.0005" not in json.dumps(data)
    assert ">0.00001<" in vl_convert.vegalite_to_svg(spec)


def test_the_page_asks_no_network_and_says_what_to_run(tmp_path):
    dvc_plots("--out", str(tmp_path))
    page = (tmp_path / "index.html").read_text()
    assert set(re.findall(r"""<script[^>]* src=["']?([^"'>]+)""", page)) == {"vega.js", "../dvc_plots/vega.js"}
    assert "https://cdn" not in page
    assert "run `make plots`" in page
    assert not re.search(r"<link|@import|url\(", page)


def test_make_plots_writes_what_the_page_loads(tmp_path):
    rule = re.search(
        r"^dvc_plots/vega\.js:.*\n\tmkdir.*\n\t(python .*)$", Path(REPOSITORY, "Makefile").read_text(), re.M
    )
    target = tmp_path / "vega.js"
    subprocess.run(shlex.split(rule[1].replace("$@", str(target))), env=environment(), check=True)
    assert "window.vegaEmbed=" in target.read_text()
