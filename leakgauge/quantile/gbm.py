"""gbm: gradient-boosted trees (LightGBM) on image features.

Head `location_scale`: the location is boosted on the log scores; the scale on the size of residuals that a location
model made for images it had not seen, since the residuals of seen images are too small.
Head `quantiles`: one booster a level, by pinball loss, sorted so that they don't cross.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import lightgbm as lgb
import numpy as np
from lightgbm.basic import LightGBMError

from leakgauge.options import GBMOptions
from leakgauge.quantile.base import LEVELS, LocationScale, Prediction, Quantiles
from leakgauge.quantile.inputs import PART, VALIDATIONS, Inputs, TrainingSet

FOLDS = 4
BINNED = 15_000  # images, of more, that the bounds of bins are taken from: LightGBM holds them thrice
MEAN_ABSOLUTE = np.sqrt(2 / np.pi)  # of a standard Gaussian
Boosters = dict[str, lgb.Booster]


class FeatureRows(lgb.Sequence):
    """Some rows of the features, (n, F) float64."""

    batch_size = PART

    def __init__(self, features: np.ndarray, rows: np.ndarray) -> None:
        self.features, self.rows = features, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice) -> np.ndarray:  # type: ignore[override]
        """One row or several."""
        return self.features[self.rows[index]].astype(np.float64)

    def of(self, chosen: np.ndarray) -> Self:
        """Those of a mask (n,)."""
        return type(self)(self.features, self.rows[chosen])


@dataclass(frozen=True)
class EarlyStopping:
    """What boosting stops by: images, values (m,), and how many eighths of the trees may not lower their loss."""

    feature_rows: FeatureRows
    values: np.ndarray
    patience: int


class GBMAttacker:
    """Boosters by what they predict: `location` and `residual` (its mean absolute value), or `quantile_<level>`."""

    needs_pixels = False

    def __init__(self, boosters: list[Boosters]) -> None:
        self.boosters = boosters  # one dictionary a score

    @classmethod
    def fit(cls, training_set: TrainingSet, options: GBMOptions, seed: int) -> Self:
        """Boost on the training set; where it may stop early, each booster does so by itself."""
        boost = _boost_quantiles if options.head == "quantiles" else _boost_location_scale
        features, rows, stopping = (
            training_set.inputs.features,
            training_set.resample.rows,
            training_set.resample.stopping,
        )
        feature_rows, boosters = FeatureRows(features, rows), []
        for values in training_set.log_scores.T:
            early_stopping = (
                EarlyStopping(FeatureRows(features, stopping.rows), values[stopping.rows], stopping.patience)
                if stopping
                else None
            )
            boosters.append(boost(feature_rows, values[rows], options, seed, early_stopping))
        most = max(booster.best_iteration for of_score in boosters for booster in of_score.values())
        attacker = cls(boosters)
        training_set.validate(most if stopping else options.trees, attacker)
        return attacker

    def predict(self, inputs: Inputs) -> Prediction:
        """Only the features are looked at."""
        feature_rows = FeatureRows(inputs.features, np.arange(len(inputs)))
        outputs = [
            {what: _predict(booster, feature_rows) for what, booster in of_score.items()} for of_score in self.boosters
        ]
        if "location" in outputs[0]:
            location, residual = (np.stack([of[what] for of in outputs], 1) for what in ("location", "residual"))
            return LocationScale(location, residual / MEAN_ABSOLUTE)
        return Quantiles(np.stack([np.sort(np.stack(list(of.values()), 1), axis=1) for of in outputs], 1))

    def save(self, folder: Path) -> None:
        """Write <score number>.<what>.txt, LightGBM's own text format."""
        for number, of_score in enumerate(self.boosters):
            for what, booster in of_score.items():
                booster.save_model(str(folder / f"{number}.{what}.txt"))

    @classmethod
    def load(cls, folder: Path, options: GBMOptions) -> Self:
        """Read what `save` wrote.  Raises ValueError for a file that LightGBM cannot read."""
        whats = [_level_name(level) for level in LEVELS] if options.head == "quantiles" else ["location", "residual"]
        scores = len(list(folder.glob(f"*.{whats[0]}.txt")))
        if not scores:
            raise FileNotFoundError(f"{folder} holds no boosters")
        return cls([{what: _read(folder / f"{number}.{what}.txt") for what in whats} for number in range(scores)])


def _read(file: Path) -> lgb.Booster:
    try:
        return lgb.Booster(model_file=str(file))
    except LightGBMError as error:
        raise ValueError(str(error)) from None


def _boost_location_scale(
    feature_rows: FeatureRows, values: np.ndarray, options: GBMOptions, seed: int, early_stopping: EarlyStopping | None
) -> Boosters:
    location = _boost(feature_rows, values, "regression", options.trees, options, seed, early_stopping)
    trees = location.best_iteration if early_stopping else options.trees
    image = np.unique(feature_rows.rows, return_inverse=True)[1]  # from 0, in order of their rows
    fold = np.random.default_rng(seed).permutation(image.max() + 1)[image] % FOLDS  # repeats stay together
    residuals = np.empty(len(values))
    for k in range(FOLDS):
        fitted, left_out = fold != k, fold == k
        of_others = _boost(feature_rows.of(fitted), values[fitted], "regression", trees, options, seed)
        residuals[left_out] = values[left_out] - _predict(of_others, feature_rows.of(left_out))
    if early_stopping:
        early_stopping = replace(
            early_stopping, values=_size(early_stopping.values - _predict(location, early_stopping.feature_rows))
        )
    residual = _boost(feature_rows, _size(residuals), "gamma", options.scale_trees, options, seed, early_stopping)
    return {"location": location, "residual": residual}


def _size(residuals: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(residuals), 1e-9)  # the gamma loss needs them positive, and keeps predictions so


def _boost_quantiles(
    feature_rows: FeatureRows, values: np.ndarray, options: GBMOptions, seed: int, early_stopping: EarlyStopping | None
) -> Boosters:
    return {
        _level_name(level): _boost(
            feature_rows, values, "quantile", options.trees, options, seed, early_stopping, alpha=level
        )
        for level in LEVELS
    }


def _level_name(level: float) -> str:
    return f"quantile_{level}"


def _boost(
    feature_rows: FeatureRows,
    values: np.ndarray,
    objective: str,
    trees: int,
    options: GBMOptions,
    seed: int,
    early_stopping: EarlyStopping | None = None,
    **more: float,
) -> lgb.Booster:
    """Boosted trees from feature_rows (N, F) to values (N,), at most `trees`; the same bytes on any number of cores."""
    settings = {
        "objective": objective,
        "num_leaves": options.leaves,
        "learning_rate": options.learning_rate,
        "min_data_in_leaf": options.min_leaf,
        "feature_fraction": options.feature_fraction,
        "bin_construct_sample_cnt": max(BINNED, len(values) // 5),  # it calls fewer too few
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
        **more,
    }
    dataset = lgb.Dataset(feature_rows, values)
    if early_stopping is None:
        return lgb.train(settings, dataset, num_boost_round=trees)
    rounds = early_stopping.patience * math.ceil(trees / VALIDATIONS)
    return lgb.train(
        settings,
        dataset,
        num_boost_round=trees,
        valid_sets=[lgb.Dataset(early_stopping.feature_rows, early_stopping.values, reference=dataset)],
        callbacks=[lgb.early_stopping(rounds, verbose=False)],
    )


def _predict(booster: lgb.Booster, feature_rows: FeatureRows) -> np.ndarray:
    starts = range(0, len(feature_rows), PART)
    parts = [booster.predict(feature_rows[start : start + PART], num_threads=1) for start in starts]
    return np.concatenate(parts).astype(np.float64)
