"""The experiments of one target, drawn from the same CSV that `dvc plots` draws."""

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from leakgauge.report.figures import COLOURS, GREY, by_learner, tidy, to_png


def draw_experiments(tables: dict[str, pd.DataFrame], fpr: float) -> dict[str, bytes]:
    """Figure name -> PNG.

    tables : the CSV of `sweep` by name; one without rows gives no figure.  fpr : at which TPR was taken.
    """
    drawers: dict[str, Callable[[pd.DataFrame, float], Figure]] = {
        "alpha": _alpha,
        "bag_size": _bag_size,
        "timestep": _timestep,
        "auxiliary": _auxiliary,
        "width": _width,
    }
    drawn = {name: draw(tables[name], fpr) for name, draw in drawers.items() if len(tables[name])}
    return {f"sweep_{name}": to_png(figure) for name, figure in drawn.items()}


def _alpha(table: pd.DataFrame, fpr: float) -> Figure:
    """True positives above, false positives below; raw verdicts on the left, calibrated ones on the right."""
    figure = Figure(figsize=(9.6, 7.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    floor = table["nominal"].min() / 2
    for column, verdict in enumerate(("raw", "calibrated")):
        rows = table[table["verdict"] == verdict]
        for axes, rate, label in zip(panels[:, column], ("tpr", "fpr"), ("TPR", "Realised FPR"), strict=True):
            _lines(axes, rows, "nominal", rate, floor)
            axes.set(xscale="log", yscale="log")
            if column == 0:
                axes.set_ylabel(f"{label} (zero drawn at the bottom)")
        ends = [table["nominal"].min(), table["nominal"].max()]
        panels[1, column].plot(ends, ends, color=GREY, linestyle=":", label="as asked for")
        panels[0, column].set_title(f"{verdict} verdicts")
        panels[1, column].set_xlabel("Nominal alpha")
    for axes in panels[:, 0]:
        axes.set_ylim(floor, 1.1)
    panels[1, 0].legend(loc="upper left", frameon=False, fontsize=8)
    return figure


def _bag_size(table: pd.DataFrame, fpr: float) -> Figure:
    figure = Figure(figsize=(6.0, 4.4), layout="constrained")
    axes = figure.subplots()
    size, tpr = table["attackers"], table["tpr"]
    axes.fill_between(size, table["tpr_min"], table["tpr_max"], color=COLOURS[0], alpha=0.12, label="least to largest")
    sub_bags = f"{table['learner'].iloc[0]}, mean of {table['sub_bags'].iloc[0]} sub-bags, and its spread"
    axes.errorbar(size, tpr, table["tpr_sd"], color=COLOURS[0], marker=".", capsize=3, elinewidth=0.9, label=sub_bags)
    axes.set(xlabel="Attackers in the bag", ylabel=f"TPR at {100 * fpr:g} % FPR")
    _ticks_at(axes, size)
    tidy(axes)
    axes.legend(loc="best", framealpha=0.8, fontsize=8)
    return figure


def _timestep(table: pd.DataFrame, fpr: float) -> Figure:
    return _panels(table, "timestep", "Timestep of the t-error", fpr, ["tpr", "auc"])


def _auxiliary(table: pd.DataFrame, fpr: float) -> Figure:
    figure = _panels(table, "auxiliary", "Auxiliary images", fpr, ["tpr", "auc", "out_of_bag_loss", "realised_fpr"])
    figure.axes[-1].axhline(fpr, color=GREY, linestyle=":")
    for axes in figure.axes:
        _ticks_at(axes, table["auxiliary"])
    return figure


def _width(table: pd.DataFrame, fpr: float) -> Figure:
    figure = _panels(table, "parameters", "Parameters of an attacker", fpr, ["tpr", "auc", "out_of_bag_loss"])
    for axes in figure.axes:
        _ticks_at(axes, table["parameters"])
    return figure


def _panels(table: pd.DataFrame, x: str, xlabel: str, fpr: float, measures: list[str]) -> Figure:
    """A panel a measure, each against column `x`."""
    labels = {
        "tpr": f"TPR at {100 * fpr:g} % FPR",
        "auc": "AUC",
        "out_of_bag_loss": "Pinball loss of out_of_bag images",
        "realised_fpr": f"Realised FPR, {100 * fpr:g} % asked for",
    }
    columns = 3 if len(measures) == 3 else 2
    rows = len(measures) // columns
    figure = Figure(figsize=(9.6, 3.6 * rows), layout="constrained")
    for axes, measure in zip(figure.subplots(rows, columns, squeeze=False).flat, measures, strict=True):
        _lines(axes, table, x, measure)
        axes.set(xlabel=xlabel, title=labels[measure])
    figure.axes[0].legend(loc="best", framealpha=0.8, fontsize=8)
    return figure


def _lines(axes: Axes, table: pd.DataFrame, x: str, measure: str, floor: float | None = None) -> None:
    """A line a learner, with its interval where the table has one.  floor : what lower values are drawn at."""
    for style, rows in by_learner(table):
        axes.plot(rows[x], rows[measure].clip(lower=floor), marker=".", **style)
        if f"{measure}_ci_low" in rows:
            low, high = (rows[f"{measure}_ci_{end}"].clip(lower=floor) for end in ("low", "high"))
            axes.fill_between(rows[x], low, high, color=style["color"], alpha=0.1, linewidth=0)
    tidy(axes)


def _ticks_at(axes: Axes, values: pd.Series) -> None:
    """A log axis that shows these values as they are."""
    axes.set_xscale("log")
    axes.set_xticks(sorted(values))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
