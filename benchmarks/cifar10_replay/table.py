"""The results as a page of Markdown: every learner over the seeds, their differences, and what others published."""

import itertools

import numpy as np
from scipy.stats import betabinom

from leakgauge.inference.comparisons import FEWEST_SEEDS, mean_over_seeds

CONFIDENCE = 0.95
LEVELS = ("1e-1", "5e-2", "1e-2", "1e-3")
PUBLISHED = """\
| published on this target | labels of members that it needs | TPR at 1 % FPR | TPR at 0.1 % FPR | AUC |
|---|---|---|---|---|
| one threshold on these t-errors (SecMI's statistic, ICML 2023) | none | 9.3 | 0.6 | 0.844 |
| a score of 31 network calls an image | 500, and 500 of others: tune three of its settings | 50.8 | - | 0.939 |
| a classifier | 20 % of all: train it | 38 to 40 | 7.6 to 11.4 | 0.951 |

Others' figures are as published, on their own draws of images and without intervals: no difference to them has an
interval.  The learners above use no label of a member.
"""
CAVEATS = """\
The images at hand are a lossy copy (JPEG, quality 75, chroma at half size) of those that were scored: what JPEG threw
away decides part of a t-error and cannot be learnt here.
"""


def as_markdown(results: dict) -> str:
    """The page.  results : as run.py writes them to JSON."""
    images, seeds = results["images"], results["seeds"]
    page = f"""\
# Replay of published CIFAR-10 t-errors

{images["auxiliary"]} auxiliary non-members, {images["holdout"]} fresh non-members, {images["members"]} members; seeds
{", ".join(seeds)}.  {_told(len(seeds))}

"""
    learners = list(next(iter(seeds.values())))
    power = [[name, *_power(results, name)] for name in learners]
    page += _table(["learner", "TPR at 1 % FPR", "TPR at 0.1 % FPR", "AUC", "one attacker alone, at 1 % FPR"], power)
    page += f"\n{_differences(results)}{PUBLISHED}\n{_learning_curve(results['learning_curve'])}"
    page += "## Do the error rates hold?\n\n"
    page += "Calibrated FPR on fresh non-members, in percent, and in how many seeds it lies in the range that exact\n"
    page += (
        "calibration gives in 95 % of draws (beta-binomial: of the images that calibrate and those that measure).\n\n"
    )
    held = [[name, *_error_rates(results, name)] for name in learners]
    page += _table(["learner", "at 10 %", "at 5 %", "at 1 %", "at 0.1 %", "worst complexity decile, at 1 %"], held)
    page += "\n## What it costs\n\n"
    costs = [[name, *_costs(results, name)] for name in learners if name != "stack"]
    page += _table(["learner", "fit, seconds", "predict, seconds"], costs)
    described = results["costs"]["images@cifar10"]["seconds"]
    total = sum(cost["seconds"] for cost in results["costs"].values()) / 60
    page += f"\nReading 50,000 images and their features: {described:.0f} s.  Everything together: {total:.1f} min on "
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
            f"{row['out_of_bag_loss']:.4f}",
        ]
        for row in rows
    ]
    head = ["auxiliary images", "TPR at 1 % FPR", "AUC", "pinball loss on images not seen"]
    return f"## Would more auxiliary images help?\n\n`{rows[0]['learner']}`, first seed.\n\n{_table(head, cells)}\n"


def _told(seeds: int) -> str:
    """What a cell of the first table holds."""
    if seeds < FEWEST_SEEDS:
        return "Percent, and the audit's own 95 % interval" + (", of the first seed." if seeds > 1 else ".")
    return (
        "Percent: the mean over seeds, (their standard deviation), and Student's 95 % interval\n"
        "over seeds.  Seeds draw roles from the same 40,000 images under one target, so their counts are not pooled;\n"
        "for other images or another target the intervals are too narrow."
    )


def _power(results: dict, learner: str) -> list[str]:
    rows = [figures[learner] for figures in results["seeds"].values()]
    alone = [one[learner] for one in results["single_attacker"].values()]
    return [
        *(_cell(rows, f"tpr_at_fpr_{level}", "{:.1f}", 100) for level in ("1e-2", "1e-3")),
        _cell(rows, "auc", "{:.4f}", 1),
        _alone(alone),
    ]


def _alone(rows: list[dict]) -> str:
    """What single attackers reach: the mean, and the least and the largest of all."""
    mean, least, most = (
        np.mean([row["tpr"] for row in rows]),
        *(pick(row[f"tpr_{end}"] for row in rows) for end, pick in (("min", min), ("max", max))),
    )
    return f"{100 * mean:.1f} ({100 * least:.1f} to {100 * most:.1f})"


def _cell(rows: list[dict], name: str, form: str, unit: float) -> str:
    """Mean, spread and interval over seeds; of fewer than three seeds the first one's figure, with its own interval.

    A figure that an audit leaves out (None) is a dash; an interval whose upper end is 1 is a bound, "at least".
    """
    if any(row[name] is None for row in rows):
        return "-"
    if len(rows) < FEWEST_SEEDS:
        value, low, high = (rows[0][end] for end in (name, f"{name}_ci_low", f"{name}_ci_high"))
        ends = f"at least {form.format(unit * low)}" if high in (None, 1) else _ends(low, high, form, unit)
        return f"**{form.format(unit * value)}**, {ends}"
    values = np.array([row[name] for row in rows])
    mean, low, high = mean_over_seeds(values, CONFIDENCE)
    deviation = form.format(unit * values.std(ddof=1))
    return f"**{form.format(unit * mean)}** ({deviation}), {_ends(low, high, form, unit)}"


def _ends(low: float, high: float, form: str, unit: float) -> str:
    return f"{form.format(unit * low)} to {form.format(unit * high)}"


def _differences(results: dict) -> str:
    """What each learner gains over each other, seed by seed on the same images."""
    seeds = list(results["seeds"].values())
    if len(seeds) < FEWEST_SEEDS:
        return ""
    figures = {"tpr_at_fpr_1e-2": ("{:+.1f}", 100), "tpr_at_fpr_1e-3": ("{:+.1f}", 100), "auc": ("{:+.4f}", 1)}
    rows = [
        [f"{one} - {other}", *(_gain(seeds, one, other, name, *how) for name, how in figures.items())]
        for other, one in itertools.combinations(seeds[0], 2)
    ]
    intervals = len(rows) * len(figures)
    return f"""\
## Which learner catches more?

Differences between learners of the same seed, on the same images: the mean over seeds, and Student's 95 % interval over
seeds.  Where it holds zero no difference can be told; else it is bold.  Of {intervals} such intervals of figures that
do not differ, {0.05 * intervals:g} exclude zero on average.

{_table(["learners", "TPR at 1 % FPR, points", "TPR at 0.1 % FPR, points", "AUC"], rows)}
"""


def _gain(seeds: list[dict], one: str, other: str, name: str, form: str, unit: float) -> str:
    """A difference over the seeds; bold where its interval excludes zero."""
    mean, low, high = mean_over_seeds([row[one][name] - row[other][name] for row in seeds], CONFIDENCE)
    told = form.format(unit * mean)
    return f"{f'**{told}**' if low > 0 or high < 0 else told}, {_ends(low, high, form, unit)}"


def _error_rates(results: dict, learner: str) -> list[str]:
    rows = [figures[learner] for figures in results["seeds"].values()]
    cells = []
    for level in LEVELS:
        name = f"realised_fpr_at_alpha_{level}"
        held = sum(_by_chance(row[f"{name}_count"], row["holdout"], row["calibration"], float(level)) for row in rows)
        cells.append(f"{100 * np.mean([row[name] for row in rows]):.2f}, {held} of {len(rows)}")
    worst = [100 * row["worst_decile_fpr_at_alpha_1e-2"] for row in rows]
    return [*cells, f"{np.mean(worst):.1f}, at most {max(worst):.1f}"]


def _by_chance(count: int, holdout: int, calibrating: int, alpha: float) -> bool:
    """Whether so many false positives lie in the central 95 % of what exact calibration gives."""
    flagging = int(alpha * (calibrating + 1) + 1e-9)
    expected = betabinom(holdout, flagging, calibrating + 1 - flagging)
    return bool(expected.ppf((1 - CONFIDENCE) / 2) <= count <= expected.ppf((1 + CONFIDENCE) / 2))


def _costs(results: dict, learner: str) -> list[str]:
    of_seeds = [
        [results["costs"][f"{stage}@seed_{seed}-{learner}"] for stage in ("fit", "predict")]
        for seed in results["seeds"]
    ]
    fit, predict = (np.mean([pair[stage]["seconds"] for pair in of_seeds]) for stage in (0, 1))
    return [f"{fit:.0f}", f"{predict:.0f}"]
