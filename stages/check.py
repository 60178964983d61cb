"""check: before anything is scored: does something other than training tell the roles?

1. Condition.  A target that is told labels (captions) answers by them, trained or not.  If they are not independent of
   the role, nothing is scored: the stage fails.
2. Null check.  The images are scored under copies of the target whose networks have weights drawn anew: they have
   learnt nothing.  Where such a score tells members (suspects) from non-members, or auxiliary from holdout images,
   something other than training tells the roles, and the page says so in red.

The level of each test is `guard.false_alarm`, shared out over all of them (Bonferroni).

models/target/<target>/, data/roles/<target>/*.parquet, data/pictures/<target>.parquet -> data/checks/<target>.json
(what the target is told, nothing else: `score` waits for it, and runs again when that changes),
metrics/checks/<target>.json
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from leakgauge.attacks.registry import Attacks, Score
from leakgauge.checks.conditions import caption_roles, label_roles
from leakgauge.checks.null_check import null_check
from leakgauge.checks.plan import Guard, Plan
from leakgauge.cli import run
from leakgauge.compute import best_device
from leakgauge.config import PARAMS, key_name, section, target_entry
from leakgauge.diffusion.denoiser import PLAIN, untrained
from leakgauge.errors import InputError, warn
from leakgauge.files import write_json
from leakgauge.inference.metrics import drawn_by_name
from leakgauge.scoring import Job, Scorer, Shard
from leakgauge.tables import ROLES, captions_of, decode_images, read_table

NETWORKS = 3  # untrained copies: what one of them cannot tell, another may
IMAGES = 300  # of a role, at most
Finding = dict[str, Any]


def check(target: str) -> None:
    """Write what the target may be told and the null check.  Raises InputError if that tells the role."""
    options, column, found = section("guard", Guard, target), None, None
    if target_entry(target).source != "scores":
        tables = {role: read_table(Path(f"data/roles/{target}/{role}.parquet")) for role in (*ROLES, "suspect")}
        tables = {role: table for role, table in tables.items() if table.num_rows}
        scorer = _scorer(target)
        for role, table in tables.items():
            scorer.conditioning_of(table, f"{role} images")
        if "suspect" in tables:
            tables["suspect"] = _distinct(target, tables["suspect"])
        column = scorer.denoiser.condition.column(scorer.job.options.condition)
        plan = options.plan(tables)
        _check_condition(target, column, tables, plan)
        drawn = {role: _drawn(table, plan.seed) for role, table in tables.items()}
        found = null_check(list(_untrained_scores(scorer, drawn, plan.seed)), plan)
    fires = sum(finding["fires"] for finding in (found or {}).values())
    write_json(Path(f"data/checks/{target}.json"), {"condition": column})
    write_json(Path(f"metrics/checks/{target}.json"), {"condition": column, "fires": fires, "null_check": found})
    for role, finding in (found or {}).items():
        if finding["fires"]:
            warn(
                f"{target}: null check: an untrained network tells {role} images from others, AUC {finding['auc']:.3f} "
                f"({finding['auc_ci_low']:.3f} to {finding['auc_ci_high']:.3f}): something other than training does"
            )
    null = f"{fires} of {len(found)} comparisons fire" if found else "not possible, there are scores alone"
    print(f"{target}: is told {f'the {column} of an image' if column else 'nothing of an image'}; null check: {null}")


def _scorer(target: str) -> Scorer:
    """The target as `score` opens it, but with one cheap score and no shortcut.  Raises InputError."""
    options = section("score", Score, target)
    model, images = Path(f"models/target/{target}"), Path(f"data/roles/{target}/auxiliary.parquet")
    cheap = options.model_copy(update={"attacks": _cheap(options.attacks)})
    return Scorer(Job(target, model, images, cheap, PLAIN), best_device())


def _cheap(attacks: Attacks) -> Attacks:
    """The first t-errors of the walk, of which the last is taken: three network calls an image."""
    grid = attacks.t_error.model_copy(update={"last": min(attacks.t_error.interval, attacks.t_error.last)})
    none: dict[str, list[int]] = {"pia": [], "pian": [], "naive_loss": [], "sima": []}
    no_rediffuse = attacks.rediffuse.model_copy(update={"timesteps": []})
    return attacks.model_copy(update={"t_error": grid, **none, "rediffuse": no_rediffuse})


def _distinct(target: str, suspects: pa.Table) -> pa.Table:
    """One suspect of each picture: near-duplicates are no further evidence."""
    pictures = read_table(Path(f"data/pictures/{target}.parquet"), ["picture"]).column("picture").combine_chunks()
    return suspects.filter(pc.is_in(suspects.column("image_id"), value_set=pictures))


def _check_condition(target: str, column: str | None, tables: dict[str, pa.Table], plan: Plan) -> None:
    """Raises InputError where what the target is told depends on the role."""
    found: dict[str, str] = {}
    if column == "label":
        labels = {role: table.column("label").to_pylist() for role, table in tables.items()}
        found = {
            role: f"{one.of_first} of the {one.images} images of label {one.label} are {_called(role)}, expected were "
            f"{one.expected:.3g} (p = {one.p_value:.2g})"
            for role, one in label_roles(labels, plan).items()
            if one.p_value <= plan.level
        }
    elif column == "caption":
        captions = {role: captions_of(table) for role, table in tables.items()}
        found = {
            role: f"words and lengths of captions tell {_called(role)} from others, AUC {one.auc:.3f} "
            f"(p = {one.p_value:.2g})"
            for role, one in caption_roles(captions, plan).items()
            if one.p_value <= plan.level
        }
    for sentence in found.values():
        raise InputError(
            f"{PARAMS}: {key_name('score', 'condition', target)}: given, but the {column} tells the role, and a target "
            f"answers by it whether trained or not: {sentence}; set targets.{target}.score: {{condition: none}}, or "
            f"draw roles with the same {column}s"
        )


def _called(role: str) -> str:
    return f"{role}s" if role in ("member", "suspect") else f"{role} images"


def _drawn(table: pa.Table, seed: int) -> pa.Table:
    """`IMAGES` of a role's images at most; seed and image_id alone decide which."""
    drawn = drawn_by_name(table.column("image_id").to_pylist(), seed)
    return table.take(pa.array(np.argsort(drawn, kind="stable")[:IMAGES]))


def _untrained_scores(scorer: Scorer, tables: dict[str, pa.Table], seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Role -> (N,) membership scores of its images, under one untrained network after another."""
    shards = {role: _shard(scorer, role, table) for role, table in tables.items()}
    trained = scorer.denoiser
    for number in range(NETWORKS):
        scorer.denoiser = untrained(trained, NETWORKS * seed + number)
        yield {role: -scorer.score(shard)[:, -1] for role, shard in shards.items()}
    scorer.denoiser = trained


def _shard(scorer: Scorer, role: str, table: pa.Table) -> Shard:
    ids, pixels = table.column("image_id").to_pylist(), torch.from_numpy(decode_images(table))
    return Shard(ids, pixels, scorer.conditioning_of(table, f"{role} images"))


if __name__ == "__main__":
    run(check, target="a name in the `targets` registry of params.yaml")
