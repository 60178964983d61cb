"""Leakage against utility, a mark a defended model; and DP-SGD against its promise."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leakgauge.report.style import COLOURS, GREY, new_axes, tidy, to_png
from studies.common.figures import means, with_bars
from studies.common.settings import Measure

UTILITY = {
    "holdout_loss": "Denoising loss on images not trained on (squared error a pixel)",
    "frechet": "Frechet distance of samples from images not trained on",
}
MARKS = "oosD^vP*X<>"
NONE, PRIVATE = "none", "DP-SGD"
SETTING = ["defence", "strength", "rule"]


def draw(rows: pd.DataFrame, fpr: float, floor: float) -> bytes:
    """PNG: the strongest of three attackers against either utility.  floor : real images' Frechet distance."""
    shown = strongest(rows)
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (column, label) in zip(panels, UTILITY.items(), strict=True):
        for number, (defence, points) in enumerate(shown.groupby("defence", sort=False)):
            colour = "black" if defence == NONE else COLOURS[(number - 1) % (len(COLOURS) - 1)]
            _points(axes, points, column, str(defence), colour, MARKS[number % len(MARKS)])
        axes.axhline(100 * fpr, color=GREY, linestyle=":", linewidth=0.8)
        axes.set(xlabel=f"{label}: better to the left", xscale="log", yscale="log", ylim=(0.8, 140))
        axes.set_yticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
        tidy(axes)
    panels[1].axvline(floor, color=GREY, linestyle="--", linewidth=0.8)
    panels[1].text(floor, 120, " real images", color=GREY, fontsize=8, va="top")
    panels[0].set_ylabel(f"TPR at {100 * fpr:g} % FPR (%), strongest of three attackers")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False, fontsize=9)
    return to_png(figure)


def strongest(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each setting the row of the attacker with the largest mean TPR over seeds."""
    over_seeds = means(rows, SETTING)
    best = over_seeds.groupby(["defence", "strength"], sort=False)["tpr"].idxmax()
    return over_seeds.loc[best]


def _points(axes: Axes, points: pd.DataFrame, column: str, name: str, colour: str, mark: str) -> None:
    """A defence's settings, joined in their order, each with what its seeds span and its strength."""
    (tpr, reach), x = with_bars(points, "tpr", 100), points[column].to_numpy()
    look: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 6, "elinewidth": 0.8, "linewidth": 0.7}
    axes.errorbar(x, tpr, reach, label=name, **look)
    for place, value, strength in zip(x, tpr, points["strength"].fillna("").astype(str), strict=True):
        axes.annotate(strength, (place, value), (5, 4), textcoords="offset points", fontsize=7, color=colour)


def draw_private(rows: pd.DataFrame, asked: Measure) -> bytes:
    """PNG: TPR of every attacker under DP-SGD, beside the largest that (epsilon, delta) allows anyone."""
    shown = means(rows, SETTING).query("defence == @PRIVATE")
    strengths = list(dict.fromkeys(shown["strength"]))
    figure, axes = new_axes("", f"TPR at {100 * asked.fpr:g} % FPR (%)")
    figure.set_size_inches(7.5, 4.8)
    for number, (rule, points) in enumerate(shown.groupby("rule", sort=False)):
        x = np.arange(len(points)) + 0.14 * (number - 1)
        tpr, reach = with_bars(points, "tpr", 100)
        axes.errorbar(x, tpr, reach, fmt="o", color=COLOURS[number], label=rule)
    bound = shown.groupby("strength", sort=False)["largest_tpr"].first().fillna(1.0)
    for place, (strength, largest) in enumerate(bound.items()):
        spent = shown[shown["strength"] == strength]["epsilon"].iloc[0]
        told = "no promise" if np.isnan(spent) else f"at most {100 * largest:.3g} %\n(accountant: ε = {spent:.3g})"
        label = "largest that (ε, δ) allows" if place == 0 else None
        axes.plot([place - 0.35, place + 0.35], [100 * largest] * 2, color="black", linewidth=2, label=label)
        axes.text(place, 130, told, ha="center", va="bottom", fontsize=7)
    axes.axhline(100 * asked.fpr, color=GREY, linestyle=":", linewidth=0.8, label="chance")
    axes.set_xticks(range(len(strengths)), strengths)
    axes.set(yscale="log", ylim=(0.1, 400), xlabel="DP-SGD")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return to_png(figure)
