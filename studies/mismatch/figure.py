"""Realised false positives and power against the strength of a shift of the auxiliary images: a column a shift."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leakgauge.report.style import COLOURS, GREY, tidy, to_png
from studies.common.figures import with_bars

UNITS = {
    "blurred": "blurred: deviation (pixels)",
    "noisy": "noisy: deviation (grey levels)",
    "inverted": "inverted: share of images",
    "other_classes": "classes left out, of ten",
    "other_source": "patches of photographs: share",
}
VALIDATIONS = {"plain": (COLOURS[1], "-"), "weighted": (COLOURS[0], "--")}
LEARNER, ALPHA = "mlp", 0.05  # drawn; the table has the others


def draw(rows: pd.DataFrame) -> bytes:
    """PNG: above the realised FPR, below the TPR of the same verdicts.  rows : metrics/mismatch.csv."""
    shown = rows[(rows["learner"] == LEARNER) & np.isclose(rows["alpha"], ALPHA)]
    shifts = list(dict.fromkeys(shown["shift"]))
    figure = Figure(figsize=(3.0 * len(shifts), 6.4), layout="constrained")
    panels = figure.subplots(2, len(shifts), sharex="col", sharey="row", squeeze=False)
    for shift, (above, below) in zip(shifts, panels.T, strict=True):
        of_shift = shown[shown["shift"] == shift]
        _rates(above, of_shift, "realised_fpr")
        _rates(below, of_shift, "tpr")
        warned = of_shift.groupby("strength", sort=False)["warned"].any()
        for place, warns in enumerate(warned):
            if warns:
                above.axvspan(place - 0.5, place + 0.5, color=COLOURS[4], alpha=0.18, linewidth=0)
        above.axhline(100 * ALPHA, color=GREY, linestyle=":")
        below.set_xticks(range(len(warned)), [f"{strength:g}" for strength in warned.index])
        below.set_xlabel(UNITS.get(shift, shift))
        above.set_yscale("symlog", linthresh=1)
        above.set_ylim(-0.1, 110)
        above.set_yticks([0, 1, 5, 10, 50, 100], ["0", "1", "5", "10", "50", "100"])
    panels[0][0].set_ylabel(f"Realised FPR (%), {100 * ALPHA:g} % asked for")
    panels[1][0].set_ylabel("TPR of the same verdicts (%)")
    handles = [
        panels[0][0].errorbar(
            [], [], color=colour, linestyle=line, marker="o", markersize=4, label=f"{name} calibration"
        )
        for name, (colour, line) in VALIDATIONS.items()
    ]
    handles += [panels[0][0].axhspan(0, 0, color=COLOURS[4], alpha=0.18, label="the blind check warns")]
    handles += [panels[0][0].plot([], [], color=GREY, linestyle=":", label="as asked for")[0]]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return to_png(figure)


def _rates(axes: Axes, rows: pd.DataFrame, name: str) -> None:
    """A mark a seed with its exact interval, and a line through their mean."""
    strengths = list(dict.fromkeys(rows["strength"]))
    for side, (calibration, (colour, line)) in enumerate(VALIDATIONS.items()):
        of_sort = rows[rows["calibration"] == calibration]
        seeds = list(dict.fromkeys(of_sort["seed"]))
        for number, seed in enumerate(seeds):
            one = of_sort[of_sort["seed"] == seed]
            x = np.array([strengths.index(value) for value in one["strength"]]) + 0.2 * side - 0.1 + 0.07 * number
            value, reach = with_bars(one, name, 100)
            axes.errorbar(x, value, reach, fmt="o", markersize=3, color=colour, elinewidth=0.8)
        means = of_sort.groupby("strength", sort=False)[name].mean()
        axes.plot(np.arange(len(means)) + 0.2 * side - 0.1, 100 * means, color=colour, linestyle=line, linewidth=1.2)
    tidy(axes)
