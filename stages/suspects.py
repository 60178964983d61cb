"""suspects: was it trained on these?  A verdict on every image of a set, and one on all of them together.

The headline judge of `evaluate`, fitted and calibrated without them, judges the suspects as it did members and holdout.
Its error rates are those that were measured there.  With `fit` long done, new suspects cost their features, their
scores and this stage.

First the checks that `check` makes of members are made of them, and the null check.  Near-duplicates among them are one
picture: it counts once, by the first of them, and all have its verdict.  Refused are suspects of another size, those
that are exact duplicates of certain non-members, and those whose labels or captions, where the target is conditioned on
them, tell them from non-members.

Where labels are known, suspects are compared with images of their own labels, in the same shares.  Where images are of
units, units count: a check looks at one image of each.  Where a check fails, the figures that would be read as evidence
are not written.

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

from leakgauge.checks.near_duplicates import hashed, pictures
from leakgauge.checks.null_check import null_check
from leakgauge.checks.plan import REFERENCE, Plan
from leakgauge.checks.roles import RoleChecks, RoleImages, condition_sentences, p_values
from leakgauge.cli import run
from leakgauge.config import PARAMS, key_name, section, suspects_entry
from leakgauge.errors import InputError, warn
from leakgauge.files import write_json
from leakgauge.inference.conformal import AttackResult, judge
from leakgauge.inference.fusion import fuse
from leakgauge.inference.suspects import FEWEST_OF_LABEL, same_labels, set_figures, suspect_verdicts, withheld
from leakgauge.inference.units import unit_codes
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
    unit_names,
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
    picture = _pictures(target, table, known)
    distinct = picture == np.arange(len(picture))
    asked = RoleImages.of(table.filter(pa.array(distinct)), features[distinct])
    alike, why_all = _of_their_labels(target, asked, known)
    findings = _checks(suspects, target, asked, known, alike)
    if why_all:
        warn(f"{suspects}: {why_all}")
    facts = read_metadata(Path(f"data/verdicts/{target}.parquet"))
    result = _result(target, facts, scores, decode_images(table), features, alike)
    options, judge = facts["options"], facts["headline"]["judge"]
    units = np.array(table.column("unit").to_pylist(), dtype=object) if "unit" in table.column_names else None
    ids = table.column("image_id").to_pylist()
    verdicts = suspect_verdicts(ids, result, picture, options["alphas"], options["false_discovery_rate"], units)
    measured, of_known = _measured(target, judge, alike)
    fails = sum(found["fails"] for found in findings.values())
    answer = set_figures(result, verdicts, measured, options["confidence"], of_known)
    if fails:
        answer, verdicts = withheld(answer), verdicts.assign(named=False)
    figures = {
        "target": target,
        **answer,
        **({"by_label": True} if alike else {}),
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
    write_json(
        Path(f"metrics/suspects/{suspects}.json"),
        {name.replace("_ci", ""): figures[name] for name in short} | {"failed": fails},
    )
    write_json(
        Path(f"metrics/details/suspects/{suspects}.json"),
        {**figures, "checks": findings, "p_values": p_values(findings)},
    )
    for name, found in findings.items():
        if found["fails"]:
            warn(f"{suspects}: check {name} fails: no p-value is given; the report says what that means")


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


def _plan(target: str, table: pa.Table, known: dict[str, RoleImages]) -> tuple[Check, Plan]:
    options = section("check", Check, target)
    return options, Plan.of(options, ["suspect"], "caption" in table.column_names, REFERENCE in known)


def _pictures(target: str, table: pa.Table, known: dict[str, RoleImages]) -> np.ndarray:
    """(N,) int, the first suspect of each one's picture."""
    options, plan = _plan(target, table, known)
    images = hashed(decode_images(table))
    return pictures(images, options.hash_distance, RoleChecks(known, options, plan).near_rmse)


def _of_their_labels(
    target: str, asked: RoleImages, known: dict[str, RoleImages]
) -> tuple[dict[str, set[str]], str | None]:
    """Role -> the image_ids that suspects are compared with, by label; empty where they are compared with all.

    And, where labels are known all the same, why with all.
    """
    members = read_table(Path(f"data/roles/{target}/member.parquet"), ["image_id", "label", "sha256"]).sort_by("sha256")
    tables = {**{role: known[role].table for role in KNOWN}, "member": members}
    labels = {role: of.column("label").to_pylist() for role, of in tables.items()}
    asked_about = asked.table.column("label").to_pylist()
    rows = {role: same_labels(asked_about, of_role) for role, of_role in labels.items()}
    for role in KNOWN:
        if rows[role] is None:
            few = (
                f"of some label of theirs there are fewer than {FEWEST_OF_LABEL} {role} images: suspects are compared "
                "with images of all labels"
            )
            return {}, few if None not in (*asked_about, *labels[role]) else None
    found = {
        role: set() if rows[role] is None else set(of.column("image_id").take(pa.array(rows[role])).to_pylist())
        for role, of in tables.items()
    }
    return found, None


def _measured(
    target: str, judge: str, alike: dict[str, set[str]]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray | None]]:
    """Role -> membership scores by the judge, and units, of the members and holdout images that are compared."""
    rows = read_table(Path(f"data/verdicts/{target}.parquet")).to_pandas().query("learner == @judge")
    scores, units = {}, {}
    for role, of_role in rows.groupby("role"):
        compared = of_role[of_role["image_id"].isin(alike[role])] if alike else of_role
        names = unit_names(Path(f"data/roles/{target}/{role}.parquet"))
        scores[role] = compared["membership_score"].to_numpy()
        units[role] = unit_codes(np.array([names.get(image, image) for image in compared["image_id"]], dtype=object))
    return scores, units


def _checks(
    suspects: str, target: str, asked: RoleImages, known: dict[str, RoleImages], alike: dict[str, set[str]]
) -> dict[str, dict[str, Any]]:
    """Check -> what it found of one suspect a picture, or a unit.

    Raises InputError where the target is conditioned on labels or captions that tell suspects from non-members.
    """
    options, plan = _plan(target, asked.table, known)
    compared = {
        role: _one_a_unit(_chosen(of, alike[role]) if role in alike else of)
        for role, of in {**known, "suspect": asked}.items()
    }
    findings = RoleChecks(compared, options, plan).findings()
    scores = read_metadata(Path(f"data/suspects/{suspects}/scores.parquet"))
    for sentence in condition_sentences(findings).get(scores["conditioned_on"], {}).values():
        raise InputError(
            f"{PARAMS}: {key_name('score', 'condition', target)}: given, but the {scores['conditioned_on']} gives "
            f"suspects away, and so does a target that is conditioned on it, trained or not: {sentence}; set "
            f"targets.{target}.score: {{condition: none}}"
        )
    pairs = RoleChecks({**known, "suspect": asked}, options, plan).pairs()
    write_table(Path(f"data/suspects/{suspects}/near_duplicates.parquet"), pairs, {"suspects": suspects})
    null = _null_scores(suspects, target, compared)
    if len(null["suspect"]) and len(null["holdout"]):
        findings["null_check_suspect"] = null_check(null, plan)["suspect"]
    return findings


def _chosen(images: RoleImages, ids: set[str]) -> RoleImages:
    return images[np.flatnonzero([name in ids for name in images.table.column("image_id").to_pylist()])]


def _one_a_unit(images: RoleImages) -> RoleImages:
    """The first of each unit, by hash; all where images have none."""
    if "unit" not in images.table.column_names:
        return images
    return images[np.sort(np.unique(images.table.column("unit").to_numpy(), return_index=True)[1])]


def _null_scores(suspects: str, target: str, compared: dict[str, RoleImages]) -> dict[str, np.ndarray]:
    """Role -> (N, K) scores under untrained networks of the images that are compared."""
    paths = {role: Path(f"data/null/{target}/{role}.parquet") for role in KNOWN}
    scores = {}
    for role, path in {**paths, "suspect": Path(f"data/suspects/{suspects}/null.parquet")}.items():
        rows = read_table(path).to_pandas()
        rows = rows[rows["image_id"].isin(compared[role].table.column("image_id").to_pylist())]
        scores[role] = rows.drop(columns="image_id").to_numpy()
    return scores


def _result(
    target: str,
    facts: dict[str, Any],
    scores: Path,
    pixels: np.ndarray,
    features: np.ndarray,
    alike: dict[str, set[str]],
) -> AttackResult:
    """The headline judge's result of the suspects.  Raises InputError if it is not the one that `evaluate` measured.

    pixels : (N, C, H, W) uint8.  features : (N, F) float32.  alike : auxiliary image_ids that p-values come from, by
    role; empty for all.
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
    ids = calibration.ids["auxiliary"].to_pylist()
    calibrates, names = calibration.calibrates, unit_names(Path(f"data/roles/{target}/auxiliary.parquet"))
    if alike:
        calibrates = calibrates & np.array([image in alike["auxiliary"] for image in ids])
    units = unit_codes(np.array([names[image] for image in ids], dtype=object))
    return judge({"suspect": asked_about}, auxiliary, calibration.out_of_bag, calibrates, units)


def _copies_of_members(target: str, table: pa.Table) -> int:
    members = read_table(Path(f"data/roles/{target}/member.parquet"), ["sha256"]).column("sha256").combine_chunks()
    return pc.sum(pc.is_in(table.column("sha256"), value_set=members)).as_py() or 0


if __name__ == "__main__":
    run(suspects, suspects="a name in the `suspects` registry of params.yaml")
