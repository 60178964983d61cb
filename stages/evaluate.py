"""evaluate: verdicts, error rates and curves of every learner's bag on one target, and of a stack of learners.

Raw verdicts are the bag's majority vote at a nominal level; calibrated verdicts compare p-values from out-of-bag
membership scores of auxiliary images with it.  A bag that learnt several scores is judged by one of them
(`evaluate.score`) and by all, as `<learner>_fusion`.  Members and holdout are only measured here; where the score is to
be chosen, that is done on a share of both that is reported nowhere.

An attacker that knows half of the members is measured beside them, and the judge that finds most (the worst case).

The null check is here too: networks of the target's make that have learnt nothing must not tell the roles.

data/z/<target>/*.parquet, data/{roles,scores}/<target>/*.parquet, data/null/<target>/*.parquet,
data/features/<target>/holdout.parquet, data/checks/<target>.json, metrics/checks/<target>.json ->
data/verdicts/<target>.parquet, metrics/<target>.json (the short answer), metrics/details/<target>.json,
metrics/plots/<target>/{roc,alpha,conditional_fpr,bag_size,timestep}.csv
"""

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from leakgauge.checks.null_check import null_check
from leakgauge.checks.plan import CONFIDENCE, Plan
from leakgauge.cli import run
from leakgauge.config import PARAMS, check_levels, chosen_score, key_name, names, role_leaks, section
from leakgauge.errors import InputError, warn
from leakgauge.files import write_bytes, write_json
from leakgauge.inference.comparisons import gain, wrong_way_round
from leakgauge.inference.conformal import fpr_interval, votes
from leakgauge.inference.evaluation import Evaluation
from leakgauge.inference.metrics import Figures, deciles, level_name, roc_points, summarise, widened
from leakgauge.inference.selection import selection_figures, selection_split
from leakgauge.inference.supervised import SUPERVISED
from leakgauge.inference.z_scores import MEASURED, ZTable
from leakgauge.options import Evaluate, Levels
from leakgauge.tables import (
    ROLES,
    check_computed_on,
    check_target,
    image_units,
    read_metadata,
    read_table,
    write_pieces,
)

Values = dict[str, dict[str, np.ndarray]]  # role -> score -> (N,)
TEXT = pa.large_string()
ENDS = ("", "_ci_low", "_ci_high")  # of a figure with an interval


def evaluate(target: str) -> None:
    """Write the verdicts, the metrics and the curves of a target."""
    options = section("evaluate", Evaluate, target)
    tables = {learner: ZTable.open(Path(f"data/z/{target}/{learner}.parquet")) for learner in names("learners")}
    _warn_of_stale_files(target)
    scores = _scores(target, tables)
    ids = {role: table.column("image_id").to_pylist() for role, table in scores.items()}
    kept = {role: ~selection_split(target, ids[role], role, options) for role in MEASURED}
    selection = _selection(target, next(iter(tables.values())).bag["scores"], scores, kept, options)
    counts = {**kept, "auxiliary": np.ones(len(ids["auxiliary"]), dtype=bool)}
    ids = {role: np.array(of_role, dtype=object)[counts[role]] for role, of_role in ids.items()}
    values = {
        role: {name: table.column(name).to_numpy()[counts[role]] for name in table.column_names[1:]}
        for role, table in scores.items()
    }
    roles = {role: Path(f"data/roles/{target}/{role}.parquet") for role in ids}
    units = {role: image_units(roles[role], ids[role], "there are scores") for role in ids}
    evaluation = Evaluation(options, tables, selection["score"], kept, _groups(target, options, scores, kept), units)
    evaluation.run()
    _check_levels(target, evaluation)
    _warn_of_resolution(target, options, len(ids["holdout"]))
    wrong = _wrong_way_round(target, evaluation, values)
    details = _details(target, evaluation, values, selection)
    facts = {**details, "figures": details["judges"], **_facts(evaluation), "wrong_way_round": wrong}
    write_pieces(Path(f"data/verdicts/{target}.parquet"), _verdicts(evaluation, ids, values), facts)
    checks, null = _checks(target)["fails"], details["null_check"].values()
    fails = checks + sum(found["fails"] for found in null) + bool(wrong)
    write_json(Path(f"metrics/{target}.json"), {**evaluation.summary(), "failed": fails})
    write_json(Path(f"metrics/details/{target}.json"), details)
    for name, curve in _curves(evaluation, values).items():
        csv = curve.to_csv(index=False, float_format="%.6g").encode()
        write_bytes(Path(f"metrics/plots/{target}/{name}.csv"), csv)


def _details(target: str, evaluation: Evaluation, values: Values, selection: Figures) -> dict[str, Any]:
    """Every figure, as in metrics/details.  values : role -> score -> (N,)."""
    judges = {name: one.figures | evaluation.gains(name) for name, one in evaluation.judged.items()}
    return {
        "headline": _headline(evaluation),
        "judges": judges,
        "auc": [{"judge": name, "auc": figures["auc"]} for name, figures in judges.items()],  # for `dvc plots`
        "null_check": _null_check(target, _checks(target)["level"]),
        "supervised": evaluation.supervise(values),
        "worst_case": evaluation.worst_case(),
        "fpr_of_one_draw": _fpr_of_one_draw(evaluation),
        "selection": selection,
        "stack": evaluation.weights,
        "moved_by_precision": max(read_metadata(_score_file(target, role))["moved_by_precision"] for role in MEASURED),
    }


def _facts(evaluation: Evaluation) -> dict[str, Any]:
    """What the verdicts were made of, for stages that read them."""
    judged, options = evaluation.judged, evaluation.options
    return {
        "bags": {one.learner: one.bag for one in judged.values()},
        "made_of": {name: {"learner": one.learner, "fusion": one.fusion} for name, one in judged.items()},
        "options": options.model_dump(),
        "levels": [(level_name(alpha), alpha) for alpha in options.alphas],
        "gain_level": level_name(options.curve_fpr),
    }


def _wrong_way_round(target: str, evaluation: Evaluation, values: Values) -> list[str]:
    """A sentence on the score, and on each result, that is higher for members; warns of them, marks their figures."""
    score = evaluation.score
    sentences = evaluation.wrong_way_round(wrong_way_round(score, *(values[role][score] for role in MEASURED)))
    for sentence in sentences:
        warn(f"{target}: {sentence}")
    return sentences


def _checks(target: str) -> dict[str, Any]:
    return json.loads(Path(f"metrics/checks/{target}.json").read_text(encoding="utf-8"))


def _score_file(target: str, role: str) -> Path:
    return Path(f"data/scores/{target}/{role}.parquet")


def _scores(target: str, tables: dict[str, ZTable]) -> dict[str, pa.Table]:
    """Role -> the scores of its images.  Raises InputError if a table of z-scores is of others."""
    scores = {}
    for role in (*MEASURED, "auxiliary"):
        path = _score_file(target, role)
        scores[role] = read_table(path)
        for table in tables.values():
            check_target(path, table.bag["target_sha256"], table.path)
            check_computed_on(path, table.bag, table.path)
            table.check_images(role, scores[role].column("image_id"), path)
    return scores


def _selection(
    target: str, learnt: list[str], scores: dict[str, pa.Table], kept: dict[str, np.ndarray], options: Evaluate
) -> Figures:
    """`score`, and how it was chosen where it was."""
    asked = chosen_score(target, learnt, options)
    if not options.selection:
        return {"score": asked, "chosen": None}
    member, holdout = (scores[role].select(learnt).to_pandas()[~kept[role]] for role in MEASURED)
    found = selection_figures(target, member, holdout, options)
    return {**found, "chosen": found["score"], "score": asked or found["score"]}


def _warn_of_stale_files(target: str) -> None:
    for path in sorted(Path(f"data/z/{target}").glob("*.parquet")):
        if path.stem not in names("learners"):
            warn(f"{path}: its learner is no longer in params.yaml; the file is not used, remove it")


def _check_levels(target: str, evaluation: Evaluation) -> None:
    """Raises InputError for an alpha that no p-value reaches: images that every attacker saw calibrate none."""
    calibrating = min(one.result.calibration_size for one in evaluation.judged.values())
    levels = Levels(alphas=evaluation.options.alphas, curve_fpr=evaluation.options.curve_fpr, calibration=0)
    by_unit = any(one.result.units is not None for one in evaluation.judged.values())
    check_levels(target, levels, calibrating, "units" if by_unit else "images")


def _warn_of_resolution(target: str, options: Evaluate, images: int) -> None:
    for alpha in sorted({*options.alphas, options.curve_fpr}, reverse=True):
        if images * alpha < 1 - 1e-9:
            found, level = f"{images} holdout images resolve FPR to {1 / images:.2g}", level_name(alpha)
            warn(f"{target}: {found}: no TPR at FPR {level} is given")


def _groups(
    target: str, options: Evaluate, scores: dict[str, pa.Table], kept: dict[str, np.ndarray]
) -> dict[str, pd.Series]:
    """What alike images of the holdout are grouped by -> the group of each.  Raises InputError."""
    path = Path(f"data/features/{target}/holdout.parquet")
    table = read_table(path)
    if table.column("image_id").to_pylist() != scores["holdout"].column("image_id").to_pylist():
        raise InputError(f"{path}: its image_ids do not match {_score_file(target, 'holdout')}: run `dvc repro`")
    known = [name for name in table.column_names if name not in ("image_id", "label")]
    if options.complexity not in known:
        some = difflib.get_close_matches(options.complexity, known, n=5, cutoff=0.4) or known[:5]
        key = key_name("evaluate", "complexity", target)
        raise InputError(
            f"{PARAMS}: {key}: no image feature '{options.complexity}'; there are {', '.join(some)} and others"
        )
    table = table.filter(pa.array(kept["holdout"]))
    return {
        "complexity": pd.Series(deciles(table.column(options.complexity).to_numpy())),
        "class": pd.Series(table.column("label").to_pylist(), dtype="Int64"),
    }


def _null_check(target: str, level: float) -> dict[str, dict[str, Any]]:
    """Role -> what untrained networks tell of it; empty where the scores come from elsewhere."""
    tables = {role: read_table(Path(f"data/null/{target}/{role}.parquet")) for role in ROLES}
    scores = {
        role: np.stack([table.column(name).to_numpy() for name in table.column_names[1:]], axis=1)
        for role, table in tables.items()
    }
    if not len(scores["auxiliary"]):
        return {}
    found = null_check(scores, Plan(("member", "auxiliary"), level, role_leaks(target).seed))
    for role, one in found.items():
        if one["fails"]:
            warn(
                f"{target}: null check: an untrained network, or the base, tells {role} images from others, AUC "
                f"{one['auc']:.3f} ({one['auc_ci_low']:.3f} to {one['auc_ci_high']:.3f}): something other than "
                "training does"
            )
    return found


def _headline(evaluation: Evaluation) -> Figures:
    """The figures of the headline judge at `curve_fpr`, beside one threshold for all images, and their differences,
    paired over the same images."""
    options, name = evaluation.options, evaluation.headline
    one, fpr, level = evaluation.judged[name].result, options.curve_fpr, level_name(options.curve_fpr)
    other = evaluation.baseline if evaluation.baseline != name else None
    figures = {"judge": name, "fpr": fpr, "baseline": other}
    wider = evaluation.wider(one)
    found = widened(summarise(one, [fpr], options.confidence), wider)
    figures |= {f"auc{end}": found[f"auc{end}"] for end in ENDS}
    figures |= {f"tpr{end}": found[f"tpr_at_fpr_{level}{end}"] for end in ENDS}
    reached = fpr >= found["p_value_resolution"] - 1e-9  # else no p-value can be as low
    for end in ("", "_expected_low", "_expected_high"):
        figures[f"realised_fpr{end}"] = found[f"realised_fpr_at_alpha_{level}{end}"] if reached else None
    over = evaluation.judged[other].result if other else None
    alone = widened(summarise(over, [fpr], options.confidence), evaluation.wider(over)) if over else {}
    figures |= {f"baseline_tpr{end}": alone.get(f"tpr_at_fpr_{level}{end}") for end in ENDS}
    compared = {at: widened(gain(one, over, other, at, options.confidence), wider) for at in (*options.alphas, fpr)}
    figures |= {f"gain{end}": compared[fpr][f"tpr_gain_at_fpr_{level}{end}"] for end in ENDS}
    figures |= {f"auc_gain{end}": compared[fpr][f"auc_gain{end}"] for end in ENDS}
    for alpha in options.alphas:
        name = f"tpr_gain_at_fpr_{level_name(alpha)}"
        figures |= {f"{name}{end}": compared[alpha][f"{name}{end}"] for end in ENDS}
    return figures


def _fpr_of_one_draw(evaluation: Evaluation) -> dict[str, Any]:
    """Between which bounds the false-positive rate at each alpha lies, over draws of the images that calibrate."""
    calibrating = max(one.result.calibration_size for one in evaluation.judged.values())
    ranges = {level_name(alpha): fpr_interval(calibrating, alpha, CONFIDENCE) for alpha in evaluation.options.alphas}
    return {"images": calibrating, **{name: {"low": low, "high": high} for name, (low, high) in ranges.items()}}


def _curves(evaluation: Evaluation, values: Values) -> dict[str, pd.DataFrame]:
    """The curves of all results together, by name."""
    judged = evaluation.judged
    kinds = next(iter(judged.values())).curves
    curves = {
        kind: pd.concat([one.curves[kind].assign(learner=name) for name, one in judged.items()]) for kind in kinds
    }
    if evaluation.knowing:
        knowing = roc_points(evaluation.knowing.result).assign(learner=SUPERVISED)
        curves["roc"] = pd.concat([curves["roc"], knowing])
    return curves | {"timestep": evaluation.timestep_curve(values)}


def _verdicts(evaluation: Evaluation, ids: dict[str, np.ndarray], values: Values) -> Iterator[pa.Table]:
    """One row for each member and holdout image, result after result."""
    results = {name: (one.result, one.score) for name, one in evaluation.judged.items()}
    if evaluation.knowing:
        results[SUPERVISED] = evaluation.knowing.result, evaluation.score
    for name, (result, score) in results.items():
        for role in MEASURED:
            membership_score, p_value = result.membership_score[role], result.p_value[role]
            table = {
                "image_id": pa.array(ids[role], TEXT),
                "role": pa.repeat(pa.scalar(role, TEXT), len(membership_score)),
                "learner": pa.repeat(pa.scalar(name, TEXT), len(membership_score)),
                "score": values[role][score],
                "membership_score": membership_score,
                "p_value": p_value,
            }
            for alpha in evaluation.options.alphas:
                table[f"member_at_{level_name(alpha)}"] = p_value <= alpha
                raw = votes(membership_score, alpha) if name != SUPERVISED else pa.nulls(len(p_value), pa.bool_())
                table[f"raw_member_at_{level_name(alpha)}"] = raw  # a regression has no level of its own
            yield pa.table(table)


if __name__ == "__main__":
    run(evaluate, target="a name in the `targets` registry of params.yaml")
