"""What `dvc plots` draws: every template fits its table, compiles, and tells revisions, learners and fusions apart."""

import json
import re
import subprocess
from typing import Any

import pandas as pd
import pytest
import vl_convert
from conftest import REPOSITORY
from pipeline import TARGET, environment
from ruamel.yaml import YAML

TEMPLATES = REPOSITORY / ".dvc/plots"
BUILT_IN = {"bar_horizontal", "linear"}  # DVC's own


def used() -> list[tuple[str, str, dict[str, Any]]]:
    """Template, table and properties of each plot of dvc.yaml, for the default target."""
    pipeline = YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())
    found = []
    for stage in pipeline["stages"].values():
        for plot in stage.get("do", stage).get("plots", []):
            for path, properties in plot.items() if isinstance(plot, dict) else ():
                place = re.sub(r"\$\{(key|item\.target)\}", TARGET, path).replace("${item.learner}", "mlp")
                if properties["template"] not in BUILT_IN:
                    found.append((properties["template"], place, properties))
    return found


def filled(template: str, table: str, properties: dict[str, Any]) -> dict[str, Any]:
    """A template with its anchors as DVC fills them, and two revisions of its table."""
    rows = pd.read_csv(REPOSITORY / table, dtype=str)
    both = pd.concat([rows.assign(rev=rev) for rev in ("HEAD", "workspace")])
    anchors = {"METRIC_X": properties["x"], "METRIC_Y": properties["y"], "METRIC_TITLE": "title"}
    text = (TEMPLATES / f"{template}.json").read_text()
    for name, value in anchors.items():
        text = text.replace(f"<DVC_{name}>", value)
    return json.loads(text.replace('"<DVC_METRIC_DATA>"', both.to_json(orient="records")))


def test_every_template_is_used_and_there():
    assert {template for template, _, _ in used()} == {path.stem for path in TEMPLATES.glob("*.json")}


@pytest.mark.parametrize(("template", "table", "properties"), used(), ids=lambda value: str(value)[:30])
def test_a_template_names_columns_of_its_table_and_draws(template, table, properties):
    spec = filled(template, table, properties)
    columns = {*pd.read_csv(REPOSITORY / table).columns, "rev"}
    made = set(re.findall(r'"as": "(\w+)"', json.dumps(spec))) | {
        name for names in re.findall(r'"as": \[([^\]]+)\]', json.dumps(spec)) for name in re.findall(r"\w+", names)
    }
    fields = set(re.findall(r'"field": "(\w+)"', json.dumps(spec))) | set(re.findall(r"datum\.(\w+)", json.dumps(spec)))
    assert fields <= columns | made
    svg = vl_convert.vegalite_to_svg(spec)
    assert "HEAD" in svg and "workspace" in svg, "a panel a revision"
    assert svg.count("<path") > 10


@pytest.mark.parametrize("template", ["roc", "alpha", "bag_size"])
def test_a_fusion_is_dashed_in_its_learners_colour(template):
    table, properties = next((table, of) for name, table, of in used() if name == template)
    svg = vl_convert.vegalite_to_svg(filled(template, table, properties))
    lines = re.findall(r'<path[^>]*aria-label="[^"]*learner: gbm[^"]*"[^>]*>', svg)
    dashes = [
        bool(re.search(r'stroke-dasharray="5', line)) for line in lines if 'fill="none"' in line or "stroke=" in line
    ]
    assert {True, False} <= set(dashes)
    assert len({re.search(r'stroke="(#\w+)"', line)[1] for line in lines if 'stroke="#' in line}) == 1


def test_the_page_of_plots_asks_for_the_network_only_where_there_is_no_vega_beside_it(tmp_path):
    words = ["dvc", "plots", "show", "--out", str(tmp_path)]
    subprocess.run(words, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=True)
    page = (tmp_path / "index.html").read_text()
    outside = re.sub(r"<template.*?</template>", "", page, flags=re.DOTALL)
    assert re.findall(r'<script src="([^"]+)"', outside) == ["vega.js"]
    assert "https://cdn" not in outside
    assert "window.vegaEmbed" in vl_convert.javascript_bundle()
