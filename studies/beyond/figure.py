"""A VAE beside a DDPM on the same members: power by both rules, and whether calibration holds."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leakgauge.report.style import COLOURS, GREY, tidy, to_png
from studies.common.figures import with_bars
from studies.common.measurement import ALL_SEEDS, PER_IMAGE
from studies.common.settings import Measure

NAMES = {"reconstruction": "VAE:\nreconstruction", "negative_elbo": "VAE:\nnegative ELBO"}


def draw(rows: pd.DataFrame, asked: Measure) -> bytes:
    """PNG.  rows : metrics/beyond.csv."""
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _power(left, rows, "tpr", 100)
    _power(middle, rows, "auc", 1)
    left.set(ylabel=f"TPR at {100 * asked.fpr:g} % FPR (%)", ylim=(-2, 102))
    left.axhline(100 * asked.fpr, color=GREY, linestyle=":", linewidth=0.8)
    middle.set(ylabel="AUC", ylim=(0.45, 1.01))
    middle.axhline(0.5, color=GREY, linestyle=":", linewidth=0.8)
    _calibration(right, rows, asked.alphas)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    return to_png(figure)


def _power(axes: Axes, rows: pd.DataFrame, name: str, unit: float) -> None:
    """The mean over seeds with its interval, and a small mark a seed."""
    scores = list(dict.fromkeys(rows["score"]))
    for number, (rule, of_rule) in enumerate(rows.groupby("rule", sort=False)):
        over, seeds = of_rule[of_rule["seed"] == ALL_SEEDS], of_rule[of_rule["seed"] != ALL_SEEDS]
        x = np.array([scores.index(score) for score in over["score"]]) + 0.2 * (number - 0.5)
        value, reach = with_bars(over, name, unit)
        axes.errorbar(x, value, reach, fmt="o", color=COLOURS[number], label=str(rule))
        places = [scores.index(score) + 0.2 * (number - 0.5) + 0.07 for score in seeds["score"]]
        axes.plot(places, unit * seeds[name], linestyle="", marker="_", color=COLOURS[number])
    axes.set_xticks(range(len(scores)), [NAMES.get(score, f"DDPM:\n{score}") for score in scores])
    tidy(axes)


def _calibration(axes: Axes, rows: pd.DataFrame, alphas: list[float]) -> None:
    """What calibrated verdicts of per-image thresholds realise, a mark a score and seed."""
    each = rows[(rows["rule"] == PER_IMAGE) & (rows["seed"] != ALL_SEEDS)]
    for number, (score, of_score) in enumerate(each.groupby("score", sort=False)):
        for place, alpha in enumerate(alphas):
            value, reach = with_bars(of_score, f"realised_fpr_at_{alpha:g}", 100)
            x = place + 0.22 * (number - 1) + 0.05 * np.arange(len(value))
            label = NAMES.get(str(score), f"DDPM: {score}").replace("\n", " ") if place == 0 else None
            axes.errorbar(x, value, reach, fmt="o", markersize=3, color=COLOURS[number + 2], label=label)
    for place, alpha in enumerate(alphas):
        axes.plot([place - 0.4, place + 0.4], [100 * alpha] * 2, color=GREY, linestyle=":")
    axes.set_xticks(range(len(alphas)), [f"{100 * alpha:g} %" for alpha in alphas])
    axes.set(xlabel="FPR asked for (dotted)", ylabel="Realised FPR of calibrated verdicts (%)", ylim=(0, None))
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)
