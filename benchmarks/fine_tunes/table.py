"""The results of the fine-tunes as Markdown."""

from typing import Any

CONTROLS = {
    "unrelated": "a base that learnt nothing",
    "itself": "a base that is the target itself",
}


def as_markdown(results: dict[str, Any]) -> str:
    """results : results.json."""
    fpr, seeds = f"{100 * results['fpr']:g} %", len(results["seeds"])
    parts = [
        "# Fine-tunes",
        f"TPR at {fpr} FPR, in percent, of a DDPM that was fine-tuned on 100 digits; means of {seeds} seeds. `linear`, "
        "`gbm` and `mlp` beside the base learn what a regression on the scores under the base leaves. The last column "
        "is the gain of `linear` beside the base, in points, over the best judge without it, which each seed's figures "
        "pick, with an interval: paired bootstraps over images, one a seed, whose errors are independent. In brackets: "
        "AUC.",
    ]
    for name, figures in results["fine_tunes"].items():
        parts += [f"## {name[0].upper()}{name[1:]}", _table(figures)]
    parts += ["## Controls", "Of the heaviest fine-tune of all weights."]
    for name, figures in results["controls"].items():
        parts += [f"### {CONTROLS[name].capitalize()}", _table(figures)]
    realised = [
        judge["realised"]
        for of in results["fine_tunes"].values()
        for figures in of.values()
        for judge in figures.values()
    ]
    parts.append(
        f"Realised false-positive rate at {fpr} of the {len(realised)} rows by judge above the controls: mean "
        f"{100 * sum(realised) / len(realised):.2f} %, from {100 * min(realised):.2f} to {100 * max(realised):.2f} %."
    )
    return "\n\n".join(parts) + "\n"


def _table(figures: dict[str, Any]) -> str:
    judges = list(next(iter(figures.values())))
    lines = [f"| score | {' | '.join(judges)} | gain |", "|---" * (len(judges) + 2) + "|"]
    for score, of in figures.items():
        linear = of["linear beside the base"]
        gain = "{gain:+.1f} ({gain_ci_low:+.1f} to {gain_ci_high:+.1f})".format(
            **{key: 100 * value for key, value in linear.items() if key.startswith("gain")}
        )
        cells = (f"{100 * of[name]['tpr']:.1f} ({of[name]['auc']:.3f})" for name in judges)
        lines.append(f"| `{score}` | {' | '.join(cells)} | {gain} over {', '.join(linear['compared_with'])} |")
    return "\n".join(lines)
