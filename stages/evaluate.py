"""evaluate: verdicts, error rates and curves of every learner's bag on one target.

Raw verdicts are the bag's majority vote at a nominal level; calibrated verdicts compare p-values from honest margins of
auxiliary images with it.  A bag that learnt several scores is judged twice: by its main score, and by all of them as
`<learner>_fusion`.  Members and holdout are only measured here; nothing is chosen, and the images that `select` set
apart to choose on are left out.

data/scores/<target>/*.parquet, data/predictions/<target>/*.parquet, data/statistics/<target>/holdout.parquet,
data/selection/<target>.parquet, data/stacks/<target>.parquet -> data/verdicts/<target>.parquet, metrics/<target>.json,
metrics/plots/<target>/{roc,calibration,conditional_fpr,bag_size,timestep}.csv
"""

import difflib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.command import InputError, run, warn
from stages.files import write_bytes
from stages.params import PARAMS, key_name, names, section
from stages.statistics.calibration import smallest_alpha
from stages.statistics.conditional import conditional_fpr, deciles, worst_decile
from stages.statistics.curves import bag_size_curve, calibration_curve, roc_points, timestep_curve
from stages.statistics.evidence import kept_rows, read_evidence
from stages.statistics.fusion import Rule, learn_fusion
from stages.statistics.judgement import Judgement
from stages.statistics.options import Evaluate
from stages.statistics.summary import level_name, summarise
from stages.statistics.vote import votes
from stages.tables import ROLES, read_metadata, read_table, write_table

MEASURED = ("member", "holdout")
T_ERROR = r"t_error_t(\d+)"  # the columns behind the curve over timesteps


@dataclass(frozen=True)
class Judged:
    """A bag's judgement by its main score, or by all of them fused, and what that rests on."""

    learner: str
    bag: dict[str, Any]
    judgement: Judgement
    fusion: dict[str, Any] | None  # rule, columns and weights


def evaluate(target: str) -> None:
    """Write the verdicts, the metrics and the curves of a target."""
    options = section("evaluate", Evaluate, target)
    paths = {role: Path(f"data/scores/{target}/{role}.parquet") for role in ROLES}
    kept = kept_rows(Path(f"data/selection/{target}.parquet"), paths)
    judged: dict[str, Judged] = {}
    for learner, path in _prediction_files(target).items():
        of_learner = _judge(learner, path, paths, kept, options.fusion)
        if taken := judged.keys() & of_learner.keys():
            raise InputError(f"{PARAMS}: learners: {taken.pop()} is also the name of a fusion: rename that learner")
        judged |= of_learner
    _warn_of_strangers(target)
    _check_resolution(target, options, [one.judgement for one in judged.values()])
    scores = {role: read_table(path).filter(kept[role]) for role, path in paths.items()}
    groups = _groups(target, options.complexity, paths["holdout"], kept["holdout"])
    figures = {
        name: summarise(one.judgement, options.alphas, options.confidence)
        | worst_decile(one.judgement, groups["complexity"].to_numpy(), options.alphas, options.confidence)
        for name, one in judged.items()
    }
    curves = _curves(judged, scores, groups, options)
    facts = {
        "bags": {one.learner: one.bag for one in judged.values()},
        "judgements": {name: {"learner": one.learner, "fusion": one.fusion} for name, one in judged.items()},
        "figures": figures,
        "options": options.model_dump(),
        "levels": [(level_name(alpha), alpha) for alpha in options.alphas],
    }
    verdicts = pd.concat([_verdicts(scores, name, one, options.alphas) for name, one in judged.items()])
    write_table(Path(f"data/verdicts/{target}.parquet"), pa.Table.from_pandas(verdicts, preserve_index=False), facts)
    write_bytes(Path(f"metrics/{target}.json"), (json.dumps(figures, indent=2) + "\n").encode())
    for name, curve in curves.items():
        csv = curve.to_csv(index=False, float_format="%.6g").encode()
        write_bytes(Path(f"metrics/plots/{target}/{name}.csv"), csv)


def _prediction_files(target: str) -> dict[str, Path]:
    """Learner -> its predictions, and those of the stack if there is one."""
    files = {learner: Path(f"data/predictions/{target}/{learner}.parquet") for learner in names("learners")}
    stacked = Path(f"data/stacks/{target}.parquet")
    return files if read_metadata(stacked)["bag"] is None else files | {"stack": stacked}


def _judge(
    learner: str, path: Path, scores: dict[str, Path], kept: dict[str, np.ndarray], rule: Rule
) -> dict[str, Judged]:
    """Judge by the main score, and where several were learnt also by their fusion.  Raises InputError."""
    evidence = read_evidence(path, scores, kept)
    bag = evidence.bag
    judged = {learner: Judged(learner, bag, evidence.judge(lambda z: z[..., 0]), None)}
    if len(bag["scores"]) > 1:
        fusion = learn_fusion(evidence.honest_scores(), rule)
        weights = None if fusion.weights is None else fusion.weights.tolist()
        facts = {"rule": rule, "columns": bag["scores"], "weights": weights}
        judged[f"{learner}_fusion"] = Judged(learner, bag, evidence.judge(fusion), facts)
    return judged


def _warn_of_strangers(target: str) -> None:
    for path in sorted(Path(f"data/predictions/{target}").glob("*.parquet")):
        if path not in _prediction_files(target).values():
            warn(f"{path}: its learner is no longer in params.yaml; the file is not used, remove it")


def _check_resolution(target: str, options: Evaluate, judgements: list[Judgement]) -> None:
    """Raises InputError for an alpha that no p-value can reach; warns of an FPR that the holdout cannot resolve."""
    holdout, fewest = len(judgements[0].margin["holdout"]), min(j.calibration_size for j in judgements)
    for key, alphas in (("alphas", options.alphas), ("curve_fpr", [options.curve_fpr])):
        if (fewest + 1) * min(alphas) < 1 - 1e-9:
            raise InputError(
                f"{PARAMS}: {key_name('evaluate', key, target)}: {min(alphas):g} asked for, but {fewest} auxiliary "
                f"images calibrate: the smallest alpha they support is {smallest_alpha(fewest):g}"
            )
    for alpha in sorted({*options.alphas, options.curve_fpr}, reverse=True):
        if holdout * alpha < 1 - 1e-9:
            level = level_name(alpha)
            warn(f"{target}: {holdout} holdout images resolve FPR to {1 / holdout:.2g}: no TPR at FPR {level} is given")


def _groups(target: str, complexity: str, scored: Path, kept: np.ndarray) -> dict[str, pd.Series]:
    """What alike images of the holdout are grouped by -> the group of each.  Raises InputError."""
    path = Path(f"data/statistics/{target}/holdout.parquet")
    table = read_table(path)
    known = [name for name in table.column_names if name not in ("image_id", "label")]
    if complexity not in known:
        some = difflib.get_close_matches(complexity, known, n=5, cutoff=0.4) or known[:5]
        key = key_name("evaluate", "complexity", target)
        raise InputError(f"{PARAMS}: {key}: no image statistic '{complexity}'; there are {', '.join(some)} and others")
    if table.column("image_id").to_pylist() != read_table(scored, ["image_id"]).column("image_id").to_pylist():
        raise InputError(f"{path}: describes other images than {scored} scores: run `dvc repro`")
    table = table.filter(kept)
    return {
        "complexity": pd.Series(deciles(table.column(complexity).to_numpy())),
        "class": pd.Series(table.column("label").to_pylist(), dtype="Int64"),
    }


def _verdicts(scores: dict[str, pa.Table], name: str, judged: Judged, alphas: list[float]) -> pd.DataFrame:
    """One row for each member and holdout image; the other judgements' rows follow below."""
    tables = []
    for role in MEASURED:
        margin, p_value = judged.judgement.margin[role], judged.judgement.p_value[role]
        table = {
            "image_id": scores[role].column("image_id").to_pylist(),
            "role": role,
            "learner": name,
            "score": scores[role].column(judged.bag["score"]).to_numpy(),
            "margin": margin,
            "p_value": p_value,
        }
        for alpha in alphas:
            table[f"member_at_{level_name(alpha)}"] = p_value <= alpha
            table[f"raw_member_at_{level_name(alpha)}"] = votes(margin, alpha)
        tables.append(pd.DataFrame(table))
    return pd.concat(tables)


def _curves(
    judged: dict[str, Judged], scores: dict[str, pa.Table], groups: dict[str, pd.Series], options: Evaluate
) -> dict[str, pd.DataFrame]:
    def of_each(curve: Callable[..., pd.DataFrame], *args: object) -> pd.DataFrame:
        return pd.concat([curve(one.judgement, *args).assign(learner=name) for name, one in judged.items()])

    fpr, confidence = options.curve_fpr, options.confidence
    timesteps = [int(found[1]) for name in scores["member"].column_names if (found := re.fullmatch(T_ERROR, name))]
    member, holdout = ({t: scores[role].column(f"t_error_t{t}").to_numpy() for t in timesteps} for role in MEASURED)
    return {
        "roc": of_each(roc_points),
        "calibration": of_each(calibration_curve, options.alphas, confidence),
        "conditional_fpr": of_each(conditional_fpr, groups, sorted({*options.alphas, fpr}), confidence),
        "bag_size": of_each(bag_size_curve, fpr, confidence),
        "timestep": timestep_curve(member, holdout, fpr, confidence),
    }


if __name__ == "__main__":
    run(evaluate, target="a name in the `targets` registry of params.yaml")
