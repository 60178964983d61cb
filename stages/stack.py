"""stack: make one of several learners, weighted by how well they foretell auxiliary images they have not seen.

Attacker b of the stack combines the attackers b of its learners, who share a resample: it has seen what they have.  The
stage is handed auxiliary scores only: no member and no holdout score can sway the weights.

data/predictions/<target>/*.parquet, data/scores/<target>/auxiliary.parquet -> data/stacks/<target>.parquet,
metrics/stacks/<target>.json
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from leakgauge.cli import run
from leakgauge.config import PARAMS, Options, key_name, names, section
from leakgauge.errors import InputError
from leakgauge.files import write_json
from leakgauge.inference.fusion import Stack, fit_stack
from leakgauge.tables import (
    check_computed_on,
    list_column,
    list_values,
    log_scores,
    read_metadata,
    read_table,
    write_table,
)

SHARED = ("image_id", "role", "out_of_bag", "calibrates")  # columns in which a stack's learners agree


class StackOptions(Options):
    """Section `stack`."""

    of: list[str]  # learners with a location and a scale; [] for no stack


def stack(target: str) -> None:
    """Write a table of predictions like a learner's, without rows where there is no stack, and the weights."""
    options = section("stack", StackOptions, target)
    key = key_name("stack", "of", target)
    destination = Path(f"data/stacks/{target}.parquet")
    if not options.of:
        _write(target, destination, pa.table({"image_id": pa.array([], pa.string())}), {"bag": None}, {})
        return
    paths = _prediction_files(target, options.of, key)
    tables, facts = [read_table(path) for path in paths], read_metadata(paths[0])
    check_computed_on(Path(f"data/scores/{target}/auxiliary.parquet"), facts["bag"], paths[0])
    scores = facts["bag"]["scores"]
    for path, table in zip(paths, tables, strict=True):
        alike = table.select(SHARED).equals(tables[0].select(SHARED))
        if not alike or read_metadata(path)["bag"]["scores"] != scores:
            raise InputError(f"{path}: another bag's images or scores than {paths[0]}: run `dvc repro`")
    columns: dict[str, pa.Array] = {}
    weights: dict[str, dict] = {}
    for score in scores:
        location, scale = _predictions(paths, tables, score, key)
        fitted = _fit(target, tables[0], score, location, scale)
        stacked = fitted.combine(location, scale)
        columns |= {f"{score}.location": list_column(stacked[0]), f"{score}.scale": list_column(stacked[1])}
        weights[score] = _describe(options.of, fitted)
    bag = {**facts["bag"], "learner": "stack", "options": {"kind": "stack", "of": options.of}, "weights": weights}
    shared = {name: tables[0].column(name) for name in SHARED}
    _write(target, destination, pa.table(shared | columns), {**facts, "learner": "stack", "bag": bag}, weights)


def _prediction_files(target: str, learners: list[str], key: str) -> list[Path]:
    known = names("learners")
    for learner in learners:
        if learner not in known:
            raise InputError(f"{PARAMS}: {key}: no learner '{learner}'; there are {', '.join(known)}")
    if "stack" in known:
        raise InputError(f"{PARAMS}: learners.stack: the stack has that name: rename that learner")
    return [Path(f"data/predictions/{target}/{learner}.parquet") for learner in learners]


def _predictions(paths: list[Path], tables: list[pa.Table], score: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale of each learner, (L, N, B)."""
    for path, table in zip(paths, tables, strict=True):
        if f"{score}.location" not in table.column_names:
            raise InputError(f"{PARAMS}: {key}: {path.stem} predicts quantiles; a stack needs `head: location_scale`")
    return (
        np.stack([list_values(table, f"{score}.location") for table in tables]),
        np.stack([list_values(table, f"{score}.scale") for table in tables]),
    )


def _fit(target: str, table: pa.Table, score: str, location: np.ndarray, scale: np.ndarray) -> Stack:
    """The weights, from auxiliary images that fitted attackers, under those attackers that never saw them."""
    scores = Path(f"data/scores/{target}/auxiliary.parquet")
    rows = np.flatnonzero(table.column("role").to_numpy() == "auxiliary")
    if table.column("image_id").take(rows).to_pylist() != read_table(scores, ["image_id"]).column(0).to_pylist():
        raise InputError(f"{scores}: scores other images than were predicted for: run `dvc repro`")
    calibrates = table.column("calibrates").to_numpy()[rows]
    out_of_bag = list_values(table, "out_of_bag")[rows]  # (n, B)
    if not calibrates.all():  # the calibration split must not be learnt from
        out_of_bag = out_of_bag & ~calibrates[:, None]
    observed = np.broadcast_to(log_scores(scores, score)[:, None], out_of_bag.shape)
    return fit_stack(location[:, rows][:, out_of_bag], scale[:, rows][:, out_of_bag], observed[out_of_bag])


def _describe(learners: list[str], fitted: Stack) -> dict[str, dict[str, float]]:
    pairs = zip(learners, fitted.location, fitted.scale, strict=True)
    return {learner: {"location": float(w), "scale": float(v)} for learner, w, v in pairs}


def _write(target: str, destination: Path, table: pa.Table, facts: dict, weights: dict) -> None:
    write_table(destination, table, facts)
    write_json(Path(f"metrics/stacks/{target}.json"), weights)


if __name__ == "__main__":
    run(stack, target="a name in the `targets` registry of params.yaml")
