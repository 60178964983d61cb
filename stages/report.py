"""report: the verdict, and one self-contained page that says what was audited and what came out.

data/{config,images,roles,taken,verdicts}/, metrics/{checks,copies,fit,plots,samples,training}/ -> metrics/summary.json
(the verdict on each target), metrics/roc.csv (of its judge) and metrics/report.html (which shows members: DVC's cache,
not git)
"""

import json
import os
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from leakgauge.cli import run
from leakgauge.config import PARAMS, asked, names, section, source_of, suspects_entry, target_entry
from leakgauge.files import file_hash, write_bytes, write_json
from leakgauge.inference.epsilon import drawn_pairs, epsilon_bound
from leakgauge.options import PinnedFolder, Report, Source, Split, TargetOptions
from leakgauge.report.ceilings import held
from leakgauge.report.compare import git
from leakgauge.report.copies import copies_shown
from leakgauge.report.figures import EACH, ONE, draw_figures, draw_p_values
from leakgauge.report.page import (
    SHEET,
    THUMBNAIL,
    Made,
    TargetPage,
    exposed_members,
    most_confident,
    render,
    shrunk,
)
from leakgauge.report.verdict import ENDS, Verdict, failing_of, set_verdict, verdict_of
from leakgauge.report.words import check_rows
from leakgauge.tables import ROLES, image_units, read_metadata, read_table

SUMMARY, PAGE, ROC = Path("metrics/summary.json"), Path("metrics/report.html"), Path("metrics/roc.csv")
NAMED = 5  # members that the verdict names
CODE = ("dvc.yaml", "params.yaml", "leakgauge", "stages")


def report() -> None:
    """Write the verdicts, their curves and the page."""
    options = asked("report", Report)
    pages = [_page(target, options) for target in names("targets")]
    write_json(SUMMARY, {page.target: page.verdict for page in pages})
    write_bytes(ROC, _roc(pages).to_csv(index=False, float_format="%.6g").encode())
    write_bytes(PAGE, render(pages, PARAMS.read_text(encoding="utf-8"), made()).encode())


def _roc(pages: list[TargetPage]) -> pd.DataFrame:
    """The ROC of every target's headline judge and of one threshold for all images, which `thresholds` tells apart."""
    curves = [pd.DataFrame(columns=["target", "judge", "thresholds", "fpr", "tpr"])]
    for page in pages:
        curve = pd.read_csv(f"metrics/plots/{page.target}/roc.csv")
        bag = page.facts["bags"][page.facts["made_of"][page.headline]["learner"]]
        headline = ONE if bag["options"]["kind"] == "marginal" else EACH
        for judge, thresholds in ((page.headline, headline), (page.verdict["baseline"], ONE)):
            shown = curve[curve["learner"] == judge].rename(columns={"learner": "judge"})
            curves.append(shown.assign(target=page.target, thresholds=thresholds)[curves[0].columns])
    return pd.concat([curve for curve in curves if len(curve)] or curves)


def made() -> Made:
    """Today's date (or SOURCE_DATE_EPOCH's, for the same bytes on another day), and the version.

    The commit is the last one that changed code or parameters: that of the results, later, makes no other page.
    """
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    when = datetime.fromtimestamp(int(seconds), UTC) if seconds else datetime.now(UTC)
    commit = _git("log", "-1", "--format=%h", "--abbrev=12", "--", *CODE)
    differ = _git("diff", "--name-only", "HEAD", "--", *CODE) if commit else ""
    changed = sorted({path.split("/")[0] for path in differ.splitlines()})
    return Made(f"{when.day} {when:%B %Y}", version("leakgauge"), commit or None, changed)


def _git(*words: str) -> str:
    """What git prints; nothing where there is no git, or no commit yet."""
    try:
        return git(*words, quiet=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _page(target: str, options: Report) -> TargetPage:
    verdicts = Path(f"data/verdicts/{target}.parquet")
    facts = read_metadata(verdicts)
    roles = {role: Path(f"data/roles/{target}/{role}.parquet") for role in ROLES}
    headline = facts["headline"]
    checks = _checks(target, facts)
    sets = [_set(name) for name in names("suspects") if suspects_entry(name).target == target]
    source = source_of(target)
    rows = read_table(verdicts).to_pandas()
    exposed = exposed_members(rows[rows["learner"] == headline["judge"]], max(options.exposed, NAMED))
    described = {role: _describe_role(path) for role, path in roles.items()}
    measured = facts["figures"][headline["judge"]]  # without the images on which a score was chosen
    verdict = verdict_of(
        headline,
        {
            "member": measured["members"],
            "auxiliary": described["auxiliary"]["images"],
            "holdout": measured["holdout"],
        },
        failing_of(checks),
        len(checks),
        exposed[["image_id", "p_value"]].head(NAMED).to_dict(orient="records"),
        facts["options"]["confidence"],
    )
    judged = rows[rows["learner"] == headline["judge"]]
    verdict["epsilon_bound"] = _epsilon_bound(source, roles, judged, facts["options"]["confidence"])
    verdict |= {"supervised": _supervised(facts), "worst_case": facts["worst_case"]}
    ceilings = target_entry(target).ceilings
    verdict["ceilings"] = [asdict(one) for one in held(verdict, facts["figures"], ceilings)]
    verdict["suspects"] = {one["name"]: one["verdict"] for one in sets}
    return TargetPage(
        target=target,
        verdict=verdict,
        source=source,
        hub=section("target", TargetOptions, target).hub if source.source == "hub" else None,
        base=_base(target),
        roles=described,
        facts=facts,
        checks=check_rows(checks),
        figures=draw_figures(
            _curves(target),
            headline["judge"],
            headline["baseline"],
            facts["options"]["curve_fpr"],
            facts["options"]["complexity"],
        ),
        exposed=_with_pictures(exposed.head(options.exposed), [roles["member"], roles["holdout"]]),
        samples=shrunk(Path(f"metrics/samples/{target}.png").read_bytes(), SHEET),
        taken=_json(Path(f"data/taken/{target}.json")),
        sets=sets,
        left_out=_left_out({"": source.images, **{f"{one['name']}: ": one["images"] for one in sets}}),
        copies=copies_shown(target),
    )


def _epsilon_bound(
    source: Source, roles: dict[str, Path], judged: pd.DataFrame, confidence: float
) -> dict[str, Any] | None:
    """What the judge's verdicts show of epsilon; None where members were not drawn at random by this pipeline."""
    drawn_by = read_metadata(roles["member"])["drawn_by"]
    if source.source != "train" or not isinstance(drawn_by.get("member"), int | float):
        return None
    member, holdout = (judged[judged["role"] == role] for role in ("member", "holdout"))
    units = {
        role: image_units(roles[role], rows["image_id"], "there is a verdict")
        for role, rows in (("member", member), ("holdout", holdout))
    }
    rows, partners = drawn_pairs(units["member"], units["holdout"], drawn_by["seed"])
    score = [of_role["membership_score"].to_numpy() for of_role in (member, holdout)]
    return asdict(epsilon_bound(score[0][rows], score[1][partners], confidence))


def _supervised(facts: dict[str, Any]) -> dict[str, Any] | None:
    """The figures, at the rate of the headline, of an attacker that knows half of the members; None: they are few."""
    if not (figures := facts["supervised"]):
        return None
    level = facts["gain_level"]
    found = {"auc": "auc", "tpr": f"tpr_at_fpr_{level}", "gain": f"tpr_gain_at_fpr_{level}", "auc_gain": "auc_gain"}
    return {f"{name}{end}": figures[f"{key}{end}"] for name, key in found.items() for end in ENDS}


def _checks(target: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Check -> what it found: those of `check`, the null check, and the direction of the scores."""
    found = {name: one for name, one in _json(Path(f"metrics/checks/{target}.json")).items() if isinstance(one, dict)}
    null = {f"null_check_{role}": one for role, one in facts["null_check"].items()}
    wrong = facts["wrong_way_round"]
    return {**found, **null, "wrong_way_round": {"fails": bool(wrong), "sentences": wrong}}


def _curves(target: str) -> dict[str, pd.DataFrame]:
    """The CSV files of `evaluate` by name, `fit` of all learners, and `loss` of the target's training."""
    curves = {path.stem: pd.read_csv(path) for path in sorted(Path(f"metrics/plots/{target}").glob("*.csv"))}
    fits = [pd.read_csv(f"metrics/fit/{target}/{name}.csv").assign(learner=name) for name in names("learners")]
    return {**curves, "fit": pd.concat(fits), "loss": pd.read_csv(f"metrics/training/{target}/loss.csv")}


def _with_pictures(exposed: pd.DataFrame, roles: list[Path]) -> list[dict[str, Any]]:
    images = _images(roles, {*exposed["image_id"], *exposed["holdout_id"].dropna()})
    small = {image_id: shrunk(png, THUMBNAIL) for image_id, png in images.items()}
    return [
        {**row, "png": small[row["image_id"]], "holdout_png": small.get(row["holdout_id"])}
        for row in exposed.to_dict(orient="records")
    ]


def _set(name: str) -> dict[str, Any]:
    """What is shown of a set of suspects."""
    path = Path(f"data/verdicts/suspects/{name}.parquet")
    facts, verdicts = read_metadata(path), read_table(path).to_pandas()
    images = _images([Path(f"data/images/{facts['images']}.parquet")], set(verdicts["image_id"]))
    plot = draw_p_values(verdicts, 1 / (facts["figures"]["calibration"] + 1))
    options, found = facts["options"], facts["checks"]
    verdict: Verdict = set_verdict(
        facts["figures"], failing_of(found), options["confidence"], options["false_discovery_rate"]
    )
    too_few = found.get("blind_suspect", {}).get("auc", 0) is None
    shown = {"checks": check_rows(found), "suspects": most_confident(verdicts, images), "plot": plot}
    return {**facts, **shown, "name": name, "verdict": verdict, "too_few": too_few}


def _left_out(datasets: dict[str, str]) -> list[str]:
    """Notes of the readers of some datasets.  datasets : what a note begins with -> dataset."""
    tables = {of: read_metadata(Path(f"data/images/{dataset}.parquet")) for of, dataset in datasets.items()}
    return [of + note for of, facts in tables.items() for note in facts.get("notes", [])]


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _base(target: str) -> str | None:
    """The base or the reference of a target, in words; None where there is neither."""
    base, reference = section("target", TargetOptions, target).base, section("split", Split, target).reference
    if base:
        return f"the base {base.path if isinstance(base, PinnedFolder) else f'{base.repo} at {base.revision[:12]}'}"
    return f"a reference, trained on {reference} images set apart" if reference else None


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
