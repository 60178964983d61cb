"""The mean of one figure over several seeds, with an interval by how much the seeds differ.

Seeds draw roles (and train models) anew from the same images, so their counts are not independent and are never pooled
into one rate.  The unit of the interval is the seed: Student's t over the seeds' figures.  It is about other seeds on
these images; for other images or another target it is too narrow (Nadeau & Bengio, "Inference for the Generalization
Error", Machine Learning 52, 2003).
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t

FEWEST = 3  # seeds that an interval takes: with two, Student's t has a factor of 12.7 at 95 %


def mean_over_seeds(values: Sequence[float] | np.ndarray, confidence: float) -> tuple[float, float, float]:
    """Mean, and the ends of its Student t-interval.

    values : (S,) one figure of each seed.  The ends are NaN where there are fewer than `FEWEST` seeds, and all is NaN
    where a seed has no figure (NaN).
    """
    figures = np.asarray(values, dtype=float)
    mean = float(figures.mean())
    if len(figures) < FEWEST:
        return mean, np.nan, np.nan
    reach = float(t.ppf((1 + confidence) / 2, len(figures) - 1) * figures.std(ddof=1) / np.sqrt(len(figures)))
    return mean, mean - reach, mean + reach
