"""What the figures of several studies draw."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from leakgauge.report.style import COLOURS, tidy
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


def against(
    rows: pd.DataFrame, x: str, xlabel: str, by: list[str], labels: Mapping[str, str]
) -> tuple[Figure, list[Axes]]:
    """A panel a column of `labels`, each against column `x` on a log axis; and its axes.

    The mean over seeds with its interval, where the column has one, and a small mark a seed.  by : as of `means`.
    """
    figure = Figure(figsize=(3.4 * len(labels), 3.6), layout="constrained")
    panels, over, seeds = figure.subplots(1, len(labels), squeeze=False)[0], means(rows, by), rows["seed"] != ALL_SEEDS
    for axes, (column, label) in zip(panels, labels.items(), strict=True):
        axes.plot(over[x], over[column], color=COLOURS[0], marker="o", markersize=4)
        if f"{column}_ci_low" in rows:
            low, high = over[f"{column}_ci_low"], over[f"{column}_ci_high"]
            axes.fill_between(over[x], low, high, color=COLOURS[0], alpha=0.15, linewidth=0)
        axes.plot(rows[seeds][x], rows[seeds][column], color=COLOURS[0], marker="_", linestyle="")
        axes.set(xlabel=xlabel, title=label, xscale="log")
        axes.set_xticks(over[x], [f"{value:,.0f}" for value in over[x]])
        axes.xaxis.set_minor_locator(NullLocator())
        tidy(axes)
    return figure, list(panels)
