"""What each learner's thresholds gain over one threshold for all, by score."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leakgauge.report.style import COLOURS, GREY, tidy, to_png
from studies.common.figures import with_bars
from studies.common.measurement import ALL_SEEDS
from studies.common.settings import Measure


def draw(rows: pd.DataFrame, asked: Measure) -> bytes:
    """PNG: gain in TPR and in AUC, means over seeds.  rows : metrics/uplift.csv."""
    shown = rows[rows["seed"] == ALL_SEEDS]
    scores = list(dict.fromkeys(shown["score"]))
    figure = Figure(figsize=(12, 0.62 * len(scores) + 1.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _gains(left, shown, scores, "uplift", 100)
    _gains(right, shown, scores, "auc_uplift", 1)
    left.set_xlabel(f"Gain in TPR at {100 * asked.fpr:g} % FPR (percentage points)")
    right.set_xlabel("Gain in AUC")
    labels = [f"{score}\n{_baseline(shown, score)}" for score in scores]
    left.set_yticks(range(len(scores)), labels, fontsize=8)
    left.invert_yaxis()
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=5, frameon=False)
    return to_png(figure)


def _baseline(rows: pd.DataFrame, score: str) -> str:
    """The column, and what one threshold reaches on it."""
    row = rows[rows["score"] == score].iloc[0]
    column = "" if row["column"] == score else f"{row['column']}; "
    return f"{column}one threshold: {100 * (row['tpr'] - row['uplift']):.1f} %"


def _gains(axes: Axes, rows: pd.DataFrame, scores: list[str], name: str, unit: float) -> None:
    """A mark a score and learner, with its interval."""
    learners = list(dict.fromkeys(rows["learner"]))
    for number, learner in enumerate(learners):
        of_learner = rows[rows["learner"] == learner]
        y = np.array([scores.index(score) for score in of_learner["score"]]) + 0.17 * (number - (len(learners) - 1) / 2)
        value, reach = with_bars(of_learner, name, unit)
        axes.errorbar(value, y, xerr=reach, fmt="o", markersize=4, color=COLOURS[number], label=learner, elinewidth=0.9)
    axes.axvline(0, color=GREY, linewidth=0.8)
    for place in range(0, len(scores), 2):
        axes.axhspan(place - 0.5, place + 0.5, color=GREY, alpha=0.06, linewidth=0)
    tidy(axes)
