"""Who is found: by group, and the most and the least exposed members as pictures."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leakgauge.report.style import COLOURS, GREY, tidy, to_png
from studies.common.figures import with_bars

LABELS = {
    "complexity": "{complexity} (range of each fifth)",
    "class": "Class",
    "nearest_member": "Distance to the nearest other member (RMS grey levels)",
    "nearest_auxiliary": "Distance to the nearest auxiliary image (RMS grey levels)",
}


def draw(rows: pd.DataFrame, fpr: float, complexity: str) -> bytes:
    """PNG: TPR by group and rule.  rows : metrics/exposure.csv."""
    figure = Figure(figsize=(12, 7.6), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    for axes, (by, label) in zip(panels.flat, LABELS.items(), strict=True):
        shown = rows[rows["by"] == by]
        _groups(axes, shown, by)
        axes.axhline(100 * fpr, color=GREY, linestyle=":", linewidth=0.8)
        axes.set_xlabel(label.format(complexity=complexity))
        tidy(axes)
    for axes in panels[:, 0]:
        axes.set_ylabel(f"Members found at {100 * fpr:g} % FPR (%)")
    handles, names = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    return to_png(figure)


def _groups(axes: Axes, rows: pd.DataFrame, by: str) -> None:
    groups = list(dict.fromkeys(rows["group"]))
    for number, (rule, of_rule) in enumerate(rows.groupby("rule", sort=False)):
        tpr, reach = with_bars(of_rule, "tpr", 100)
        x = np.arange(len(of_rule)) + 0.16 * (number - 0.5)
        axes.errorbar(x, tpr, reach, fmt="o", color=COLOURS[number], label=str(rule), elinewidth=0.9)
    ends = rows.drop_duplicates("group")
    ranges = [f"{low:.3g} to\n{high:.3g}" for low, high in zip(ends["low"], ends["high"], strict=True)]
    axes.set_xticks(range(len(groups)), [str(group) for group in groups] if by == "class" else ranges)


def draw_extremes(members: pd.DataFrame, pixels: np.ndarray, count: int) -> bytes:
    """PNG: the most exposed members above, the least below.  pixels : (N, C, H, W) uint8, by `row` of the members."""
    columns = -(-count // 2)
    figure = Figure(figsize=(1.3 * columns, 6.6), layout="constrained")
    panels = figure.subplots(4, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    halves = {"most": members.nlargest(count, "for_each"), "least": members.nsmallest(count, "for_each")}
    for half, (name, shown) in enumerate(halves.items()):
        places = panels[2 * half : 2 * half + 2].flat
        for axes, member in zip(places, shown.itertuples(), strict=False):
            picture = pixels[member.row].transpose(1, 2, 0)
            axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_title(f"{name} exposed\np = {member.p_value:.2g}", fontsize=7, color=COLOURS[1 - half])
    return to_png(figure)
