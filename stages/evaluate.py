"""evaluate: verdicts, error rates and curves of every learner's bag on one target.

Raw verdicts are the bag's majority vote at a nominal level; calibrated verdicts compare p-values from out-of-bag
membership scores of auxiliary images with it.  A bag that learnt several scores is judged twice: by its main score,
and by all of them as `<learner>_fusion`.  Members and holdout are only measured here; nothing is chosen, and the
images that `select` set apart to choose on are left out.

data/scores/<target>/*.parquet, data/predictions/<target>/*.parquet, data/features/<target>/holdout.parquet,
data/selection/<target>.parquet, data/stacks/<target>.parquet -> data/verdicts/<target>.parquet, metrics/<target>.json,
metrics/plots/<target>/{roc,calibration,conditional_fpr,bag_size,timestep}.csv
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from leakgauge.cli import run
from leakgauge.config import PARAMS, key_name, names, section
from leakgauge.errors import InputError, warn
from leakgauge.files import write_bytes, write_json
from leakgauge.inference.comparisons import gain, higher_for_members, said, wrong_way_round
from leakgauge.inference.conformal import AttackResult, smallest_alpha, votes
from leakgauge.inference.fusion import fuse
from leakgauge.inference.metrics import (
    Evaluate,
    Figures,
    bag_size_curve,
    calibration_curve,
    conditional_fpr,
    deciles,
    level_name,
    roc_points,
    summarise,
    timestep_curve,
    worst_decile,
)
from leakgauge.inference.z_scores import Combine, ZScores, kept_rows, main_score, read_z_scores
from leakgauge.tables import ROLES, column_names, read_ids, read_metadata, read_table, write_pieces

MEASURED = ("member", "holdout")
TEXT = pa.large_string()
T_ERROR = r"t_error_t(\d+)"  # the columns behind the curve over timesteps


@dataclass(frozen=True)
class Audit:
    """What every bag is judged on.  Dictionaries go by role."""

    target: str
    options: Evaluate
    scores: dict[str, Path]  # tables
    kept: dict[str, np.ndarray]  # (N,) bool: their rows that count
    groups: dict[str, pd.Series]  # what alike images of the holdout are grouped by -> the group of each


@dataclass(frozen=True)
class Measured:
    """A bag's result by its main score, or by all of them fused; what it rests on, and what it comes to."""

    learner: str
    bag: dict[str, Any]
    fusion: list[str] | None  # its columns, where it is a fusion
    result: AttackResult  # without its z-scores
    figures: Figures
    curves: dict[str, pd.DataFrame]


def evaluate(target: str) -> None:
    """Write the verdicts, the metrics and the curves of a target."""
    audit = _audit(target)
    files = _prediction_files(target)
    judged = {name: one for learner, path in files.items() for name, one in _judge(audit, learner, path)}
    _warn_of_stale_files(target)
    _warn_of_resolution(audit)
    wrong = _wrong_way_round(audit, judged)
    for sentence in wrong:
        warn(f"{target}: {sentence}")
    figures = {name: one.figures | _gain(audit, judged, name) for name, one in judged.items()}
    facts = {
        "bags": {one.learner: one.bag for one in judged.values()},
        "judges": {name: {"learner": one.learner, "fusion": one.fusion} for name, one in judged.items()},
        "figures": figures,
        "wrong_way_round": wrong,
        "options": audit.options.model_dump(),
        "levels": [(level_name(alpha), alpha) for alpha in audit.options.alphas],
        "gain_level": level_name(audit.options.curve_fpr),
    }
    curves = _curves(audit, judged)
    write_pieces(Path(f"data/verdicts/{target}.parquet"), _verdicts(audit, judged), facts)
    write_json(Path(f"metrics/{target}.json"), figures)
    for name, curve in curves.items():
        csv = curve.to_csv(index=False, float_format="%.6g").encode()
        write_bytes(Path(f"metrics/plots/{target}/{name}.csv"), csv)


def _audit(target: str) -> Audit:
    """Raises InputError."""
    options = section("evaluate", Evaluate, target)
    scores = {role: Path(f"data/scores/{target}/{role}.parquet") for role in ROLES}
    kept = kept_rows(Path(f"data/selection/{target}.parquet"), scores)
    return Audit(target, options, scores, kept, _groups(target, options.complexity, scores["holdout"], kept["holdout"]))


def _prediction_files(target: str) -> dict[str, Path]:
    """Learner -> its predictions, and those of the stack if there is one."""
    files = {learner: Path(f"data/predictions/{target}/{learner}.parquet") for learner in names("learners")}
    stacked = Path(f"data/stacks/{target}.parquet")
    return files if read_metadata(stacked)["bag"] is None else files | {"stack": stacked}


def _judge(audit: Audit, learner: str, path: Path) -> Iterator[tuple[str, Measured]]:
    """Judge by the main score, and where several were learnt also by their fusion.  Raises InputError."""
    main = read_z_scores(path, audit.scores, audit.kept, columns=1)
    yield learner, _measure(audit, learner, main, main_score, None)
    columns = main.bag["scores"]
    if len(columns) > 1:
        z_scores = read_z_scores(path, audit.scores, audit.kept)
        yield f"{learner}_fusion", _measure(audit, learner, z_scores, fuse, columns)


def _measure(audit: Audit, learner: str, z_scores: ZScores, combine: Combine, fusion: list[str] | None) -> Measured:
    """Judge by one number an attacker, and take the figures and curves.  Raises InputError."""
    result, options = z_scores.judge(combine), audit.options
    _check_alphas(audit, result.calibration_size)
    alphas, fpr, confidence = options.alphas, options.curve_fpr, options.confidence
    decile = audit.groups["complexity"].to_numpy()
    figures = summarise(result, alphas, confidence) | worst_decile(result, decile, alphas, confidence)
    curves = {
        "roc": roc_points(result),
        "calibration": calibration_curve(result, alphas, confidence),
        "conditional_fpr": conditional_fpr(result, audit.groups, sorted({*alphas, fpr}), confidence),
        "bag_size": bag_size_curve(result, fpr, confidence),
    }
    return Measured(learner, z_scores.bag, fusion, replace(result, z={}), figures, curves)


def _gain(audit: Audit, judged: dict[str, Measured], name: str) -> Figures:
    """What a fusion gains over its learner's main score, and a learner over one threshold for all: same images."""
    one, alone = judged[name], {other: that for other, that in judged.items() if that.fusion is None}
    if one.fusion is None:
        baselines = [other for other, that in alone.items() if that.bag["options"]["kind"] == "marginal"]
    else:
        baselines = [other for other, that in alone.items() if that.learner == one.learner]
    over = baselines[0] if baselines and baselines[0] != name else None
    result = None if over is None else judged[over].result
    return gain(one.result, result, over, audit.options.curve_fpr, audit.options.confidence)


def _warn_of_stale_files(target: str) -> None:
    for path in sorted(Path(f"data/predictions/{target}").glob("*.parquet")):
        if path not in _prediction_files(target).values():
            warn(f"{path}: its learner is no longer in params.yaml; the file is not used, remove it")


def _warn_of_resolution(audit: Audit) -> None:
    images = int(audit.kept["holdout"].sum())
    for alpha in sorted({*audit.options.alphas, audit.options.curve_fpr}, reverse=True):
        if images * alpha < 1 - 1e-9:
            found, level = f"{images} holdout images resolve FPR to {1 / images:.2g}", level_name(alpha)
            warn(f"{audit.target}: {found}: no TPR at FPR {level} is given")


def _wrong_way_round(audit: Audit, judged: dict[str, Measured]) -> list[str]:
    """A sentence for each learnt score, and each result of another, that is higher for members than for holdout."""
    sentences = {}
    for score in dict.fromkeys(one.bag["score"] for one in judged.values()):
        if sentence := wrong_way_round(score, *(_score(audit, role, score).to_numpy() for role in MEASURED)):
            sentences[score] = sentence
    for name, one in judged.items():
        found = higher_for_members(*(-one.result.membership_score[role] for role in MEASURED))
        if found and one.bag["score"] not in sentences:
            sentences[name] = f"result {name} ranks members below others, AUC {said(found)}"
        one.figures["wrong_way_round"] = bool(found) or one.bag["score"] in sentences
    return list(sentences.values())


def _check_alphas(audit: Audit, images: int) -> None:
    """Raises InputError for an alpha that no p-value can reach.  images : auxiliary ones that calibrate."""
    for key, alphas in (("alphas", audit.options.alphas), ("curve_fpr", [audit.options.curve_fpr])):
        if (images + 1) * min(alphas) < 1 - 1e-9:
            raise InputError(
                f"{PARAMS}: {key_name('evaluate', key, audit.target)}: {min(alphas):g} asked for, but {images} "
                f"auxiliary images calibrate: the smallest alpha they support is {smallest_alpha(images):g}"
            )


def _groups(target: str, complexity: str, scored: Path, kept: np.ndarray) -> dict[str, pd.Series]:
    """What alike images of the holdout are grouped by -> the group of each.  Raises InputError."""
    path = Path(f"data/features/{target}/holdout.parquet")
    if not read_ids(path).equals(read_ids(scored)):
        raise InputError(f"{path}: describes other images than {scored} scores: run `dvc repro`")
    known = [name for name in column_names(path) if name not in ("image_id", "label")]
    if complexity not in known:
        some = difflib.get_close_matches(complexity, known, n=5, cutoff=0.4) or known[:5]
        key = key_name("evaluate", "complexity", target)
        raise InputError(f"{PARAMS}: {key}: no image statistic '{complexity}'; there are {', '.join(some)} and others")
    table = read_table(path, ["label", complexity]).filter(kept)
    return {
        "complexity": pd.Series(deciles(table.column(complexity).to_numpy())),
        "class": pd.Series(table.column("label").to_pylist(), dtype="Int64"),
    }


def _curves(audit: Audit, judged: dict[str, Measured]) -> dict[str, pd.DataFrame]:
    """The curves of all results together, by name, and that over timesteps."""
    kinds = next(iter(judged.values())).curves
    curves = {
        kind: pd.concat([one.curves[kind].assign(learner=name) for name, one in judged.items()]) for kind in kinds
    }
    timesteps = timestep_curve(_t_errors(audit), audit.options.curve_fpr, audit.options.confidence)
    return curves | {"timestep": timesteps}


def _t_errors(audit: Audit) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Timestep by timestep, the t-errors of members and holdout."""
    found = [re.fullmatch(T_ERROR, name) for name in column_names(audit.scores["member"])]
    for timestep in sorted(int(match[1]) for match in found if match):
        yield timestep, *(_score(audit, role, f"t_error_t{timestep}").to_numpy() for role in MEASURED)


def _score(audit: Audit, role: str, column: str) -> pa.ChunkedArray:
    return read_table(audit.scores[role], [column]).column(column).filter(audit.kept[role])


def _verdicts(audit: Audit, judged: dict[str, Measured]) -> Iterator[pa.Table]:
    """One row for each member and holdout image, result after result."""
    ids = {role: read_ids(audit.scores[role]).filter(audit.kept[role]).cast(TEXT) for role in MEASURED}
    for name, one in judged.items():
        for role in MEASURED:
            membership_score, p_value = one.result.membership_score[role], one.result.p_value[role]
            table = {
                "image_id": ids[role],
                "role": pa.repeat(pa.scalar(role, TEXT), len(membership_score)),
                "learner": pa.repeat(pa.scalar(name, TEXT), len(membership_score)),
                "score": _score(audit, role, one.bag["score"]),
                "membership_score": membership_score,
                "p_value": p_value,
            }
            for alpha in audit.options.alphas:
                table[f"member_at_{level_name(alpha)}"] = p_value <= alpha
                table[f"raw_member_at_{level_name(alpha)}"] = votes(membership_score, alpha)
            yield pa.table(table)


if __name__ == "__main__":
    run(evaluate, target="a name in the `targets` registry of params.yaml")
