"""gbm: gradient-boosted trees (LightGBM) on image statistics.

Head `location_scale`: the location is boosted on the log scores; the scale on the size of residuals that a location
model made for images it had not seen, since the residuals of seen images are too small.
Head `quantiles`: one booster a level, by pinball loss, sorted so that they don't cross.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

import lightgbm as lgb
import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from stages.params import Options
from stages.quantile.inputs import Inputs
from stages.quantile.predictions import LEVELS, LocationScale, Prediction, Quantiles

FOLDS = 4
MEAN_ABSOLUTE = np.sqrt(2 / np.pi)  # of a standard Gaussian
Boosters = dict[str, lgb.Booster]


class GBMOptions(Options):
    """An entry of the `learners` registry."""

    kind: Literal["gbm"]
    head: Literal["location_scale", "quantiles"]
    trees: PositiveInt  # of the location, or of each quantile
    scale_trees: PositiveInt  # of the scale
    leaves: int = Field(ge=2)
    learning_rate: PositiveFloat
    min_leaf: PositiveInt  # images in a leaf, at least
    feature_fraction: float = Field(gt=0, le=1)  # of the statistics that a tree may look at


class GBMAttacker:
    """Boosters by what they predict: `location` and `residual` (its mean absolute value), or `quantile_<level>`."""

    def __init__(self, boosters: list[Boosters]) -> None:
        self.boosters = boosters  # one dictionary a score

    @classmethod
    def fit(
        cls,
        inputs: Inputs,
        log_scores: np.ndarray,
        options: GBMOptions,
        seed: int,
        watch: Callable[[int, Self], None],
    ) -> Self:
        """inputs : with repeats as a bootstrap draws them.  log_scores : (N, S) float64.  watch : called at the end."""
        boost = _boost_quantiles if options.head == "quantiles" else _boost_location_scale
        attacker = cls([boost(inputs.statistics, values, options, seed) for values in log_scores.T])
        watch(options.trees, attacker)
        return attacker

    def predict(self, inputs: Inputs) -> Prediction:
        """Only the statistics are looked at."""
        outputs = [
            {what: _predict(booster, inputs.statistics) for what, booster in of_score.items()}
            for of_score in self.boosters
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
        """Read what `save` wrote."""
        whats = [_level_name(level) for level in LEVELS] if options.head == "quantiles" else ["location", "residual"]
        scores = len(list(folder.glob(f"*.{whats[0]}.txt")))
        if not scores:
            raise FileNotFoundError(f"{folder} holds no boosters")
        return cls(
            [
                {what: lgb.Booster(model_file=str(folder / f"{number}.{what}.txt")) for what in whats}
                for number in range(scores)
            ]
        )


def _boost_location_scale(features: np.ndarray, values: np.ndarray, options: GBMOptions, seed: int) -> Boosters:
    distinct, image = np.unique(features, axis=0, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(distinct))[image] % FOLDS  # repeats stay together
    residuals = np.empty(len(values))
    for k in range(FOLDS):
        fitted, unseen = fold != k, fold == k
        location = _boost(features[fitted], values[fitted], "regression", options.trees, options, seed)
        residuals[unseen] = values[unseen] - _predict(location, features[unseen])
    sizes = np.maximum(np.abs(residuals), 1e-9)  # the gamma loss needs them positive, and keeps predictions so
    return {
        "location": _boost(features, values, "regression", options.trees, options, seed),
        "residual": _boost(features, sizes, "gamma", options.scale_trees, options, seed),
    }


def _boost_quantiles(features: np.ndarray, values: np.ndarray, options: GBMOptions, seed: int) -> Boosters:
    return {
        _level_name(level): _boost(features, values, "quantile", options.trees, options, seed, alpha=level)
        for level in LEVELS
    }


def _level_name(level: float) -> str:
    return f"quantile_{level}"


def _boost(
    features: np.ndarray,
    values: np.ndarray,
    objective: str,
    trees: int,
    options: GBMOptions,
    seed: int,
    **more: float,
) -> lgb.Booster:
    """Boosted trees from features (N, F) to values (N,); the same bytes on any number of cores."""
    settings = {
        "objective": objective,
        "num_leaves": options.leaves,
        "learning_rate": options.learning_rate,
        "min_data_in_leaf": options.min_leaf,
        "feature_fraction": options.feature_fraction,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
        **more,
    }
    return lgb.train(settings, lgb.Dataset(features, values), num_boost_round=trees)


def _predict(booster: lgb.Booster, features: np.ndarray) -> np.ndarray:
    return np.asarray(booster.predict(features, num_threads=1), dtype=np.float64)
