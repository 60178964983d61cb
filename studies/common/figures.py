"""What the figures of several studies draw."""

import numpy as np
import pandas as pd

from studies.common.measurement import ALL_SEEDS


def means(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The rows of `ALL_SEEDS`.  Too few seeds for an interval: its ends are the extremes of the seeds' own intervals.

    rows : as `with_means` gives them.  by : the columns that make a setting.
    """
    seeds = rows[rows["seed"] != ALL_SEEDS].groupby(by, sort=False, dropna=False)
    over = rows[rows["seed"] == ALL_SEEDS].set_index(by)
    for low in [name for name in rows if name.endswith("_ci_low")]:
        high = f"{low.removesuffix('_ci_low')}_ci_high"
        over[low], over[high] = over[low].fillna(seeds[low].min()), over[high].fillna(seeds[high].max())
    return over.reset_index()


def with_bars(rows: pd.DataFrame, name: str, unit: float) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """A column with an interval, in some unit, (N,), and how far its error bars reach below and above it."""
    value, low, high = (unit * rows[end].to_numpy() for end in (name, f"{name}_ci_low", f"{name}_ci_high"))
    return value, (np.maximum(value - low, 0), np.maximum(high - value, 0))
