"""Leakage by noise level: a colour a process, and a colour a DDIM interval."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leakgauge.report.style import COLOURS, GREY, tidy, to_png
from studies.common.figures import means
from studies.common.measurement import ONE_FOR_ALL, PER_IMAGE
from studies.common.settings import Measure

STYLES = {PER_IMAGE: "-", ONE_FOR_ALL: ":"}
SETTING = ["setting", "noise", "rule"]


def draw(rows: pd.DataFrame, asked: Measure) -> bytes:
    """PNG: by process and by interval, the AUC and the TPR.  rows : metrics/processes.csv."""
    figure = Figure(figsize=(11.5, 8.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex="row", sharey="col")
    titles = {"process": "By process and network", "interval": "DDPM, by DDIM interval k"}
    for (experiment, title), (left, right) in zip(titles.items(), panels, strict=True):
        shown = means(rows[rows["experiment"] == experiment], SETTING)
        _curves(left, shown, "auc", 1)
        _curves(right, shown, "tpr", 100)
        left.axhline(0.5, color=GREY, linewidth=0.8)
        right.axhline(100 * asked.fpr, color=GREY, linewidth=0.8)
        left.set(ylabel="AUC", title=title, ylim=(-0.02, 1.02))
        right.set(ylabel=f"TPR at {100 * asked.fpr:g} % FPR (%)", title=title, ylim=(-2, 102))
        for axes in (left, right):
            axes.set(xscale="log", xlabel="Noise level at which the t-error is measured, sigma_t / alpha_t")
            tidy(axes)
        handles = [left.plot([], [], color=COLOURS[i], label=name)[0] for i, name in enumerate(names(shown))]
        handles += [left.plot([], [], color="black", linestyle=style, label=rule)[0] for rule, style in STYLES.items()]
        left.legend(handles=handles, fontsize=8, frameon=False, loc="lower left", ncols=1)
    return to_png(figure)


def names(rows: pd.DataFrame) -> list[str]:
    """Settings in the order of the table."""
    return list(dict.fromkeys(rows["setting"].astype(str)))


def _curves(axes: Axes, rows: pd.DataFrame, figure: str, unit: float) -> None:
    """A curve a setting and rule; of one rule with what its seeds span as a band."""
    for number, name in enumerate(names(rows)):
        for rule, style in STYLES.items():
            curve = rows[(rows["setting"].astype(str) == name) & (rows["rule"] == rule)].sort_values("noise")
            axes.plot(curve["noise"], unit * curve[figure], color=COLOURS[number], linestyle=style)
            if rule == PER_IMAGE:
                low, high = (unit * curve[f"{figure}_ci_{end}"] for end in ("low", "high"))
                axes.fill_between(curve["noise"], low, high, color=COLOURS[number], alpha=0.12, linewidth=0)
