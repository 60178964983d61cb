"""evaluate: verdicts, error rates and curves of every learner's bag on one target.

Raw verdicts are the bag's majority vote at a nominal level; calibrated verdicts compare p-values from out-of-bag
margins with it.  Members and holdout are only measured here; nothing is chosen.

data/scores/<target>/*.parquet, data/predictions/<target>/*.parquet -> data/verdicts/<target>.parquet,
metrics/<target>.json, metrics/plots/<target>/{roc,calibration,bag_size,timestep}.csv
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from stages.command import InputError, run, warn
from stages.files import write_bytes
from stages.params import Options, names, section
from stages.statistics.curves import bag_size_curve, calibration_curve, roc_points, timestep_curve
from stages.statistics.judgement import Judgement, judge
from stages.statistics.summary import level_name, summarise
from stages.statistics.vote import normal_scores_of_gaussians, normal_scores_of_quantiles, votes
from stages.tables import ROLES, log_scores, read_metadata, read_table, write_table

MEASURED = ("member", "holdout")
Level = Annotated[float, Field(gt=0, lt=1)]


class Evaluate(Options):
    """Section `evaluate`."""

    alphas: list[Level] = Field(min_length=1)  # false-positive rates asked for
    confidence: Level  # of every interval
    curve_fpr: Level  # at which the curves over bag size and timestep show their TPR


def evaluate(target: str) -> None:
    """Write the verdicts, the metrics and the curves of a target."""
    options = section("evaluate", Evaluate, target)
    scores = {role: read_table(Path(f"data/scores/{target}/{role}.parquet")) for role in ROLES}
    bags: dict[str, dict] = {}
    judgements: dict[str, Judgement] = {}
    for learner in names("learners"):
        path = Path(f"data/predictions/{target}/{learner}.parquet")
        bags[learner] = _checked_bag(target, path)
        judgements[learner] = _judge(target, path, bags[learner]["score"], scores)
    _warn_of_resolution(target, {*options.alphas, options.curve_fpr}, next(iter(judgements.values())))
    _warn_of_strangers(target, list(judgements))
    curves = _curves(judgements, scores, options)
    figures = {name: summarise(judged, options.alphas, options.confidence) for name, judged in judgements.items()}
    verdicts = [_verdicts(scores, learner, bags[learner], judgements[learner], options) for learner in judgements]
    levels = [(level_name(alpha), alpha) for alpha in options.alphas]
    facts = {"bags": bags, "figures": figures, "options": options.model_dump(), "levels": levels}
    table = pa.Table.from_pandas(pd.concat(verdicts), preserve_index=False)
    write_table(Path(f"data/verdicts/{target}.parquet"), table, facts)
    write_bytes(Path(f"metrics/{target}.json"), (json.dumps(figures, indent=2) + "\n").encode())
    for name, curve in curves.items():
        csv = curve.to_csv(index=False, float_format="%.6g").encode()
        write_bytes(Path(f"metrics/plots/{target}/{name}.csv"), csv)


def _checked_bag(target: str, path: Path) -> dict:
    """The description of the bag behind a table of predictions.  Raises InputError if it is another target's."""
    bag = read_metadata(path)["bag"]
    for role in ROLES:
        scored = Path(f"data/scores/{target}/{role}.parquet")
        if read_metadata(scored)["target_sha256"] != bag["target_sha256"]:
            raise InputError(f"{path}: its bag was fitted on scores of another target than {scored}: run `dvc repro`")
    return bag


def _judge(target: str, path: Path, column: str, scores: dict[str, pa.Table]) -> Judgement:
    """Hold the scores of every role against what the bag predicts for its images."""
    predictions, levels = read_table(path), np.array(read_metadata(path)["levels"])
    roles = predictions.column("role").to_numpy()
    z, unseen = {}, np.empty(0)
    for role in ROLES:
        rows = predictions.filter(roles == role)
        if rows.column("image_id").to_pylist() != scores[role].column("image_id").to_pylist():
            raise InputError(f"{path}: predicts for other {role} images than are scored: run `dvc repro`")
        z[role] = _normal_scores(rows, log_scores(Path(f"data/scores/{target}/{role}.parquet"), column), levels)
        if role == "auxiliary":
            unseen = _lists(rows, "out_of_bag")
    return judge({role: z[role] for role in MEASURED}, z["auxiliary"], unseen)


def _normal_scores(rows: pa.Table, values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    if "quantiles" in rows.column_names:
        quantiles = _lists(rows, "quantiles").reshape(len(values), -1, len(levels))  # (N, B, K)
        return normal_scores_of_quantiles(values, levels, quantiles)
    return normal_scores_of_gaussians(values, _lists(rows, "location"), _lists(rows, "scale"))


def _lists(rows: pa.Table, name: str) -> np.ndarray:
    """A column of N lists of one size L, as (N, L)."""
    values = rows.column(name).combine_chunks()
    return values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), -1)


def _warn_of_strangers(target: str, learners: list[str]) -> None:
    for path in sorted(Path(f"data/predictions/{target}").glob("*.parquet")):
        if path.stem not in learners:
            warn(f"{path}: its learner is no longer in params.yaml; the file is not used, remove it")


def _warn_of_resolution(target: str, alphas: set[float], judgement: Judgement) -> None:
    holdout, calibration = len(judgement.margin["holdout"]), judgement.calibration_size
    for alpha in sorted(alphas, reverse=True):
        level = level_name(alpha)
        if holdout * alpha < 1 - 1e-9:
            warn(f"{target}: {holdout} holdout images resolve FPR to {1 / holdout:.2g}: no TPR at FPR {level} is given")
        if (calibration + 1) * alpha < 1 - 1e-9:
            warn(
                f"{target}: {calibration} auxiliary images resolve p-values to {1 / (calibration + 1):.2g}: "
                f"no image can be a member at alpha {level}"
            )


def _verdicts(
    scores: dict[str, pa.Table], learner: str, bag: dict, judgement: Judgement, options: Evaluate
) -> pd.DataFrame:
    """One row for each member and holdout image; the other learners' rows follow below."""
    tables = []
    for role in MEASURED:
        margin, p_value = judgement.margin[role], judgement.p_value[role]
        table = {
            "image_id": scores[role].column("image_id").to_pylist(),
            "role": role,
            "learner": learner,
            "score": scores[role].column(bag["score"]).to_numpy(),
            "margin": margin,
            "p_value": p_value,
        }
        for alpha in options.alphas:
            table[f"member_at_{level_name(alpha)}"] = p_value <= alpha
            table[f"raw_member_at_{level_name(alpha)}"] = votes(margin, alpha)
        tables.append(pd.DataFrame(table))
    return pd.concat(tables)


def _curves(
    judgements: dict[str, Judgement], scores: dict[str, pa.Table], options: Evaluate
) -> dict[str, pd.DataFrame]:
    def of_each(curve: Callable[..., pd.DataFrame], *args: object) -> pd.DataFrame:
        return pd.concat([curve(judged, *args).assign(learner=name) for name, judged in judgements.items()])

    fpr, confidence = options.curve_fpr, options.confidence
    columns = [name for name in scores["member"].column_names if name.startswith("t_error_t")]
    member, holdout = (
        {int(name.removeprefix("t_error_t")): scores[role].column(name).to_numpy() for name in columns}
        for role in MEASURED
    )
    return {
        "roc": of_each(roc_points),
        "calibration": of_each(calibration_curve, options.alphas, confidence),
        "bag_size": of_each(bag_size_curve, fpr, confidence),
        "timestep": timestep_curve(member, holdout, fpr, confidence),
    }


if __name__ == "__main__":
    run(evaluate, target="a name in the `targets` registry of params.yaml")
