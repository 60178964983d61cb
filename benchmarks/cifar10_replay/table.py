"""The results as a page of Markdown: every learner over the seeds, beside what others published."""

import numpy as np
from scipy.stats import binomtest

LEVELS = ("1e-1", "5e-2", "1e-2", "1e-3")
PUBLISHED = """\
| published on this target | TPR at 1 % FPR | TPR at 0.1 % FPR | AUC |
|---|---|---|---|
| one threshold on these t-errors (SecMI's statistic, ICML 2023) | 9.3 | 0.6 | 0.844 |
| best published without member labels (31 network queries) | 50.8 | - | - |
| best published with 20 % of the members labelled | 38 to 40 | 7.6 to 11.4 | - |
"""
CAVEATS = """\
The images at hand are a lossy copy (JPEG, quality 75, chroma at half size) of those that were scored: what JPEG threw
away decides part of a t-error and cannot be learnt here.  Rates over several seeds pool their counts; the seeds share
images, so that the pooled intervals are a little too narrow.  The spread is the standard deviation over seeds.
"""


def as_markdown(results: dict) -> str:
    """The page.  results : as run.py writes them to JSON."""
    images, seeds = results["images"], results["seeds"]
    page = f"""\
# Replay of published CIFAR-10 t-errors

{images["auxiliary"]} auxiliary non-members, {images["holdout"]} fresh non-members, {images["members"]} members; seeds
{", ".join(seeds)}.  Percent: the mean over seeds, (their spread), and the exact 95 % interval of the pooled counts.

"""
    learners = list(next(iter(seeds.values())))
    power = [[name, *_power(results, name)] for name in learners]
    page += _table(
        ["learner", "TPR at 1 % FPR", "TPR at 0.1 % FPR", "AUC", "its first attacker alone, at 1 % FPR"], power
    )
    page += f"\n{PUBLISHED}\n{_learning_curve(results['learning_curve'])}## Do the error rates hold?\n\n"
    page += "Calibrated FPR on fresh non-members, in percent, and how often nominal lies in its interval.\n\n"
    held = [[name, *_error_rates(results, name)] for name in learners]
    page += _table(["learner", "at 10 %", "at 5 %", "at 1 %", "at 0.1 %", "worst complexity decile, at 1 %"], held)
    page += "\n## What it costs\n\n"
    costs = [[name, *_costs(results, name)] for name in learners if name != "stack"]
    page += _table(["learner", "fit, seconds", "predict, seconds", "peak memory of a process, MiB"], costs)
    described = results["costs"]["describe cifar10"]["seconds"]
    total = sum(cost["seconds"] for cost in results["costs"].values()) / 60
    page += f"\nThe statistics of 50,000 images: {described:.0f} s.  Everything together: {total:.1f} min on "
    return page + f"{results['machine']['cores']} cores.\n\n{CAVEATS}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _learning_curve(rows: list[dict]) -> str:
    if not rows:
        return ""
    cells = [
        [
            f"{row['auxiliary']}",
            f"{100 * row['tpr']:.1f}, {100 * row['tpr_ci_low']:.1f} to {100 * row['tpr_ci_high']:.1f}",
            f"{row['auc']:.4f}, {row['auc_ci_low']:.4f} to {row['auc_ci_high']:.4f}",
            f"{row['unseen_loss']:.4f}",
        ]
        for row in rows
    ]
    head = ["auxiliary images", "TPR at 1 % FPR", "AUC", "pinball loss on images not seen"]
    return f"## Would more auxiliary images help?\n\n`{rows[0]['learner']}`, first seed.\n\n{_table(head, cells)}\n"


def _power(results: dict, learner: str) -> list[str]:
    rows = [figures[learner] for figures in results["seeds"].values()]
    first = [
        {
            "tpr": one[learner]["tpr"],
            "tpr_count": round(one[learner]["tpr"] * row["members"]),
            "members": row["members"],
        }
        for one, row in zip(results["single_attacker"].values(), rows, strict=True)
    ]
    area = [row["auc"] for row in rows]
    return [
        _rate(rows, "tpr_at_fpr_1e-2"),
        _rate(rows, "tpr_at_fpr_1e-3"),
        f"{np.mean(area):.4f} ({np.std(area):.4f})",
        _rate(first, "tpr"),
    ]


def _rate(rows: list[dict], name: str) -> str:
    """Mean, spread and pooled interval of a share of the members."""
    values = [100 * row[name] for row in rows]
    count, total = sum(row[f"{name}_count"] for row in rows), sum(row["members"] for row in rows)
    interval = binomtest(count, total).proportion_ci(0.95, method="exact")
    return f"**{np.mean(values):.1f}** ({np.std(values):.1f}), {100 * interval.low:.1f} to {100 * interval.high:.1f}"


def _error_rates(results: dict, learner: str) -> list[str]:
    rows = [figures[learner] for figures in results["seeds"].values()]
    cells = []
    for level in LEVELS:
        name = f"realised_fpr_at_alpha_{level}"
        held = sum(row[f"{name}_ci_low"] <= float(level) <= row[f"{name}_ci_high"] for row in rows)
        cells.append(f"{100 * np.mean([row[name] for row in rows]):.2f}, {held} of {len(rows)}")
    worst = [100 * row["worst_decile_fpr_at_alpha_1e-2"] for row in rows]
    return [*cells, f"{np.mean(worst):.1f}, at most {max(worst):.1f}"]


def _costs(results: dict, learner: str) -> list[str]:
    of_seeds = [
        [results["costs"][f"{stage} seed_{seed} {learner}"] for stage in ("fit", "predict")]
        for seed in results["seeds"]
    ]
    fit, predict = (np.mean([pair[stage]["seconds"] for pair in of_seeds]) for stage in (0, 1))
    peak = max(cost["peak_mib"] for pair in of_seeds for cost in pair)
    return [f"{fit:.0f}", f"{predict:.0f}", f"{peak:.0f}"]
