"""Leakage against epochs: several targets that are one training at several points of it.

A table on the terminal, and metrics/epochs/<name>.csv and .svg.  Of each epoch, by its own headline judge, the TPR at
`evaluate.curve_fpr` and the AUC with their intervals; and the loss on holdout images, at the noise and timesteps of
`score.attacks.naive_loss`, the same in every epoch: it falls while the model learns, and rises again as it overfits.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakgauge.commands.gate import details
from leakgauge.errors import InputError
from leakgauge.files import write_bytes

if TYPE_CHECKING:
    import pandas as pd

FOLDER = Path("metrics/epochs")


def curve(name: str, targets: Sequence[str]) -> None:
    """Print the curve of these targets, in this order, and write it.  Raises InputError where there are no figures."""
    import pandas as pd  # which takes a second

    from leakgauge.report.verdict import percent

    summary = json.loads(Path("metrics/summary.json").read_text(encoding="utf-8"))
    if missing := [target for target in targets if target not in summary or summary[target]["tpr"] is None]:
        raise InputError(f"{missing[0]}: has no figures against epochs: members must be known")
    table = pd.DataFrame([_row(target, summary[target]) for target in targets])
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_bytes(FOLDER / f"{name}.csv", table.to_csv(index=False, float_format="%.6g").encode())
    fpr = summary[targets[0]]["fpr"]
    write_bytes(FOLDER / f"{name}.svg", _figure(table, fpr).encode())
    width = max(len(target) for target in targets)
    print(f"\n{'':<{width}}  TPR at {percent(fpr)} % FPR (interval)  AUC (interval)          loss on holdout")
    for row in table.to_dict("records"):
        tpr = f"{percent(row['tpr'])} % ({percent(row['tpr_ci_low'])} to {percent(row['tpr_ci_high'])})"
        auc = f"{row['auc']:.3f} ({row['auc_ci_low']:.3f} to {row['auc_ci_high']:.3f})"
        loss = "" if row["loss"] is None else f"{row['loss']:.4g}"
        print(f"{row['target']:<{width}}  {tpr:<27} {auc:<23} {loss}")
    print(f"\n{first_leak(table, fpr)}\n{FOLDER / name}.svg shows it.", flush=True)


def _row(target: str, verdict: dict[str, Any]) -> dict[str, Any]:
    figures = details(target)["judges"][verdict["judge"]]
    ends = ("", "_ci_low", "_ci_high")
    row = {"target": target, "judge": verdict["judge"], **{f"tpr{end}": verdict[f"tpr{end}"] for end in ends}}
    return row | {f"auc{end}": figures[f"auc{end}"] for end in ends} | {"loss": holdout_loss(target)}


def holdout_loss(target: str) -> float | None:
    """The mean over holdout images and timesteps of the naive loss; None where it was not among the attacks."""
    from leakgauge.tables import read_table

    table = read_table(Path(f"data/scores/{target}/holdout.parquet")).to_pandas()
    losses = table.filter(regex=r"^loss_t\d+$")
    return float(losses.to_numpy().mean()) if losses.size else None


def first_leak(table: "pd.DataFrame", fpr: float) -> str:
    """Sentences on the epochs from which on every interval of the AUC, and of the TPR, lies above chance."""
    figures = (("AUC", "auc_ci_low", 0.5), (f"TPR at {100 * fpr:g} % FPR", "tpr_ci_low", fpr))
    said = [
        _leaves_chance(table["target"].tolist(), (table[low] > chance).tolist(), name) for name, low, chance in figures
    ]
    return f"{' '.join(said)} Each interval holds for its own epoch."


def _leaves_chance(targets: list[str], above: list[bool], name: str) -> str:
    if not above[-1]:
        return f"The last epoch's {name} cannot be told from chance: its interval reaches it."
    first = len(above) - next((number for number, one in enumerate(reversed(above)) if not one), len(above))
    included = ", the first included" if first == 0 else ""
    return f"From {targets[first]} on, the interval of the {name} lies above chance in every epoch{included}."


def _figure(table: "pd.DataFrame", fpr: float) -> str:
    """Leakage with its intervals, and below it the loss on the holdout, against the epochs.  Returns SVG."""
    from matplotlib.figure import Figure

    from leakgauge.report.figures import BASELINE, HEADLINE, LOOK, rc_context, to_svg
    from leakgauge.report.style import GREY, tidy
    from leakgauge.report.verdict import percent

    x = range(len(table))
    with_loss = table["loss"].notna().all()
    with rc_context(LOOK):
        figure = Figure(figsize=(6.4, 5.0 if with_loss else 3.2), layout="constrained")
        above, *below = figure.subplots(2 if with_loss else 1, sharex=True, squeeze=False)[:, 0]
        for name, colour, label in (("tpr", HEADLINE, f"TPR at {percent(fpr)} % FPR"), ("auc", BASELINE, "AUC")):
            low, high = (table[f"{name}_ci_{end}"].astype(float) for end in ("low", "high"))
            above.plot(x, table[name], color=colour, marker="o", markersize=4, label=label)
            top = high.where(high < 1, table[name])  # a band without an upper end would say more than is known
            above.fill_between(x, low, top, color=colour, alpha=0.15, linewidth=0)
        for level in (0.5, fpr):
            above.axhline(level, color=GREY, linewidth=0.8, linestyle=":")
        above.set(ylim=(0, 1), ylabel="leakage; dotted: chance")
        above.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        for axes in below:
            axes.plot(x, table["loss"], color=GREY, marker="o", markersize=4)
            axes.set_ylabel("loss on holdout images")
        axes = (below or [above])[-1]
        axes.set_xticks(list(x), table["target"], rotation=30, ha="right")
        for axes in (above, *below):
            tidy(axes)
        return to_svg(figure)
