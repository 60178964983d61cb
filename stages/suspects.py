"""suspects: was it trained on these?  A verdict on every image of a set, and one on all of them together.

The headline judge of `evaluate`, fitted and calibrated without them, judges the suspects as it did members and holdout.
Its error rates are those that were measured there.  With `fit` long done, new suspects cost their features, their
scores and this stage.

First the checks that `check` makes of members are made of them, and the null check.  Near-duplicates among them are one
picture: it counts once, by the first of them, and all have its verdict.  Refused are suspects of another size, those
that are exact duplicates of certain non-members, and those whose labels or captions, where the target is conditioned on
them, tell them from non-members.

data/{images,features}/<dataset>.parquet, data/suspects/<set>/{scores,null}.parquet,
data/{roles,features,null}/<target>/*.parquet, data/z/<target>/, models/quantile/<target>/,
data/verdicts/<target>.parquet -> data/verdicts/suspects/<set>.parquet, data/suspects/<set>/near_duplicates.parquet,
metrics/suspects/<set>.json (the short answer), metrics/details/suspects/<set>.json
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leakgauge.checks.near_duplicates import pictures
from leakgauge.checks.null_check import null_check
from leakgauge.checks.plan import REFERENCE, Plan
from leakgauge.checks.roles import RoleChecks, RoleImages, condition_sentences, p_values
from leakgauge.cli import run
from leakgauge.config import PARAMS, key_name, section, suspects_entry
from leakgauge.errors import InputError, warn
from leakgauge.files import write_json
from leakgauge.inference.conformal import AttackResult, judge
from leakgauge.inference.fusion import fuse
from leakgauge.inference.suspects import set_figures, suspect_verdicts
from leakgauge.inference.z_scores import ZTable
from leakgauge.options import Check
from leakgauge.quantile.bag import Bag, z_columns
from leakgauge.quantile.inputs import Inputs, read_base
from leakgauge.tables import (
    check_computed_on,
    check_target,
    decode_images,
    log_scores,
    read_described,
    read_ids,
    read_metadata,
    read_table,
    write_table,
)

KNOWN = ("auxiliary", "holdout")  # certain non-members
SIZE = ("width", "height", "channels")


def suspects(suspects: str) -> None:
    """Write the verdicts on a set, what they come to, and what the checks found."""
    entry, folder = suspects_entry(suspects), Path(f"data/suspects/{suspects}")
    target, scores = entry.target, folder / "scores.parquet"
    images, described = (Path(f"data/{kind}/{entry.images}.parquet") for kind in ("images", "features"))
    table, features = read_described(images, described)
    if read_ids(scores).to_pylist() != table.column("image_id").to_pylist():
        raise InputError(f"{scores}: its image_ids do not match {images}: run `dvc repro`")
    known = {role: of for role in (*KNOWN, REFERENCE) if (of := _known(target, role))}
    _refuse_strange(images, table, {role: of.table for role, of in known.items()})
    picture, findings = _checks(suspects, target, table, features, known)
    facts = read_metadata(Path(f"data/verdicts/{target}.parquet"))
    result = _result(target, facts, scores, decode_images(table), features)
    options = facts["options"]
    ids = table.column("image_id").to_pylist()
    verdicts = suspect_verdicts(ids, result, picture, options["alphas"], options["false_discovery_rate"])
    judge = facts["headline"]["judge"]
    measured = read_table(Path(f"data/verdicts/{target}.parquet")).to_pandas().query("learner == @judge")
    of_roles = {role: rows["membership_score"].to_numpy() for role, rows in measured.groupby("role")}
    fails = sum(found["fails"] for found in findings.values())
    figures = {
        "target": target,
        **set_figures(result, verdicts, of_roles, options["confidence"]),
        "judge": judge,
        "copies_of_members": _copies_of_members(target, table),
        "checks_failed": fails,
    }
    said = {"target": target, "suspects": suspects, "images": entry.images, "options": options}
    page = {**said, "figures": figures, "checks": findings}
    write_table(
        Path(f"data/verdicts/suspects/{suspects}.parquet"), pa.Table.from_pandas(verdicts, preserve_index=False), page
    )
    short = ("judge", "suspects", "named", "p_value", "fraction_ci_low", "fraction_ci_high")
    answer = {name.replace("_ci", ""): figures[name] for name in short} | {"failed": fails}
    write_json(Path(f"metrics/suspects/{suspects}.json"), answer)
    write_json(
        Path(f"metrics/details/suspects/{suspects}.json"),
        {**figures, "checks": findings, "p_values": p_values(findings)},
    )
    for name, found in findings.items():
        if found["fails"]:
            warn(f"{suspects}: check {name} fails: the report says what that means")


def _known(target: str, role: str) -> RoleImages | None:
    """The images of a role; None where it has none, as where no reference is trained."""
    table, features = read_described(*(Path(f"data/{kind}/{target}/{role}.parquet") for kind in ("roles", "features")))
    return RoleImages.of(table, features) if table.num_rows else None


def _refuse_strange(path: Path, table: pa.Table, known: dict[str, pa.Table]) -> None:
    """Raises InputError for no suspects, another size than the target's images have, or certain non-members."""
    if not table.num_rows:
        raise InputError(f"{path}: no images there to ask about")
    sizes = [set(zip(*(of.column(name).to_pylist() for name in SIZE), strict=True)) for of in (known["holdout"], table)]
    if strange := sizes[1] - sizes[0]:
        (width, height, channels), expected = strange.pop(), sizes[0].pop()
        raise InputError(
            f"{path}: suspects are {width}x{height} with {channels} channels, the target's images "
            f"{expected[0]}x{expected[1]} with {expected[2]}"
        )
    asked_about = table.column("sha256").combine_chunks()
    for role, of_role in known.items():
        place = pc.index_in(asked_about, value_set=of_role.column("sha256").combine_chunks()).drop_null()
        if len(place):
            image = of_role.column("image_id")[place[0].as_py()].as_py()
            raise InputError(
                f"{path}: {len(place)} suspects are exact duplicates of {role} images, the first of '{image}': "
                "remove them from one of the two sets"
            )


def _checks(
    suspects: str, target: str, table: pa.Table, features: np.ndarray, known: dict[str, RoleImages]
) -> tuple[np.ndarray, dict[str, dict[str, Any]]]:
    """(N,) int, the first suspect of each one's picture; and check -> what it found of one suspect a picture.

    Raises InputError where the target is conditioned on labels or captions that tell suspects from non-members.
    """
    options = section("check", Check, target)
    plan = Plan.of(options, ["suspect"], "caption" in table.column_names, REFERENCE in known)
    near_rmse = RoleChecks(known, options, plan).near_rmse
    in_order = RoleImages.of(table, features)
    place = np.argsort(table.column("sha256").to_numpy())
    hashed = in_order.hashed[np.argsort(place)]  # back in the order of the table
    picture = pictures(hashed, options.hash_distance, near_rmse)
    distinct = picture == np.arange(len(picture))
    first = RoleImages.of(table.filter(pa.array(distinct)), features[distinct])
    checks = RoleChecks({**known, "suspect": first}, options, plan)
    findings = checks.findings()
    scores = read_metadata(Path(f"data/suspects/{suspects}/scores.parquet"))
    for sentence in condition_sentences(findings).get(scores["conditioned_on"], {}).values():
        raise InputError(
            f"{PARAMS}: {key_name('score', 'condition', target)}: given, but the {scores['conditioned_on']} gives "
            f"suspects away, and so does a target that is conditioned on it, trained or not: {sentence}; set "
            f"targets.{target}.score: {{condition: none}}"
        )
    write_table(Path(f"data/suspects/{suspects}/near_duplicates.parquet"), checks.pairs(), {"suspects": suspects})
    null = _null_scores(suspects, target, set(table.column("image_id").filter(pa.array(distinct)).to_pylist()))
    if len(null["suspect"]) and len(null["holdout"]):
        findings["null_check_suspect"] = null_check(null, plan)["suspect"]
    return picture, findings


def _null_scores(suspects: str, target: str, distinct: set[str]) -> dict[str, np.ndarray]:
    """Role -> (N, K) scores under untrained networks; of suspects those that are the first of their picture."""
    paths = {role: Path(f"data/null/{target}/{role}.parquet") for role in KNOWN}
    scores = {}
    for role, path in {**paths, "suspect": Path(f"data/suspects/{suspects}/null.parquet")}.items():
        rows = read_table(path).to_pandas()
        rows = rows[rows["image_id"].isin(distinct)] if role == "suspect" else rows
        scores[role] = rows.drop(columns="image_id").to_numpy()
    return scores


def _result(target: str, facts: dict[str, Any], scores: Path, pixels: np.ndarray, features: np.ndarray) -> AttackResult:
    """The headline judge's result of the suspects.  Raises InputError if it is not the one that `evaluate` measured.

    pixels : (N, C, H, W) uint8.  features : (N, F) float32.
    """
    how = facts["made_of"][facts["headline"]["judge"]]
    bag = Bag.open(Path(f"models/quantile/{target}/{how['learner']}"))
    calibration = ZTable.open(Path(f"data/z/{target}/{how['learner']}.parquet"))
    for path, description in ((calibration.path, calibration.bag), (Path(f"data/verdicts/{target}.parquet"), None)):
        if bag.description != (facts["bags"][how["learner"]] if description is None else description):
            raise InputError(f"{bag.folder}: another bag than the one behind {path}: run `dvc repro`")
    check_target(scores, bag.description["target_sha256"], bag.folder)
    check_computed_on(scores, bag.description, bag.folder)
    learnt = bag.description["scores"]
    observed = np.stack([log_scores(scores, column) for column in learnt], axis=1)
    columns = z_columns(bag, Inputs(pixels, features, *read_base(scores, learnt)), observed, "suspect")
    used = how["fusion"] or [facts["selection"]["score"]]
    auxiliary, asked_about = (
        fuse(np.stack([read(column) for column in used], axis=-1))
        for read in (lambda column: calibration.read(column)["auxiliary"], lambda column: columns[f"{column}.z"])
    )
    return judge({"suspect": asked_about}, auxiliary, calibration.out_of_bag, calibration.calibrates)


def _copies_of_members(target: str, table: pa.Table) -> int:
    members = read_table(Path(f"data/roles/{target}/member.parquet"), ["sha256"]).column("sha256").combine_chunks()
    return pc.sum(pc.is_in(table.column("sha256"), value_set=members)).as_py() or 0


if __name__ == "__main__":
    run(suspects, suspects="a name in the `suspects` registry of params.yaml")
