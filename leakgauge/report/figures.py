"""Figures of one target, as PNG."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from leakgauge.report.style import COLOURS, GREY, by_learner, new_axes, tidy, to_png

MOST_CLASSES = 20  # that a figure still shows


def draw_figures(curves: dict[str, pd.DataFrame], fpr: float, complexity: str) -> dict[str, bytes]:
    """Figure name -> PNG.

    curves : the CSV of `evaluate` by name, `fit` and `loss`; one without rows gives no figure.  fpr : at which TPR
    curves were taken.  complexity : the image statistic behind the deciles.
    """
    figures = {
        "alpha": _alpha(curves["alpha"]),
        "conditional_fpr": _conditional_fpr(curves["conditional_fpr"], fpr, complexity),
        "fit": _fit(curves["fit"]),
    }
    if len(curves["roc"]):
        figures |= {"roc": _roc(curves["roc"]), "bag_size": _bag_size(curves["bag_size"], fpr)}
    if len(curves["timestep"]):
        figures["timestep"] = _timestep(curves["timestep"], fpr)
    if len(curves["loss"]):
        figures["loss"] = _loss(curves["loss"])
    return {name: to_png(figure) for name, figure in figures.items()}


def _roc(curve: pd.DataFrame) -> Figure:
    figure, axes = new_axes("False-positive rate (holdout flagged)", "True-positive rate (members flagged)")
    lowest = curve["fpr"].min()
    chance = np.geomspace(lowest, 1, 100)
    axes.plot(chance, chance, color=GREY, linestyle=":", label="chance")
    for style, rows in by_learner(curve):
        axes.plot(rows["fpr"], rows["tpr"], drawstyle="steps-post", **style)
    axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(max(1e-3, lowest / 2), 1.05))
    axes.axvline(0.01, color=GREY, linewidth=0.6)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    return figure


def _alpha(curve: pd.DataFrame) -> Figure:
    """True positives above, false positives below; raw verdicts on the left, calibrated ones on the right."""
    figure = Figure(figsize=(9.6, 7.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    floor = curve["nominal"].min() / 2
    for column, verdict in enumerate(("raw", "calibrated")):
        rows = curve[curve["verdict"] == verdict]
        for axes, rate, label in zip(panels[:, column], ("tpr", "fpr"), ("TPR", "Realised FPR"), strict=True):
            _lines(axes, rows, "nominal", rate, floor)
            axes.set(xscale="log", yscale="log")
            if column == 0:
                axes.set_ylabel(f"{label} (zero drawn at the bottom)")
        ends = [curve["nominal"].min(), curve["nominal"].max()]
        panels[1, column].plot(ends, ends, color=GREY, linestyle=":", label="as asked for")
        panels[0, column].set_title(f"{verdict} verdicts")
        panels[1, column].set_xlabel("Nominal alpha")
    chance = curve[curve["verdict"] == "calibrated"].groupby("nominal")[["fpr_expected_low", "fpr_expected_high"]]
    low, high = chance.min()["fpr_expected_low"].clip(lower=floor), chance.max()["fpr_expected_high"].clip(lower=floor)
    panels[1, 1].fill_between(low.index, low, high, color=GREY, alpha=0.2, linewidth=0, label="what chance allows")
    lowest = curve["tpr"].replace(0, np.nan).min()
    panels[0, 0].set_ylim(floor if np.isnan(lowest) else lowest / 1.5, 1.1)
    panels[1, 0].set_ylim(floor, 1.1)
    panels[1, 1].legend(loc="lower right", frameon=False, fontsize=8)
    return figure


def _lines(axes: Axes, curve: pd.DataFrame, x: str, measure: str, floor: float | None = None) -> None:
    """A line a learner, with its interval.  floor : what lower values are drawn at."""
    for style, rows in by_learner(curve):
        axes.plot(rows[x], rows[measure].clip(lower=floor), marker=".", **style)
        low, high = (rows[f"{measure}_ci_{end}"].clip(lower=floor) for end in ("low", "high"))
        axes.fill_between(rows[x], low, high, color=style["color"], alpha=0.08, linewidth=0)
    tidy(axes)


def _conditional_fpr(curve: pd.DataFrame, fpr: float, complexity: str) -> Figure:
    """A panel by decile of complexity, and one by class if there are classes and few enough to see."""
    curve = curve[np.isclose(curve["nominal"], fpr)]
    by_class = curve[curve["group_by"] == "class"]
    panels = {f"Decile of {complexity} (1: lowest)": curve[curve["group_by"] == "complexity"]}
    if 0 < by_class["group"].nunique() <= MOST_CLASSES:
        panels["Class"] = by_class
    figure = Figure(figsize=(9.6, 0.6 + 3.2 * len(panels)), layout="constrained")
    all_axes = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axes, (label, rows) in zip(all_axes, panels.items(), strict=True):
        _side_by_side(axes, rows)
        axes.axhline(100 * fpr, color=GREY, linestyle=":", label="as asked for")
        axes.set(xlabel=label, ylabel="Realised FPR (%)")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    return figure


def _side_by_side(axes: Axes, curve: pd.DataFrame) -> None:
    """Each group's rates with their exact intervals, in percent, one mark a learner."""
    groups = sorted(curve["group"].unique())
    learners = list(by_learner(curve))
    for place in range(0, len(groups), 2):
        axes.axvspan(place - 0.5, place + 0.5, color=GREY, alpha=0.07, linewidth=0)
    chance = 100 * curve.groupby("group").agg({"expected_low": "min", "expected_high": "max"})
    low, high = chance["expected_low"], chance["expected_high"]
    axes.bar(range(len(groups)), high - low, 0.94, low, color=GREY, alpha=0.2, linewidth=0, label="what chance allows")
    for number, (style, rows) in enumerate(learners):
        x = np.searchsorted(groups, rows["group"]) + 0.8 * ((number + 0.5) / len(learners) - 0.5)
        realised, low, high = (100 * rows[name].to_numpy() for name in ("realised", "ci_low", "ci_high"))
        filled = "none" if style["linestyle"] == "--" else style["color"]
        look = {"color": style["color"], "label": style["label"], "markerfacecolor": filled, "elinewidth": 0.9}
        axes.errorbar(x, realised, (realised - low, high - realised), fmt="o", markersize=4, **look)
    axes.set_xticks(range(len(groups)), [str(group) for group in groups])
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.margins(y=0.03)  # marks at zero stay whole
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)


def _bag_size(curve: pd.DataFrame, fpr: float) -> Figure:
    figure, axes = new_axes("Attackers in the bag", f"TPR at {100 * fpr:g} % FPR")
    for style, rows in by_learner(curve):
        axes.plot(rows["attackers"], rows["tpr"], marker=".", **style)
        axes.fill_between(
            rows["attackers"], rows["tpr_min"], rows["tpr_max"], color=style["color"], alpha=0.06, linewidth=0
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 1.02)
    axes.legend(loc="best", framealpha=0.8, fontsize=8)
    return figure


def _fit(curve: pd.DataFrame) -> Figure:
    """Mean losses of a bag's attackers; a learner that is fitted in one go has one mark."""
    figure, axes = new_axes("Share of the fit (%)", "Mean pinball loss (units of a log score)")
    for style, rows in by_learner(curve):
        losses = rows.groupby("step")[["train", "out_of_bag"]].mean()
        done = 100 * losses.index / losses.index.max()
        axes.plot(done, losses["out_of_bag"], marker=".", **style)
        (seen,) = axes.plot(done, losses["train"], color=style["color"], linestyle=":", marker="o", markersize=3)
        seen.set_markerfacecolor("none")
    axes.set_xlim(0, 102)
    figure.legend(loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    return figure


def _timestep(curve: pd.DataFrame, fpr: float) -> Figure:
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    for axes, measure, label in zip(
        figure.subplots(1, 2), ("tpr", "auc"), (f"TPR at {100 * fpr:g} % FPR", "AUC"), strict=True
    ):
        _lines(axes, curve, "timestep", measure)
        axes.set(xlabel="Timestep of the t-error", title=label, ylim=(0, 1.02))
    figure.axes[1].axhline(0.5, color=GREY, linestyle=":", label="chance")
    figure.axes[1].legend(loc="lower left", framealpha=0.8, fontsize=8)
    return figure


def _loss(curve: pd.DataFrame) -> Figure:
    figure, axes = new_axes("Training step", "Epsilon loss (mean over nearby steps)")
    axes.plot(curve["step"], curve["loss"], color=COLOURS[0])
    axes.set_yscale("log")
    return figure


SHOWN = 24  # suspects on the page, from the lowest p-value


def draw_p_values(verdicts: pd.DataFrame, resolution: float) -> bytes:
    """PNG: the share of distinct suspects with a p-value up to each level.  resolution : the lowest there can be."""
    p_values = np.sort(verdicts.loc[verdicts["distinct"], "p_value"])
    figure, axes = new_axes("p-value", "Share of the suspects with at most this p-value")
    levels = np.geomspace(resolution, 1, 200)
    axes.plot(levels, levels, color=GREY, linestyle=":", label="if none was used")
    shares = np.searchsorted(p_values, levels, side="right") / len(p_values)
    axes.plot(levels, shares, color=COLOURS[0], drawstyle="steps-post", label="suspects")
    axes.set(xscale="log", xlim=(resolution, 1), ylim=(0, 1.02))
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    return to_png(figure)


def most_confident(verdicts: pd.DataFrame, images: dict[str, bytes]) -> list[dict[str, Any]]:
    """The suspects of the lowest p-values: their verdicts, and `png`.  images : image_id -> PNG."""
    rows = verdicts.sort_values(["p_value", "image_id"]).head(SHOWN).to_dict(orient="records")
    return [{**row, "png": images[row["image_id"]]} for row in rows]
