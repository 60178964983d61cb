"""guard: what could make the audit's figures wrong, looked for without the target and without a score.

1. Near-duplicates: have members more of them among auxiliary or holdout images than other non-members have?
2. Blind check: are members or suspects told from non-members, or auxiliary from holdout images, by features alone?
3. Labels and captions, where there are any: are they independent of the role?

All have exact p-values (but for what counts as near, which is measured on the holdout); suspects that are
near-duplicates of one another are one picture and count once.  Roles drawn at random set off any of them, or the null
check of stage `check`, with probability `guard.false_alarm` at most (Bonferroni).  Beside these stands a statement of
precision, which is no alarm: between which bounds the false-positive rate at alpha lies by the chance of drawing the
images that calibrate.

data/roles/<target>/*.parquet, data/features/<target>/*.parquet -> metrics/guards/<target>.json,
data/guards/<target>.parquet (auxiliary and holdout images with a near-duplicate among members or suspects),
data/pictures/<target>.parquet (for each suspect, the first suspect of the same picture)
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import ConfigDict, NonNegativeInt

from leakgauge.checks.blind import Blind, blind_check
from leakgauge.checks.conditions import caption_roles, label_roles
from leakgauge.checks.near_duplicates import Images, excess_p_value, hashed, nearest, pictures
from leakgauge.checks.plan import CONFIDENCE, Guard, Plan, comparisons
from leakgauge.cli import run
from leakgauge.config import Options, section
from leakgauge.errors import InputError, warn
from leakgauge.files import write_json
from leakgauge.inference.conformal import fpr_interval
from leakgauge.inference.metrics import Evaluate, level_name, named_rate
from leakgauge.inference.roc import exact_rate
from leakgauge.tables import ROLES, captions_of, decode_images, read_features, read_table, write_table

ASKED_ABOUT = ("member", "suspect")  # whose near-duplicates among non-members are listed
CONTROLS = {"auxiliary": "holdout", "holdout": "auxiliary"}  # where members' near-duplicates are sought: who else's are
PAIRS = pa.schema(
    [
        *((name, pa.string()) for name in ("image_id_a", "role_a", "image_id_b", "role_b")),
        ("hash_distance", pa.int64()),
        ("pixel_rmse", pa.float64()),
    ]
)
Finding = dict[str, Any]  # figures by name, and whether the guard `fires`


class Calibrating(Options):
    """Of section `fit`: what decides how many images calibrate."""

    model_config = ConfigDict(extra="ignore")
    calibration: NonNegativeInt


def guard(target: str) -> None:
    """Write what each guard found, and the near-duplicates of members."""
    options = section("guard", Guard, target)
    alphas = section("evaluate", Evaluate, target).alphas
    calibration = section("fit", Calibrating, target).calibration
    tables = {role: read_table(Path(f"data/roles/{target}/{role}.parquet")) for role in (*ROLES, "suspect")}
    tables = {role: table for role, table in tables.items() if table.num_rows}  # perhaps no member is known
    features = {role: _features(target, role, table) for role, table in tables.items()}
    for role in tables.keys() - {"suspect"}:  # neither name nor order decides on folds, or between equally near images
        tables[role], features[role] = _by_pixels(tables[role], features[role])
    images = {role: hashed(decode_images(table)) for role, table in tables.items()}
    plan, asked_about = options.plan(tables), [role for role in ASKED_ABOUT if role in tables]
    typical = float(np.median(nearest(images["holdout"], images["auxiliary"]).pixel_rmse))
    pairs = _pairs(tables, images, asked_about, options, typical)
    ids, picture = pa.array([], pa.string()), np.zeros(0, dtype=np.int64)
    if "suspect" in tables:
        ids = tables["suspect"].column("image_id")
        picture = pictures(images["suspect"], options.hash_distance, options.pixel_rmse * typical)
        first = np.unique(picture)  # near-duplicates of a suspect are no further evidence
        images["suspect"] = images["suspect"][first]
        tables["suspect"], features["suspect"] = _by_pixels(
            tables["suspect"].take(pa.array(first)), features["suspect"][first]
        )
    findings = {
        **_near_duplicates(images, asked_about, options, typical, plan.level),
        **_blind_checks(features, options, plan),
        **_condition_checks(tables, plan),
    }
    same_picture = pa.table({"image_id": ids, "picture": ids.take(pa.array(picture))})
    write_table(Path(f"data/pictures/{target}.parquet"), same_picture, {"target": target})
    calibrating = calibration or tables["auxiliary"].num_rows
    write_table(Path(f"data/guards/{target}.parquet"), pairs, {"target": target, "typical_pixel_rmse": typical})
    counts = {"near_duplicates": pairs.num_rows, "fires": sum(found["fires"] for found in findings.values())}
    ranges = {alpha: fpr_interval(calibrating, alpha, CONFIDENCE) for alpha in alphas}
    precision = {
        f"fpr_at_alpha_{level_name(alpha)}": {"images": calibrating, "low": low, "high": high}
        for alpha, (low, high) in ranges.items()
    }
    figures = {**counts, **findings, **precision}
    write_json(Path(f"metrics/guards/{target}.json"), figures)
    for name, found in findings.items():
        if found["fires"]:
            warn(f"{target}: guard {name} fires: the report says what that means")
    print(f"{target}: {counts['fires']} of {len(findings)} guards fire; {pairs.num_rows} near-duplicates across roles")
    said = (f"at alpha = {alpha:.3g} between {low:.2g} and {high:.2g}" for alpha, (low, high) in ranges.items())
    print(f"{target}: over draws of {calibrating} calibrating images the false-positive rate lies {', '.join(said)}")


def _features(target: str, role: str, images: pa.Table) -> np.ndarray:
    """(N, F) float32, row by row those of the images.  Raises InputError if they describe others."""
    path = Path(f"data/features/{target}/{role}.parquet")
    ids, values = read_features(path)
    if ids != images.column("image_id").to_pylist():
        raise InputError(
            f"{path}: describes other images than data/roles/{target}/{role}.parquet holds: run `dvc repro`"
        )
    return values


def _by_pixels(images: pa.Table, features: np.ndarray) -> tuple[pa.Table, np.ndarray]:
    """The same rows, in the order of the hashes of their pixels."""
    order = np.argsort(images.column("sha256").to_numpy())
    return images.take(pa.array(order)), features[order]


def _pairs(
    tables: dict[str, pa.Table], images: dict[str, Images], asked_about: list[str], options: Guard, typical: float
) -> pa.Table:
    """Each non-member with a near-duplicate among members or suspects, with the nearest; the closest pairs first."""
    parts = [PAIRS.empty_table().to_pandas()]
    for first, role in itertools.product(asked_about, CONTROLS):
        found = nearest(images[role], images[first])
        near = found.near(options.hash_distance, options.pixel_rmse * typical)
        columns = {
            "image_id_a": tables[first].column("image_id").to_pandas()[found.place[near]].to_numpy(),
            "role_a": first,
            "image_id_b": tables[role].column("image_id").to_pandas()[near].to_numpy(),
            "role_b": role,
            "hash_distance": found.hash_distance[near],
            "pixel_rmse": found.pixel_rmse[near],
        }
        parts.append(pd.DataFrame(columns))
    pairs = pd.concat(parts).sort_values(["hash_distance", "pixel_rmse", "image_id_b"])
    return pa.Table.from_pandas(pairs, schema=PAIRS, preserve_index=False)


def _near_duplicates(
    images: dict[str, Images], asked_about: list[str], options: Guard, typical: float, level: float
) -> dict[str, Finding]:
    """In auxiliary and in holdout images: the share of members that have a near-duplicate there, and of the others."""
    findings = {}
    for first, (among, control) in itertools.product(asked_about, CONTROLS.items()):
        near = {
            role: nearest(images[role], images[among]).near(options.hash_distance, options.pixel_rmse * typical)
            for role in (first, control)
        }
        shares: Finding = {}
        for role, of_role in near.items():
            shares |= named_rate(role, exact_rate(int(of_role.sum()), len(of_role), CONFIDENCE))
        p_value = excess_p_value(near[first], near[control])
        findings[f"{first}_near_{among}"] = {**shares, "p_value": p_value, "fires": p_value <= level}
    return findings


def _blind_checks(features: dict[str, np.ndarray], options: Guard, plan: Plan) -> dict[str, Finding]:
    """Each comparison's AUC by image features; None where a set is too small to tell."""
    findings = {}
    for role, own, others in comparisons(features):
        found = blind_check(own, np.stack(others), CONFIDENCE, plan.permutations, plan.seed)
        if found is None:
            empty = dict.fromkeys(("auc", "auc_ci_low", "auc_ci_high", "p_value"))
            findings[f"blind_{role}"] = {**empty, "fires": False}
            continue
        fires = found.p_value <= plan.level and found.low > options.blind_auc
        findings[f"blind_{role}"] = {**_of_blind(found), "fires": fires}
    return findings


def _condition_checks(tables: dict[str, pa.Table], plan: Plan) -> dict[str, Finding]:
    """Each comparison's labels and captions, where either side has some."""
    labels = label_roles({role: table.column("label").to_pylist() for role, table in tables.items()}, plan)
    captions = caption_roles({role: captions_of(table) for role, table in tables.items()}, plan)
    findings = {f"label_role_{role}": vars(found) for role, found in labels.items()}
    findings |= {f"caption_role_{role}": _of_blind(found) for role, found in captions.items()}
    return {name: {**found, "fires": found["p_value"] <= plan.level} for name, found in findings.items()}


def _of_blind(found: Blind) -> Finding:
    return {"auc": found.auc, "auc_ci_low": found.low, "auc_ci_high": found.high, "p_value": found.p_value}


if __name__ == "__main__":
    run(guard, target="a name in the `targets` registry of params.yaml")
