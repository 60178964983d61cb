"""What one attacker is taught, what it loses on the way, and when that is enough.

Prechelt, "Early Stopping - But When?", 1998: stop once the loss on images that are not fitted on has not gone down for
a while, and keep what was best.
"""

from typing import Any

import numpy as np
import pandas as pd

from stages.quantile.inputs import Inputs
from stages.quantile.predictions import mean_pinball_loss
from stages.quantile.resamples import Resample

LOOKS = 8  # at the losses, from the first epoch (or tree) to the last
WATCHED = 500  # images of each sort whose loss is followed while an attacker is fitted


class Lesson:
    """The images and log scores, (N, S) float64, that one attacker learns from, as its resample says."""

    def __init__(self, inputs: Inputs, log_scores: np.ndarray, resample: Resample) -> None:
        self.inputs, self.log_scores, self.resample = inputs, log_scores, resample
        unseen = resample.unseen if resample.kept is None else resample.unseen & ~resample.kept
        self._watched = {"seen": np.unique(resample.rows)[:WATCHED], "unseen": np.flatnonzero(unseen)[:WATCHED]}
        self._curve: list[dict[str, float]] = []
        self._best, self._lowest = 0, np.inf  # the look kept, counted from 1, and its loss

    def look(self, step: int, attacker: Any) -> bool:
        """Note the losses after a step.  Whether to keep the attacker as it is: it stops by no lower loss so far."""
        losses = {name: self._loss(attacker, rows) for name, rows in self._watched.items() if len(rows)}
        self._curve.append({"step": step, **losses})
        stopping = self.resample.stopping
        loss = self._loss(attacker, stopping.rows) if stopping else -np.inf
        if stopping and self._best and not loss < self._lowest:
            return False
        self._best, self._lowest = len(self._curve), loss
        return True

    @property
    def over(self) -> bool:
        """Whether patience is at an end."""
        stopping = self.resample.stopping
        return stopping is not None and len(self._curve) - self._best >= stopping.patience

    def curve(self) -> pd.DataFrame:
        """The losses up to what was kept: columns step, seen and unseen (mean pinball losses)."""
        return pd.DataFrame(self._curve[: self._best], columns=["step", *self._watched])

    def _loss(self, attacker: Any, rows: np.ndarray) -> float:
        return mean_pinball_loss(attacker.predict(self.inputs[rows]), self.log_scores[rows])
