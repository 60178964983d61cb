"""Power against cost: a mark an attack, its size the seconds of training, its shape what the attacker must have."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leakgauge.report.style import COLOURS, GREY, tidy, to_png

RULES = {"one threshold": ("o", "none"), "one for each image": ("o", "full")}
KNOWLEDGE = {"predictions": "o", "API": "s", "labels": "D", "weights": "^"}  # a word of `knowledge` -> shape
SIZES = {"no training": 36, "seconds": 80, "minutes": 220}  # areas of marks


def draw(rows: pd.DataFrame) -> bytes:
    """PNG: a panel an FPR.  rows : metrics/cost.csv."""
    fprs = list(dict.fromkeys(rows["fpr"]))
    figure = Figure(figsize=(13, 6.2), layout="constrained")
    panels = figure.subplots(1, len(fprs), sharex=True, squeeze=False)[0]
    names = list(dict.fromkeys(rows["attack"]))
    colours = dict(zip(names, COLOURS * 2, strict=False))
    for axes, fpr in zip(panels, fprs, strict=True):
        shown = rows[rows["fpr"] == fpr].reset_index(drop=True)
        _marks(axes, shown, colours)
        axes.axhline(100 * fpr, color=GREY, linestyle=":", linewidth=0.8)
        axes.set(xscale="log", xlabel="Network calls an image (a backward pass counts as two)", ylim=(-3, None))
        axes.set(ylabel=f"TPR at {100 * fpr:g} % FPR (%)")
        axes.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
        axes.minorticks_off()
        tidy(axes)
    shapes = {name: _shape(rows[rows["attack"] == name]["knowledge"].iloc[0]) for name in names}
    handles = [panels[0].scatter([], [], color=colours[name], marker=shapes[name], s=50, label=name) for name in names]
    handles += [
        panels[0].scatter([], [], s=50, edgecolor="black", facecolor="none" if fill == "none" else "black", label=rule)
        for rule, (_, fill) in RULES.items()
    ]
    handles += [panels[0].scatter([], [], s=size, color=GREY, label=name) for name, size in SIZES.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=7, frameon=False, fontsize=9)
    return to_png(figure)


def _marks(axes: Axes, rows: pd.DataFrame, colours: dict[str, str]) -> None:
    """Each attack's TPR with its interval; attacks of equally many calls stand beside one another."""
    crowd = rows.groupby("network_calls").cumcount() - (rows.groupby("network_calls")["fpr"].transform("size") - 1) / 2
    x = rows["network_calls"] * 1.09**crowd
    for place, row in rows.iterrows():
        tpr, low, high = (100 * row[name] for name in ("tpr", "tpr_ci_low", "tpr_ci_high"))
        colour = colours[row["attack"]]
        if high - low < 100:  # else too few holdout images for an interval
            axes.errorbar(x[place], tpr, [[tpr - low], [high - tpr]], color=colour, elinewidth=0.9, zorder=1)
        fill = "white" if row["rule"] == "one threshold" else colour
        look: dict[str, Any] = {"s": _size(row["training_seconds"]), "marker": _shape(row["knowledge"])}
        axes.scatter(x[place], tpr, edgecolor=colour, facecolor=fill, zorder=2, **look)


def _size(seconds: float) -> int:
    return list(SIZES.values())[int(np.searchsorted([1e-9, 60], seconds))]


def _shape(knowledge: str) -> str:
    """What the most telling word of it stands for."""
    return next(mark for word, mark in reversed(KNOWLEDGE.items()) if word in knowledge)
