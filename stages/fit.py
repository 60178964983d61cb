"""fit: learn from auxiliary non-members how their scores depend on their image, as a bag of bootstrap attackers.

The stage is handed auxiliary images, features and scores: it cannot look at members or holdout.  A run that
was killed goes on after the last attacker (on a GPU, group of them) that it finished.

data/{roles,features,scores}/<target>/auxiliary.parquet -> models/quantile/<target>/<learner>/,
metrics/fit/<target>/<learner>.csv (pinball losses while fitting, of images that an attacker has seen and has not)
"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from leakgauge.attacks.columns import choose
from leakgauge.cli import run
from leakgauge.compute import spread
from leakgauge.config import key_name, section
from leakgauge.errors import InputError
from leakgauge.files import file_hash, place_folder, resumable, write_bytes
from leakgauge.options import Fit, Learner, LearnerOptions
from leakgauge.quantile.bag import (
    FEWEST_IMAGES,
    NETWORKS,
    Bag,
    attacker_class,
    attacker_folder,
    attacker_seed,
    fit_attackers,
    fitted_at_once,
    regressors,
)
from leakgauge.quantile.base import Resample, calibration_split, resamples
from leakgauge.quantile.inputs import Inputs, read_inputs
from leakgauge.tables import (
    check_role,
    column_names,
    list_column,
    log_scores,
    read_ids,
    read_metadata,
    read_table,
    write_table,
)


def fit(target: str, learner: str) -> None:
    """Write the bag of a learner on a target."""
    options = section("fit", Fit, target)
    learner_options = section(f"learners/{learner}", Learner, target).root
    images, features, scores = (
        Path(f"data/{folder}/{target}/auxiliary.parquet") for folder in ("roles", "features", "scores")
    )
    for path in (images, features, scores):
        check_role(path, target, "auxiliary")
    columns = choose(target, options.scores, list(read_metadata(scores)["columns"]))
    ids = read_ids(images).to_pylist()
    unit = _units(images)
    kept = calibration_split(len(ids), options.calibration, options.seed, unit)
    _check_count(images, kept, unit, key_name("fit", "calibration", target))
    if options.calibration and not kept.any():
        raise InputError(
            f"{images}: no unit is as small as {key_name('fit', 'calibration', target)}: {options.calibration}"
        )
    for path in (features, scores):
        if read_ids(path).to_pylist() != ids:
            raise InputError(f"{path}: its image_ids do not match {images}: run `dvc repro`")
    values = np.stack([log_scores(scores, column) for column in columns], axis=1)  # (N, S)
    drawn = resamples(kept, options.seed, options.bag_size, options.patience, unit)
    config = [options.model_dump(), learner_options.model_dump(), columns]
    with resumable(f"fit@{target}-{learner}", config, [images, features, scores]) as folder:
        made = folder / "bag"
        needs_pixels = attacker_class(learner_options.kind).needs_pixels
        inputs = read_inputs(images, features, scores, columns, needs_pixels, folder)
        _fit_all(inputs, values, learner_options, options.seed, drawn, made)
        out_of_bag = list_column(np.stack([resample.out_of_bag for resample in drawn], axis=1))
        calibrates = kept if options.calibration else np.ones(len(ids), dtype=bool)
        mask = pa.table({"image_id": ids, "out_of_bag": out_of_bag, "calibrates": calibrates})
        write_table(made / "out_of_bag.parquet", mask, {})
        curve = _curves(made, options.bag_size)
        description = {
            **options.model_dump(),
            "learner": learner,
            "options": learner_options.model_dump(),
            "scores": columns,
            "regressors": 0 if (seen := regressors(inputs, learner_options)) is None else seen.shape[1],
            "auxiliary": len(ids),
            "units": len(ids) if unit is None else len(np.unique(unit)),
            "out_of_bag_loss": float(curve.groupby("attacker")["out_of_bag"].last().mean()),
            "out_of_bag_sha256": file_hash(made / "out_of_bag.parquet"),
            "target_sha256": read_metadata(scores)["target_sha256"],
            "computed_on": read_metadata(scores).get("computed_on"),
        }
        Bag(made, description).save()
        csv = curve.to_csv(index=False, float_format="%.6g").encode()
        write_bytes(Path(f"metrics/fit/{target}/{learner}.csv"), csv)
        place_folder(made, Path(f"models/quantile/{target}/{learner}"))


def _units(images: Path) -> np.ndarray | None:
    """(N,) int, the unit of each image; None where each is one."""
    if "unit" not in column_names(images):
        return None
    return pd.factorize(read_table(images, ["unit"]).column("unit").to_pandas())[0]


def _check_count(images: Path, kept: np.ndarray, unit: np.ndarray | None, key: str) -> None:
    """Raises InputError for too few images, or units, to draw resamples of."""
    count = int((~kept).sum()) if unit is None else len(np.unique(unit[~kept]))
    if count < FEWEST_IMAGES:
        what = "distinct auxiliary images" if unit is None else "units of auxiliary images"
        apart = f" beside the {kept.sum()} of the calibration split ({key})" if kept.any() else ""
        raise InputError(f"{images}: {count} {what}{apart}; a bag needs at least {FEWEST_IMAGES} (split.auxiliary)")


def _fit_all(
    inputs: Inputs, values: np.ndarray, options: LearnerOptions, seed: int, drawn: list[Resample], made: Path
) -> None:
    """Fit the attackers that are not there yet, each in its own folder, whole or not at all."""
    size = fitted_at_once(options)  # groups are the same whatever is there: who is trained beside whom rounds otherwise
    groups = [range(start, min(start + size, len(drawn))) for start in range(0, len(drawn), size)]
    groups = [group for group in groups if not all(attacker_folder(made, number).exists() for number in group)]
    jobs = [(inputs, values, options, seed, {number: drawn[number] for number in group}, made) for group in groups]
    spread(_fit_some, jobs, f"fit {options.kind}", networks=options.kind in NETWORKS)


def _fit_some(
    inputs: Inputs, values: np.ndarray, options: LearnerOptions, seed: int, drawn: dict[int, Resample], bag: Path
) -> None:
    """Fit some attackers at once.  drawn : by number."""
    seeds = [attacker_seed(seed, number) for number in drawn]
    fitted = fit_attackers(inputs, values, options, seeds, list(drawn.values()))
    for number, (attacker, curve) in zip(drawn, fitted, strict=True):
        destination = attacker_folder(bag, number)
        made = destination.with_name(f".{destination.name}")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        attacker.save(made)
        curve.to_csv(made / "curve.csv", index=False, float_format="%.6g")
        place_folder(made, destination)


def _curves(made: Path, bag_size: int) -> pd.DataFrame:
    """Columns attacker, step, train, out_of_bag."""
    curves = [pd.read_csv(attacker_folder(made, number) / "curve.csv") for number in range(bag_size)]
    return pd.concat([curve.assign(attacker=number) for number, curve in enumerate(curves)])[
        ["attacker", "step", "train", "out_of_bag"]
    ]


if __name__ == "__main__":
    run(
        fit,
        target="a name in the `targets` registry of params.yaml",
        learner="a name in the `learners` registry of params.yaml",
    )
