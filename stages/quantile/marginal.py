"""marginal: one threshold for every image, the baseline that per-image thresholds must beat."""

from pathlib import Path
from typing import Literal, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from stages.params import Options
from stages.quantile.predictions import LEVELS, Quantiles


class MarginalOptions(Options):
    """An entry of the `learners` registry."""

    kind: Literal["marginal"]


class MarginalAttacker:
    """Quantiles of the auxiliary log scores; the image is not looked at."""

    def __init__(self, quantiles: np.ndarray) -> None:
        self.quantiles = quantiles  # (K,) float64

    @classmethod
    def fit(cls, images: np.ndarray, log_scores: np.ndarray, options: MarginalOptions, seed: int) -> Self:
        """log_scores : (N,) float64; the rest is not used."""
        return cls(np.quantile(log_scores, LEVELS))

    def predict(self, images: np.ndarray) -> Quantiles:
        """images : (N, C, H, W) uint8."""
        return Quantiles(np.tile(self.quantiles, (len(images), 1)))

    def save(self, stem: Path) -> None:
        """Write <stem>.safetensors."""
        save_file({"quantiles": self.quantiles}, stem.with_suffix(".safetensors"))

    @classmethod
    def load(cls, stem: Path, options: MarginalOptions) -> Self:
        """Read what `save` wrote."""
        return cls(load_file(stem.with_suffix(".safetensors"))["quantiles"])
