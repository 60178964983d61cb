"""report: figures, and one self-contained page that says what was audited and what came out.

data/{config,images,roles,taken,verdicts}/, metrics/{checks,fit,plots,samples,training}/ -> metrics/report.html,
metrics/figures/<target>/*.png (curves, for git) and metrics/exposed/<target>.png (images of members, for DVC's cache)
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from leakgauge.cli import run
from leakgauge.config import PARAMS, asked, names, section, source_of, suspects_entry
from leakgauge.files import file_hash, write_bytes, write_json
from leakgauge.options import Report, TargetOptions
from leakgauge.report.figures import draw_figures, draw_p_values, most_confident
from leakgauge.report.page import TargetPage, draw_gallery, exposed_pairs, render
from leakgauge.report.verdict import Verdict, failing_of, set_verdict, verdict_of
from leakgauge.tables import ROLES, read_metadata, read_table

SUMMARY = Path("metrics/summary.json")
EXPOSED = 5  # members that the verdict names


def report() -> None:
    """Write metrics/figures/, metrics/summary.json and metrics/report.html."""
    options = asked("report", Report)
    pages = [_page(target, options) for target in names("targets")]
    Path("metrics/exposed").mkdir(parents=True, exist_ok=True)
    for page in pages:
        for name, png in page.figures.items():
            write_bytes(Path(f"metrics/figures/{page.target}/{name}.png"), png)
        if page.exposed:
            write_bytes(Path(f"metrics/exposed/{page.target}.png"), page.exposed)
    write_json(SUMMARY, {page.target: page.verdict for page in pages})
    write_bytes(Path("metrics/report.html"), render(pages, PARAMS.read_text(encoding="utf-8")).encode())


def _page(target: str, options: Report) -> TargetPage:
    verdicts = Path(f"data/verdicts/{target}.parquet")
    facts = read_metadata(verdicts)
    roles = {role: Path(f"data/roles/{target}/{role}.parquet") for role in ROLES}
    curves = _tables(Path(f"metrics/plots/{target}"))
    curves["fit"] = pd.concat(
        [pd.read_csv(f"metrics/fit/{target}/{name}.csv").assign(learner=name) for name in names("learners")]
    )
    curves["loss"] = pd.read_csv(f"metrics/training/{target}/loss.csv")
    fpr = facts["options"]["curve_fpr"]
    figures = draw_figures(curves, fpr, facts["options"]["complexity"])
    checks = _json(Path(f"metrics/checks/{target}.json"))
    null = {f"null_check_{role}": found for role, found in facts["null_check"].items()}
    sets = [_set(name) for name in names("suspects") if suspects_entry(name).target == target]
    source = source_of(target)
    rows = read_table(verdicts).to_pandas()
    pairs = exposed_pairs(rows[rows["learner"] == facts["headline"]["judge"]], options.exposed)
    images = _images([roles["member"], roles["holdout"]], {*pairs["image_id"], *pairs["holdout_id"]})
    found = {**checks, **null, "wrong_way_round": {"fails": bool(facts["wrong_way_round"])}}
    ranked = rows[(rows["learner"] == facts["headline"]["judge"]) & (rows["role"] == "member")]
    most = ranked.sort_values(["p_value", "membership_score", "image_id"], ascending=[True, False, True])
    verdict = verdict_of(
        facts["headline"],
        {role: read_table(path, ["image_id"]).num_rows for role, path in roles.items()},
        failing_of(found),
        sum(isinstance(one, dict) for one in found.values()),
        most[["image_id", "p_value"]].head(EXPOSED).to_dict(orient="records"),
    )
    verdict["suspects"] = {one["name"]: _set_verdict(one) for one in sets}
    return TargetPage(
        target=target,
        verdict=verdict,
        source=source,
        hub=section("target", TargetOptions, target).hub if source.source == "hub" else None,
        roles={role: _describe_role(path) for role, path in roles.items()},
        facts=facts,
        checks=checks | null,
        fails=checks["fails"] + sum(found["fails"] for found in null.values()),
        headline=facts["headline"]["judge"],
        figures=figures,
        exposed=draw_gallery(pairs, images) if len(pairs) else None,
        samples=Path(f"metrics/samples/{target}.png").read_bytes(),
        taken=_json(Path(f"data/taken/{target}.json")),
        sets=sets,
        left_out=_left_out({"": source.images, **{f"{one['name']}: ": one["images"] for one in sets}}),
    )


def _set_verdict(asked: dict[str, Any]) -> Verdict:
    options = asked["options"]
    failing = failing_of(asked["checks"])
    return set_verdict(asked["figures"], failing, options["confidence"], options["false_discovery_rate"])


def _set(name: str) -> dict[str, Any]:
    """What is shown of a set of suspects."""
    path = Path(f"data/verdicts/suspects/{name}.parquet")
    facts, verdicts = read_metadata(path), read_table(path).to_pandas()
    images = _images([Path(f"data/images/{facts['images']}.parquet")], set(verdicts["image_id"]))
    plot = draw_p_values(verdicts, 1 / (facts["figures"]["calibration"] + 1))
    return {**facts, "name": name, "plot": plot, "suspects": most_confident(verdicts, images)}


def _left_out(datasets: dict[str, str]) -> list[str]:
    """Notes of the readers of some datasets.  datasets : what a note begins with -> dataset."""
    tables = {of: read_metadata(Path(f"data/images/{dataset}.parquet")) for of, dataset in datasets.items()}
    return [of + note for of, facts in tables.items() for note in facts.get("notes", [])]


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
