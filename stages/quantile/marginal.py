"""marginal: one threshold for every image, the baseline that per-image thresholds are compared with."""

from pathlib import Path
from typing import Literal, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from stages.params import Options
from stages.quantile.inputs import Inputs
from stages.quantile.lesson import Lesson
from stages.quantile.predictions import LEVELS, Quantiles


class MarginalOptions(Options):
    """An entry of the `learners` registry."""

    kind: Literal["marginal"]


class MarginalAttacker:
    """Quantiles of the auxiliary log scores; the image is not looked at."""

    looks_at_images = False

    def __init__(self, quantiles: np.ndarray) -> None:
        self.quantiles = quantiles  # (S, K) float64

    @classmethod
    def fit(cls, lesson: Lesson, options: MarginalOptions, seed: int) -> Self:
        """The quantiles of what it is taught."""
        log_scores = lesson.log_scores[lesson.resample.rows]  # (n, S)
        attacker = cls(np.quantile(log_scores, LEVELS, axis=0).T.copy())
        lesson.look(1, attacker)
        return attacker

    def predict(self, inputs: Inputs) -> Quantiles:
        """The same of every image."""
        return Quantiles(np.tile(self.quantiles, (len(inputs), 1, 1)))

    def save(self, folder: Path) -> None:
        """Write quantiles.safetensors."""
        save_file({"quantiles": self.quantiles}, folder / "quantiles.safetensors")

    @classmethod
    def load(cls, folder: Path, options: MarginalOptions) -> Self:
        """Read what `save` wrote."""
        return cls(load_file(folder / "quantiles.safetensors")["quantiles"])
