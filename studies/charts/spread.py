"""What a figure draws around the mean over seeds: the interval over seeds, or what the seeds' own intervals span."""

import pandas as pd

from studies.measurement import ALL_SEEDS


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
