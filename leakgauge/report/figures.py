"""Figures of one target, as SVG that is light or dark as the reader's screen is.

Three carry the evidence, with few lines each: the headline judge beside one threshold for all images.  The others are
of every judge, a panel a learner: a fusion is dashed, one threshold for all is grey.
"""

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from leakgauge.report.style import COLOURS, GREY, new_axes, tidy
from leakgauge.report.verdict import percent

INK, HEADLINE, BASELINE = "#202020", COLOURS[1], COLOURS[0]
SHADES = {  # of a line or a text -> on light, and on dark paper: 4.5 to 1 in contrast at least
    INK: ("#1d1f23", "#e7e9ec"),
    GREY: ("#6b6f76", "#9aa0a8"),
    HEADLINE: ("#a83f00", "#ff9d5c"),
    BASELINE: ("#005a94", "#6db7f2"),
}
LOOK: Any = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "leakgauge",  # the same figure gives the same bytes
    "axes.titlesize": 10,
}
MOST_CLASSES = 20  # that a figure still shows
PANELS = 3  # a row
EACH, ONE = "thresholds for each image", "one threshold for all"
SUPERVISED, HALF = "supervised", "half of the members known"


def to_svg(figure: Figure) -> str:
    """A picture without a background, whose colours follow the reader's choice of light or dark."""
    stream = io.StringIO()
    figure.savefig(
        stream, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
    )
    svg = re.sub(r"<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg[svg.index("<svg") :])
    for number, colour in enumerate(SHADES):
        svg = re.sub(re.escape(colour), f"var(--c{number})", svg, flags=re.IGNORECASE)
    light, dark = (
        "".join(f"--c{number}: {shades[scheme]};" for number, shades in enumerate(SHADES.values())) for scheme in (0, 1)
    )
    style = f"svg {{ {light} font-family: sans-serif }} @media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}"
    return svg.replace(">", f"><style>{style}</style>", 1)


def draw_figures(
    curves: dict[str, pd.DataFrame], headline: str, baseline: str | None, fpr: float, complexity: str
) -> dict[str, str]:
    """Figure name -> SVG.

    curves : the CSV of `evaluate` by name, `fit` and `loss`; one without rows gives no figure.  headline, baseline :
    the judges of the figures with few lines.  fpr : at which TPR curves were taken.  complexity : the image feature
    behind the deciles.
    """
    conditional = curves["conditional_fpr"]
    conditional = conditional[np.isclose(conditional["nominal"], fpr)]
    drawings: dict[str, Callable[[], Figure]] = {
        "rates": lambda: _rates(curves["alpha"], headline, baseline),
        "conditional_fpr": lambda: _groups(conditional, headline, baseline, fpr, complexity),
        "all_rates": lambda: _panels(curves["alpha"].query("verdict == 'calibrated'"), baseline, _calibrated),
        "fit": lambda: _panels(curves["fit"], None, _fit),
    }
    if len(curves["roc"]):
        drawings |= {
            "roc": lambda: roc_figure(curves["roc"], headline, baseline, fpr),
            "all_roc": lambda: _panels(curves["roc"], baseline, _roc_lines),
            "bag_size": lambda: _panels(curves["bag_size"], baseline, _bag_size(fpr)),
        }
    if len(curves["timestep"]):
        drawings["timestep"] = lambda: _panels(_beside_one_for_all(curves["timestep"]), ONE, _timestep(fpr))
    if len(curves["loss"]):
        drawings["loss"] = lambda: _loss(curves["loss"])
    with rc_context(LOOK):
        return {name: to_svg(draw()) for name, draw in drawings.items()}


def roc_figure(curve: pd.DataFrame, headline: str, baseline: str | None, fpr: float) -> Figure:
    """The ROC of two judges, and of an attacker that knows half of the members.

    On log-log axes, from one false positive and as low as their TPR goes.
    """
    figure, axes = new_axes("False alarms (false-positive rate)", "Identified (true-positive rate)")
    figure.set_size_inches(4.8, 3.8)
    places = {}
    judges = (baseline, BASELINE, ONE), (headline, HEADLINE, _called(headline, baseline)), (SUPERVISED, GREY, HALF)
    for judge, colour, label in judges:
        rows = curve[curve["learner"] == judge]
        if not len(rows):
            continue
        axes.plot(rows["fpr"], rows["tpr"], color=colour, drawstyle="steps-post", linewidth=1.8)
        reached = rows.loc[rows["fpr"] <= fpr + 1e-9, "tpr"]
        if len(reached):
            places[label] = (reached.max(), colour)
    shown = curve[curve["learner"].isin([judge for judge, *_ in judges])]
    _roc_axes(axes, shown)
    if places:
        axes.axvline(fpr, color=GREY, linewidth=0.6)
    for tpr, colour in places.values():
        axes.plot([fpr], [tpr], "o", color=colour, markersize=5)
    for rank, (label, (tpr, colour)) in enumerate(sorted(places.items(), key=lambda place: -place[1][0])):
        text = f"{label}: {percent(tpr)} %"
        axes.text(0.98, 0.16 - 0.075 * rank, text, color=colour, ha="right", transform=axes.transAxes, weight="bold")
    axes.set_title(f"At {percent(fpr)} % false alarms", color=GREY, loc="left")
    return figure


def _called(headline: str, baseline: str | None) -> str:
    """What the headline judge's line is called: by its name where it is the only one, perhaps one threshold for all."""
    return EACH if baseline else headline


def _roc_axes(axes: Axes, curve: pd.DataFrame) -> None:
    """Log-log axes over what the curves cover, in percent, and the line of chance."""
    left = curve["fpr"].min()
    bottom = max(curve["tpr"].replace(0, np.nan).min(), 1e-3)
    bottom = max(left / 1.3, 0.7 * bottom) if np.isfinite(bottom) else left / 1.3
    chance = np.geomspace(left, 1, 100)
    axes.plot(chance, chance, color=GREY, linestyle=":", linewidth=1)
    axes.set(xscale="log", yscale="log", xlim=(left, 1), ylim=(bottom, 1.15))
    if bottom < 0.1:  # else the line of chance is at the right edge only
        axes.annotate("chance", (0.4, 0.4), (2, -12), textcoords="offset points", color=GREY, fontsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        _in_percent(axis)
    if bottom > 0.05:
        ticks = [tick for tick in (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1) if tick >= bottom]
        axes.set_yticks(ticks)


def _in_percent(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:.3g} %"))
    axis.set_minor_formatter(NullFormatter())


def _rates(curve: pd.DataFrame, headline: str, baseline: str | None) -> Figure:
    """What share of the holdout is flagged, and of the members, at the alpha asked for."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    false, true = figure.subplots(1, 2)
    floor = curve["nominal"].min() / 2
    calibrated = curve[(curve["verdict"] == "calibrated") & (curve["learner"] == headline)]
    _chance(false, calibrated.set_index("nominal"), floor)
    looks: list[tuple[str, str | None, dict[str, Any]]] = [
        ("raw", headline, {"color": HEADLINE, "linestyle": ":"}),
        ("calibrated", baseline, {"color": BASELINE}),
        ("calibrated", headline, {"color": HEADLINE, "linewidth": 1.8}),
    ]
    for axes, rate in ((false, "fpr"), (true, "tpr")):
        for verdict, judge, look in looks:
            rows = curve[(curve["verdict"] == verdict) & (curve["learner"] == judge)].sort_values("nominal")
            if len(rows) and rows[rate].notna().any():
                axes.plot(rows["nominal"], rows[rate].clip(lower=floor), marker=".", markersize=4, **look)
        axes.set(xscale="log", xlabel="False-positive rate asked for (alpha)")
        tidy(axes)
    each = _called(headline, baseline)
    names = [("as asked for", GREY), (f"{each}, calibrated", HEADLINE), (f"{each}, raw", HEADLINE)]
    _label(false, [*names, *([(ONE, BASELINE)] if baseline else [])])
    false.set(yscale="log", ylim=(floor, 1.1), title="Realised false-positive rate (holdout)")
    true.set(ylim=(0, 1.03), title="True-positive rate (members)")
    for axis in (false.xaxis, false.yaxis, true.xaxis, true.yaxis):
        _in_percent(axis)
    return figure


def _label(axes: Axes, entries: list[tuple[str, str]]) -> None:
    """Names of lines in their colours, in the empty corner of a rising curve: a legend without a key."""
    for place, (text, colour) in enumerate(entries):
        axes.text(0.98, 0.03 + 0.07 * place, text, color=colour, ha="right", transform=axes.transAxes, fontsize=9)


def _chance(axes: Axes, rows: pd.DataFrame, floor: float) -> None:
    """As asked for, and the range in which chance leaves an exact calibration.  rows : by nominal alpha."""
    low, high = (rows[f"fpr_expected_{end}"].clip(lower=floor) for end in ("low", "high"))
    axes.fill_between(rows.index, low, high, color=GREY, alpha=0.2, linewidth=0)
    axes.plot(rows.index, rows.index, color=GREY, linestyle=":", linewidth=1)


def _groups(curve: pd.DataFrame, headline: str, baseline: str | None, fpr: float, complexity: str) -> Figure:
    """A panel by decile of complexity, and one by class if there are classes and few enough to see."""
    by_class = curve[curve["group_by"] == "class"]
    panels = {f"Decile of {complexity} (1: lowest)": curve[curve["group_by"] == "complexity"]}
    if 0 < by_class["group"].nunique() <= MOST_CLASSES:
        panels["Class"] = by_class
    figure = Figure(figsize=(9.6, 0.4 + 2.6 * len(panels)), layout="constrained")
    all_axes = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axes, (label, rows) in zip(all_axes, panels.items(), strict=True):
        _marks(axes, rows, ({baseline: BASELINE} if baseline else {}) | {headline: HEADLINE})
        axes.axhline(100 * fpr, color=GREY, linestyle=":", linewidth=1)
        axes.set(xlabel=label, ylabel="Realised FPR (%)")
    names = [(_called(headline, baseline), HEADLINE), *([(ONE, BASELINE)] if baseline else [])]
    for place, (text, colour) in enumerate(names):
        at = 0.99, 0.9 - 0.1 * place
        all_axes[0].text(*at, text, color=colour, ha="right", transform=all_axes[0].transAxes, fontsize=9)
    return figure


def _marks(axes: Axes, curve: pd.DataFrame, colours: dict[str, str]) -> None:
    """Each group's rate with its exact interval, in percent; grey: what chance leaves of an exact calibration."""
    groups = sorted(curve["group"].unique())
    chance = 100 * curve.groupby("group").agg({"expected_low": "min", "expected_high": "max"})
    low, high = chance["expected_low"], chance["expected_high"]
    axes.bar(range(len(groups)), high - low, 0.9, low, color=GREY, alpha=0.2, linewidth=0)
    for number, (judge, colour) in enumerate(colours.items()):
        rows = curve[curve["learner"] == judge]
        x = np.searchsorted(groups, rows["group"]) + 0.3 * (number - 0.5)
        realised, low, high = (100 * rows[name].to_numpy() for name in ("realised", "ci_low", "ci_high"))
        axes.errorbar(
            x, realised, (realised - low, high - realised), fmt="o", markersize=4, color=colour, elinewidth=0.9
        )
    axes.set_xticks(range(len(groups)), [str(group) for group in groups])
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.margins(y=0.03)  # marks at zero stay whole
    tidy(axes)


Draw = Callable[[Axes, pd.DataFrame, dict[str, Any]], None]  # lines of one judge, in its look


def _panels(curve: pd.DataFrame, baseline: str | None, draw: Draw) -> Figure:
    """A panel a learner: its own judges in colour, a fusion dashed, and one threshold for all in grey."""
    learners = list(dict.fromkeys(name.removesuffix("_fusion") for name in curve["learner"]))
    learners = [name for name in learners if name != ONE] or learners
    rows = -(-len(learners) // PANELS)
    figure = Figure(figsize=(9.6, 0.3 + 2.9 * rows), layout="constrained")
    panels = figure.subplots(rows, PANELS, squeeze=False, sharex=True, sharey=True).flat
    for learner, axes in zip(learners, panels, strict=False):
        if baseline not in (None, learner):
            draw(axes, curve[curve["learner"] == baseline], {"color": GREY, "linewidth": 1})
        for name, dash in ((learner, "-"), (f"{learner}_fusion", "--")):
            own = curve[curve["learner"] == name]
            if len(own):
                draw(axes, own, {"color": HEADLINE, "linestyle": dash, "linewidth": 1.4})
        axes.set_title(learner)
        tidy(axes)
    for axes in list(figure.axes)[len(learners) :]:
        axes.set_axis_off()
    return figure


def _roc_lines(axes: Axes, rows: pd.DataFrame, look: dict[str, Any]) -> None:
    axes.plot(rows["fpr"], rows["tpr"], drawstyle="steps-post", **look)
    axes.set(xscale="log", yscale="log", xlabel="FPR", ylabel="TPR")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _calibrated(axes: Axes, rows: pd.DataFrame, look: dict[str, Any]) -> None:
    floor = rows["nominal"].min() / 2
    if look["color"] != GREY and look["linestyle"] == "-":
        _chance(axes, rows.set_index("nominal"), floor)
    axes.plot(rows["nominal"], rows["fpr"].clip(lower=floor), **look)
    axes.set(xscale="log", yscale="log", xlabel="alpha", ylabel="Realised FPR")


def _bag_size(fpr: float) -> Draw:
    def draw(axes: Axes, rows: pd.DataFrame, look: dict[str, Any]) -> None:
        axes.plot(rows["attackers"], rows["tpr"], marker=".", **look)
        if look["color"] != GREY:
            axes.fill_between(rows["attackers"], rows["tpr_min"], rows["tpr_max"], color=look["color"], alpha=0.1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(ylim=(0, 1.02), xlabel="Attackers in the bag", ylabel=f"TPR at {100 * fpr:g} % FPR")

    return draw


def _fit(axes: Axes, rows: pd.DataFrame, look: dict[str, Any]) -> None:
    """Mean losses of a bag's attackers: out of bag, and dotted on what they were fitted on."""
    losses = rows.groupby("step")[["train", "out_of_bag"]].mean()
    done = 100 * losses.index / losses.index.max()
    axes.plot(done, losses["out_of_bag"], marker=".", **look)
    axes.plot(done, losses["train"], marker=".", **(look | {"linestyle": ":"}))
    axes.set(xlim=(0, 104), xlabel="Share of the fit (%)", ylabel="Mean pinball loss")


def _beside_one_for_all(curve: pd.DataFrame) -> pd.DataFrame:
    """Without the learner that is one threshold for all: that line is there at every timestep."""
    return curve[curve["learner"] != "marginal"] if (curve["learner"] == ONE).any() else curve


def _timestep(fpr: float) -> Draw:
    def draw(axes: Axes, rows: pd.DataFrame, look: dict[str, Any]) -> None:
        axes.plot(rows["timestep"], rows["tpr"], marker=".", **look)
        if look["color"] != GREY:
            axes.fill_between(rows["timestep"], rows["tpr_ci_low"], rows["tpr_ci_high"], color=look["color"], alpha=0.1)
        axes.set(ylim=(0, 1.02), xlabel="Timestep of the t-error", ylabel=f"TPR at {100 * fpr:g} % FPR")

    return draw


def _loss(curve: pd.DataFrame) -> Figure:
    figure, axes = new_axes("Training step", "Epsilon loss (mean over nearby steps)")
    axes.plot(curve["step"], curve["loss"], color=BASELINE)
    axes.set_yscale("log")
    return figure


def draw_p_values(verdicts: pd.DataFrame, resolution: float) -> str:
    """SVG: the share of distinct suspects with a p-value up to each level.  resolution : the lowest there can be."""
    p_values = np.sort(verdicts.loc[verdicts["distinct"], "p_value"])
    with rc_context(LOOK):
        figure, axes = new_axes("p-value", "Share of the suspects with at most this p-value")
        levels = np.geomspace(resolution, 1, 200)
        axes.plot(levels, levels, color=GREY, linestyle=":")
        shares = np.searchsorted(p_values, levels, side="right") / len(p_values)
        axes.plot(levels, shares, color=HEADLINE, drawstyle="steps-post", linewidth=1.8)
        axes.set(xscale="log", xlim=(resolution, 1), ylim=(0, 1.02))
        axes.text(0.02, 0.95, "suspects", color=HEADLINE, transform=axes.transAxes, weight="bold")
        axes.text(0.02, 0.89, "if none was used", color=GREY, transform=axes.transAxes)
        return to_svg(figure)
