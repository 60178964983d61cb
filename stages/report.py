"""report: figures, and one self-contained page that says what was audited and what came out.

data/{images,inferences,roles,suspects,verdicts}/,
metrics/{checks,fit,guards,plots,samples,selection,sweeps,training}/ ->
metrics/report.html,
metrics/figures/<target>/*.png (curves, for git) and metrics/exposed/<target>.png (images of members, for DVC's cache)
"""

import json
from pathlib import Path

import pandas as pd
from pydantic import PositiveInt

from leakgauge.cli import run
from leakgauge.config import PARAMS, Options, names, section, target_entry
from leakgauge.files import file_hash, write_bytes
from leakgauge.report.ablations import draw_experiments
from leakgauge.report.figures import draw_figures, draw_p_values, most_confident
from leakgauge.report.page import TargetPage, draw_gallery, exposed_pairs, render
from leakgauge.tables import ROLES, read_metadata, read_table


class Report(Options):
    """Section `report`."""

    exposed: PositiveInt  # members in the grid of the most exposed


def report() -> None:
    """Write metrics/figures/ and metrics/report.html."""
    options = section("report", Report)
    pages = [_page(target, options) for target in names("targets")]
    Path("metrics/exposed").mkdir(parents=True, exist_ok=True)
    for page in pages:
        for name, png in page.figures.items():
            write_bytes(Path(f"metrics/figures/{page.target}/{name}.png"), png)
        if page.exposed:
            write_bytes(Path(f"metrics/exposed/{page.target}.png"), page.exposed)
    write_bytes(Path("metrics/report.html"), render(pages, PARAMS.read_text(encoding="utf-8")).encode())


def _page(target: str, options: Report) -> TargetPage:
    verdicts = Path(f"data/verdicts/{target}.parquet")
    facts = read_metadata(verdicts)
    roles = {role: Path(f"data/roles/{target}/{role}.parquet") for role in (*ROLES, "suspect")}
    curves, experiments = (_tables(Path(f"metrics/{folder}/{target}")) for folder in ("plots", "sweeps"))
    curves["fit"] = pd.concat(
        [pd.read_csv(f"metrics/fit/{target}/{name}.csv").assign(learner=name) for name in names("learners")]
    )
    curves["loss"] = pd.read_csv(f"metrics/training/{target}/loss.csv")
    fpr = facts["options"]["curve_fpr"]
    figures = draw_figures(curves, fpr, facts["options"]["complexity"]) | draw_experiments(experiments, fpr)
    most_able = max(facts["figures"], key=lambda name: facts["figures"][name]["auc"] or 0)
    inferences = Path(f"data/inferences/{target}.parquet")
    inference, asked_about = read_metadata(inferences), read_table(inferences).to_pandas()
    suspects = []
    if len(asked_about):
        figures["suspects"] = draw_p_values(asked_about, 1 / (inference["figures"]["calibration"] + 1))
        suspects = most_confident(asked_about, _images([roles["suspect"]], set(asked_about["image_id"])))
    rows = read_table(verdicts).to_pandas()
    pairs = exposed_pairs(rows[rows["learner"] == most_able], options.exposed)
    images = _images([roles["member"], roles["holdout"]], {*pairs["image_id"], *pairs["holdout_id"]})
    return TargetPage(
        target=target,
        entry=target_entry(target),
        roles={role: _describe_role(path) for role, path in roles.items()},
        facts=facts,
        guards=_json(Path(f"metrics/guards/{target}.json")),
        check=_json(Path(f"metrics/checks/{target}.json")),
        selection=_json(Path(f"metrics/selection/{target}.json")),
        most_confident=most_able,
        figures=figures,
        exposed=draw_gallery(pairs, images) if len(pairs) else None,
        samples=Path(f"metrics/samples/{target}.png").read_bytes(),
        taken=_json(Path(f"metrics/training/{target}/taken.json")),
        inference=inference,
        suspects=suspects,
        left_out=_left_out(target_entry(target).dataset),
    )


def _left_out(dataset: str) -> list[str]:
    """Notes of the readers of a dataset and of its suspects."""
    tables = {"": f"data/images/{dataset}.parquet", "suspects: ": f"data/suspects/{dataset}/images.parquet"}
    return [of + note for of, path in tables.items() for note in read_metadata(Path(path)).get("notes", [])]


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The CSV files of a folder by name."""
    return {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}


def _describe_role(path: Path) -> dict:
    """How a role was drawn, how many images it has, and the hash of its file."""
    return read_metadata(path) | {"images": read_table(path, ["image_id"]).num_rows, "sha256": file_hash(path)}


def _images(tables: list[Path], wanted: set[str]) -> dict[str, bytes]:
    """image_id -> PNG of the wanted images of some roles."""
    images: dict[str, bytes] = {}
    for table in tables:
        rows = read_table(table, ["image_id", "image"]).to_pylist()
        images |= {row["image_id"]: row["image"]["bytes"] for row in rows if row["image_id"] in wanted}
    return images


if __name__ == "__main__":
    run(report)
