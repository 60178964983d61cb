"""infer: was it trained on these?  A verdict on every suspect, and one on all of them together.

The bag of one learner, fitted and calibrated without them, judges the suspects as `evaluate` does members and holdout
(by all its scores where it learnt several).  Its error rates are those that `evaluate` measured.  With `fit` long done,
new suspects cost their scores, the guards and this stage.

Suspects that are near-duplicates of one another, as `guard` finds them without a score, are one picture: it counts
once, by the first of them, and all have its verdict.

data/{roles,features}/<target>/suspect.parquet, data/scores/<target>/{auxiliary,suspect}.parquet,
data/predictions/<target>/, models/quantile/<target>/, data/verdicts/<target>.parquet, data/pictures/<target>.parquet
-> data/inferences/<target>.parquet, metrics/inferences/<target>.json
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from leakgauge.cli import run
from leakgauge.config import PARAMS, Options, key_name, names, section
from leakgauge.errors import InputError
from leakgauge.files import write_json
from leakgauge.inference.conformal import AttackResult
from leakgauge.inference.fusion import fuse
from leakgauge.inference.metrics import level_name
from leakgauge.inference.suspects import adjusted_p_values, set_test, used_fraction
from leakgauge.inference.z_scores import ZScores, main_score, read_z_scores, z_scores_of
from leakgauge.quantile.bag import Bag, predict_all
from leakgauge.quantile.inputs import Inputs
from leakgauge.tables import (
    check_computed_on,
    check_target,
    decode_images,
    list_column,
    log_scores,
    read_features,
    read_ids,
    read_metadata,
    read_table,
    write_table,
)


class Infer(Options):
    """Section `infer`."""

    learner: str  # whose bag judges: an entry of `learners`
    false_discovery_rate: float = Field(gt=0, lt=1)  # among the suspects that are named


def infer(target: str) -> None:
    """Write the verdicts on the suspects of a target, and what they come to."""
    options = section("infer", Infer, target)
    if options.learner not in names("learners"):
        known = ", ".join(names("learners"))
        key = key_name("infer", "learner", target)
        raise InputError(f"{PARAMS}: {key}: no learner '{options.learner}'; there are {known}")
    suspects = read_table(Path(f"data/roles/{target}/suspect.parquet"))
    measured = read_metadata(Path(f"data/verdicts/{target}.parquet"))["options"]
    table = pa.table({"image_id": pa.array([], pa.string())})
    figures: dict[str, float | int | str | None] = {"suspects": 0}
    facts: dict[str, Any] = {"target": target, "options": measured | options.model_dump(), "judge": None}
    if suspects.num_rows:
        z_scores = _z_scores(target, options.learner, suspects)
        several = len(z_scores.bag["scores"]) > 1
        result = z_scores.judge(fuse if several else main_score)
        facts["judge"] = f"{options.learner}_fusion" if several else options.learner
        picture = _pictures(target, suspects)
        distinct = picture == np.arange(len(picture))
        verdicts = _verdicts(suspects, result, picture, measured["alphas"], options.false_discovery_rate)
        table = pa.Table.from_pandas(verdicts, preserve_index=False)
        figures = _figures(target, facts["judge"], result, verdicts, distinct, measured["confidence"])
    write_table(Path(f"data/inferences/{target}.parquet"), table, facts | {"figures": figures})
    write_json(Path(f"metrics/inferences/{target}.json"), figures)


def _z_scores(target: str, learner: str, suspects: pa.Table) -> ZScores:
    """What the bag says of the suspects' scores and of the auxiliary images'."""
    scores = {role: Path(f"data/scores/{target}/{role}.parquet") for role in ("auxiliary", "suspect")}
    ids = {role: read_ids(path).to_pylist() for role, path in scores.items()}
    predictions = Path(f"data/predictions/{target}/{learner}.parquet")
    everyone = np.ones(len(ids["auxiliary"]), dtype=bool)
    known = read_z_scores(predictions, {"auxiliary": scores["auxiliary"]}, {"auxiliary": everyone})
    check_target(scores["suspect"], known.bag["target_sha256"], predictions)
    check_computed_on(scores["suspect"], known.bag, predictions)
    bag = Bag.open(Path(f"models/quantile/{target}/{learner}"))
    path_of_features = Path(f"data/features/{target}/suspect.parquet")
    described, features = read_features(path_of_features)
    asked_about = suspects.column("image_id").to_pylist()
    for path, found in ((path_of_features, described), (scores["suspect"], ids["suspect"])):
        if found != asked_about:
            raise InputError(f"{path}: its image_ids do not match data/roles/{target}/suspect.parquet: run `dvc repro`")
    if bag.description != known.bag:
        raise InputError(f"{bag.folder}: another bag than the one behind {predictions}: run `dvc repro`")
    predicted = predict_all(bag, Inputs(decode_images(suspects), features), "suspect")
    rows = pa.table({name: list_column(values) for name, values in predicted.items()})
    observed = {column: log_scores(scores["suspect"], column) for column in known.bag["scores"]}
    levels = np.array(read_metadata(predictions)["levels"])
    z = {**known.z, "suspect": [z_scores_of(rows, observed, levels)]}
    return ZScores(known.bag, z, known.out_of_bag, known.calibrates)


def _pictures(target: str, suspects: pa.Table) -> np.ndarray:
    """(N,) int, where the first suspect of the same picture stands.  Raises InputError if the table has others."""
    path = Path(f"data/pictures/{target}.parquet")
    table = read_table(path)
    ids = suspects.column("image_id").to_pylist()
    if table.column("image_id").to_pylist() != ids:
        raise InputError(f"{path}: image_ids do not match data/roles/{target}/suspect.parquet: run `dvc repro`")
    place = {image_id: row for row, image_id in enumerate(ids)}
    return np.array([place[image_id] for image_id in table.column("picture").to_pylist()])


def _verdicts(
    suspects: pa.Table, result: AttackResult, picture: np.ndarray, alphas: list[float], rate: float
) -> pd.DataFrame:
    """One row a suspect, with the verdict of its picture.  picture : (N,) int, the first suspect of each one's."""
    first, place = np.unique(picture, return_inverse=True)
    ids = np.array(suspects.column("image_id").to_pylist(), dtype=object)
    membership_score, p_value = (values["suspect"][picture] for values in (result.membership_score, result.p_value))
    verdicts = pd.DataFrame(
        {
            "image_id": ids,
            "membership_score": membership_score,
            "p_value": p_value,
            **{f"member_at_{level_name(alpha)}": p_value <= alpha for alpha in alphas},
            "adjusted_p_value": adjusted_p_values(p_value[first])[place],
            "picture": ids[picture],
            "distinct": picture == np.arange(len(picture)),
        }
    )
    return verdicts.assign(named=verdicts["adjusted_p_value"] <= rate)


def _figures(
    target: str, name: str, result: AttackResult, verdicts: pd.DataFrame, distinct: np.ndarray, confidence: float
) -> dict[str, float | int | str | None]:
    """The answer for the set, flat.  Rates of members and holdout are those of the same result."""
    measured = read_table(Path(f"data/verdicts/{target}.parquet")).to_pandas()
    measured = measured[measured["learner"] == name]
    membership_score = {role: rows["membership_score"].to_numpy() for role, rows in measured.groupby("role")}
    suspects, holdout = result.membership_score["suspect"][distinct], membership_score["holdout"]
    test = set_test(suspects, holdout, confidence)
    fraction = used_fraction(suspects, holdout, membership_score.get("member"), confidence)
    counted = verdicts[verdicts["distinct"]]
    flagged = {name: int(counted[name].sum()) for name in counted.columns if name.startswith("member_at_")}
    return {
        "suspects": len(verdicts),
        "distinct": int(distinct.sum()),
        "p_value": test.p_value,
        "effect": test.effect,
        "effect_ci_low": test.effect_low,
        "effect_ci_high": test.effect_high,
        "fraction": fraction.value,
        "fraction_ci_low": fraction.low,
        "fraction_ci_high": fraction.high,
        "named": int(counted["named"].sum()),
        **flagged,
        "calibration": result.calibration_size,
        "calibration_by": result.calibration_by,
        "holdout": len(holdout),
        "judge": name,
    }


if __name__ == "__main__":
    run(infer, target="a name in the `targets` registry of params.yaml")
