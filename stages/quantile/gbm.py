"""gbm: gradient-boosted trees (LightGBM) on image statistics, as a location and a scale.

The location is boosted on the log scores; the scale on the size of residuals that a location model made for images
it had not seen, since the residuals of seen images are too small.
"""

from pathlib import Path
from typing import Literal, Self

import lightgbm as lgb
import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from stages.params import Options
from stages.quantile.image_statistics import image_statistics
from stages.quantile.predictions import LocationScale

FOLDS = 4
MEAN_ABSOLUTE = np.sqrt(2 / np.pi)  # of a standard Gaussian


class GBMOptions(Options):
    """An entry of the `learners` registry."""

    kind: Literal["gbm"]
    trees: PositiveInt
    scale_trees: PositiveInt
    leaves: int = Field(ge=2)
    learning_rate: PositiveFloat
    min_leaf: PositiveInt  # images in a leaf, at least


class GBMAttacker:
    """Two boosters: of the location, and of the mean absolute residual."""

    def __init__(self, location: lgb.Booster, residual: lgb.Booster) -> None:
        self.location, self.residual = location, residual

    @classmethod
    def fit(cls, images: np.ndarray, log_scores: np.ndarray, options: GBMOptions, seed: int) -> Self:
        """images : (N, C, H, W) uint8, with repeats as a bootstrap draws them.  log_scores : (N,) float64."""
        features = image_statistics(images)
        distinct, image = np.unique(images.reshape(len(images), -1), axis=0, return_inverse=True)
        fold = np.random.default_rng(seed).permutation(len(distinct))[image] % FOLDS  # repeats stay together
        residuals = np.empty(len(images))
        for k in range(FOLDS):
            fitted, unseen = fold != k, fold == k
            location = _boost(features[fitted], log_scores[fitted], "regression", options.trees, options, seed)
            residuals[unseen] = log_scores[unseen] - _predict(location, features[unseen])
        location = _boost(features, log_scores, "regression", options.trees, options, seed)
        sizes = np.maximum(np.abs(residuals), 1e-9)  # the gamma loss needs them positive, and keeps predictions so
        return cls(location, _boost(features, sizes, "gamma", options.scale_trees, options, seed))

    def predict(self, images: np.ndarray) -> LocationScale:
        """images : (N, C, H, W) uint8."""
        features = image_statistics(images)
        return LocationScale(_predict(self.location, features), _predict(self.residual, features) / MEAN_ABSOLUTE)

    def save(self, stem: Path) -> None:
        """Write <stem>.location.txt and <stem>.residual.txt, LightGBM's own text format."""
        self.location.save_model(f"{stem}.location.txt")
        self.residual.save_model(f"{stem}.residual.txt")

    @classmethod
    def load(cls, stem: Path, options: GBMOptions) -> Self:
        """Read what `save` wrote."""
        return cls(lgb.Booster(model_file=f"{stem}.location.txt"), lgb.Booster(model_file=f"{stem}.residual.txt"))


def _boost(
    features: np.ndarray, values: np.ndarray, objective: str, trees: int, options: GBMOptions, seed: int
) -> lgb.Booster:
    """Boosted trees from features (N, F) to values (N,); the same bytes on any number of cores."""
    settings = {
        "objective": objective,
        "num_leaves": options.leaves,
        "learning_rate": options.learning_rate,
        "min_data_in_leaf": options.min_leaf,
        "feature_fraction": 0.5,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    return lgb.train(settings, lgb.Dataset(features, values), num_boost_round=trees)


def _predict(booster: lgb.Booster, features: np.ndarray) -> np.ndarray:
    return np.asarray(booster.predict(features, num_threads=1), dtype=np.float64)
