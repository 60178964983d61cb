"""Leakage above, denoising losses below, against what was varied."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from leakgauge.report.style import COLOURS, GREY, tidy, to_png
from studies.common.figures import means
from studies.common.measurement import ALL_SEEDS, ONE_FOR_ALL, PER_IMAGE
from studies.common.settings import Measure

EXPERIMENTS = {"epochs": "Epochs (times each member was shown)", "members": "Members", "width": "Channels of the UNet"}
LOSSES = {"holdout_loss": ("not trained on", COLOURS[3]), "member_loss": ("members", COLOURS[2])}


def draw(rows: pd.DataFrame, asked: Measure) -> bytes:
    """PNG: a column an experiment.  rows : metrics/memorisation.csv."""
    figure = Figure(figsize=(12.5, 7.2), layout="constrained")
    panels = figure.subplots(2, len(EXPERIMENTS), sharex="col", sharey="row")
    for (experiment, label), (above, below) in zip(EXPERIMENTS.items(), panels.T, strict=True):
        shown = rows[rows["experiment"] == experiment]
        _leakage(above, shown, asked.fpr)
        _losses(below, shown)
        values = sorted(shown["value"].unique())
        below.set_xscale("log")
        below.set_xticks(values, [f"{value:g}" for value in values])
        below.xaxis.set_minor_locator(NullLocator())
        below.set_xlabel(label)
    panels[0][0].set_ylabel(f"TPR at {100 * asked.fpr:g} % FPR (%)")
    panels[1][0].set_ylabel("Denoising loss (squared error a pixel)")
    panels[0][0].legend(fontsize=8, frameon=False, loc="upper left")
    panels[1][0].legend(fontsize=8, frameon=False, loc="upper right")
    return to_png(figure)


def _leakage(axes: Axes, rows: pd.DataFrame, fpr: float) -> None:
    """Both rules: a line through the means with what their seeds span, and a small mark a seed."""
    for colour, rule in zip(COLOURS, (ONE_FOR_ALL, PER_IMAGE), strict=False):
        of_rule = rows[rows["rule"] == rule].sort_values("value")
        line, seeds = means(of_rule, ["value"]), of_rule[of_rule["seed"] != ALL_SEEDS]
        axes.plot(line["value"], 100 * line["tpr"], color=colour, marker="o", markersize=4, label=rule)
        axes.fill_between(
            line["value"], 100 * line["tpr_ci_low"], 100 * line["tpr_ci_high"], color=colour, alpha=0.15, linewidth=0
        )
        axes.plot(seeds["value"], 100 * seeds["tpr"], color=colour, marker="_", linestyle="")
    axes.axhline(100 * fpr, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_ylim(-2, 102)
    tidy(axes)


def _losses(axes: Axes, rows: pd.DataFrame) -> None:
    """Mean over seeds, and the seeds' least and largest as a band."""
    of_seeds = rows[(rows["rule"] == PER_IMAGE) & (rows["seed"] != ALL_SEEDS)]
    for column, (label, colour) in LOSSES.items():
        losses = of_seeds.groupby("value")[column].agg(["mean", "min", "max"])
        axes.plot(losses.index, losses["mean"], color=colour, marker="o", markersize=4, label=label)
        axes.fill_between(losses.index, losses["min"], losses["max"], color=colour, alpha=0.2, linewidth=0)
    axes.set_yscale("log")
    tidy(axes)
