"""The figures of one target, drawn from the same CSV that `dvc plots` draws."""

import io
from collections.abc import Iterator

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

matplotlib.use("Agg")

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito: safe for colour-blind
GREY = "#777777"


def draw_figures(curves: dict[str, pd.DataFrame], fpr: float) -> dict[str, bytes]:
    """Figure name -> PNG.  curves : the CSV of `evaluate` by name.  fpr : at which TPR curves were taken."""
    figures = {
        "roc": _roc(curves["roc"]),
        "calibration": _calibration(curves["calibration"]),
        "bag_size": _bag_size(curves["bag_size"], fpr),
        "timestep": _timestep(curves["timestep"], fpr),
    }
    if len(curves["loss"]):
        figures["loss"] = _loss(curves["loss"])
    return {name: to_png(figure) for name, figure in figures.items()}


def to_png(figure: Figure) -> bytes:
    """The same figure gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()


def _roc(curve: pd.DataFrame) -> Figure:
    figure, axes = _axes("False-positive rate (holdout flagged)", "True-positive rate (members flagged)")
    lowest = curve["fpr"].min()
    chance = np.geomspace(lowest, 1, 100)
    axes.plot(chance, chance, color=GREY, linestyle=":", label="chance")
    for colour, learner, rows in _learners(curve):
        axes.plot(rows["fpr"], rows["tpr"], drawstyle="steps-post", color=colour, label=learner)
    axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(max(1e-3, lowest / 2), 1.05))
    axes.axvline(0.01, color=GREY, linewidth=0.6)
    axes.legend(loc="lower right", frameon=False)
    return figure


def _calibration(curve: pd.DataFrame) -> Figure:
    """One panel a verdict: raw as the learners have it, calibrated by p-value."""
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    floor = curve["nominal"].min() / 2
    for axes, verdict in zip(panels, ("raw", "calibrated"), strict=True):
        nominal = np.array([curve["nominal"].min(), curve["nominal"].max()])
        axes.plot(nominal, nominal, color=GREY, linestyle=":", label="as asked for")
        for colour, learner, rows in _learners(curve[curve["verdict"] == verdict]):
            realised = rows["realised"].clip(lower=floor)
            axes.plot(rows["nominal"], realised, color=colour, marker=".", label=learner)
            low = rows["ci_low"].clip(lower=floor)
            axes.fill_between(rows["nominal"], low, rows["ci_high"], color=colour, alpha=0.1)
        axes.set(xscale="log", yscale="log", title=f"{verdict} verdicts", xlabel="Nominal alpha", ylim=(floor, 1))
        _tidy(axes)
    panels[0].set_ylabel("Realised FPR on holdout (zero drawn at the bottom)")
    panels[0].legend(loc="upper left", frameon=False)
    return figure


def _bag_size(curve: pd.DataFrame, fpr: float) -> Figure:
    figure, axes = _axes("Attackers in the bag", f"TPR at {100 * fpr:g} % FPR")
    for colour, learner, rows in _learners(curve):
        axes.plot(rows["attackers"], rows["tpr"], color=colour, marker=".", label=learner)
        axes.fill_between(rows["attackers"], rows["tpr_ci_low"], rows["tpr_ci_high"], color=colour, alpha=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower right", frameon=False)
    return figure


def _timestep(curve: pd.DataFrame, fpr: float) -> Figure:
    figure, axes = _axes("Timestep of the t-error", "one threshold for all images")
    for colour, column, label in ((COLOURS[0], "auc", "AUC"), (COLOURS[1], "tpr", f"TPR at {100 * fpr:g} % FPR")):
        axes.plot(curve["timestep"], curve[column], color=colour, marker=".", label=label)
        low, high = curve[f"{column}_ci_low"], curve[f"{column}_ci_high"]
        axes.fill_between(curve["timestep"], low, high, color=colour, alpha=0.15)
    axes.axhline(0.5, color=GREY, linestyle=":", label="AUC of chance")
    axes.set_ylim(0, 1.02)
    axes.legend(loc="center right", framealpha=0.8)
    return figure


def _loss(curve: pd.DataFrame) -> Figure:
    figure, axes = _axes("Training step", "Epsilon loss (mean over nearby steps)")
    axes.plot(curve["step"], curve["loss"], color=COLOURS[0])
    axes.set_yscale("log")
    return figure


def _learners(curve: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Colour, name and rows of each learner, in the order of the file."""
    for number, (learner, rows) in enumerate(curve.groupby("learner", sort=False)):
        yield COLOURS[number % len(COLOURS)], str(learner), rows


def _axes(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.0, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    _tidy(axes)
    return figure, axes


def _tidy(axes: Axes) -> None:
    axes.grid(which="major", linewidth=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)
