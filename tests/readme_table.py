"""What the documentation shows of the default audit, made of the committed metrics, so that it cannot go stale.

python tests/readme_table.py            print the verdict's lines, the table, and what the paired differences tell
python tests/readme_table.py --write    put the lines into README.md, the table into docs/get-started.md
"""

import json
import re
import sys
import textwrap
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY))
from leakgauge.report.verdict import lines  # noqa: E402

VERDICT = re.compile(r"(?<=<!-- verdict -->\n).*?(?=<!-- /verdict -->)", re.DOTALL)
TARGET = "digits_ddpm"
LEVELS = {"1e-1": "10 %", "5e-2": "5 %", "1e-2": "1 %"}
BLOCK = re.compile(r"\| learner \| AUC \|.*?\n\n.*?\n\n", re.DOTALL)  # the table, and the paragraph below it


def verdict() -> str:
    """The lines that `leakgauge report` prints, as they stand in README.md."""
    summary = json.loads((REPOSITORY / "metrics/summary.json").read_text())
    return "```text\n" + "\n".join(lines(TARGET, summary[TARGET])) + "\n```\n"


def table() -> str:
    """The table and the paragraph below it, as they stand in docs/get-started.md."""
    metrics = json.loads((REPOSITORY / f"metrics/details/{TARGET}.json").read_text())["judges"]
    head = ["learner", "AUC", "TPR at 1 % FPR", *(f"calibrated FPR at {level}" for level in LEVELS.values())]
    rows = [head, ["---"] * len(head), *(_row(name, figures) for name, figures in metrics.items())]
    return (
        "".join(f"| {' | '.join(row)} |\n" for row in rows)
        + f"\n{textwrap.fill(_told(metrics), 120, break_on_hyphens=False)}\n\n"
    )


def _row(name: str, figures: dict) -> list[str]:
    cells = [f"`{name}`", f"{figures['auc']:.4f}", _percent(figures, "tpr_at_fpr_1e-2")]
    return cells + [_realised(figures, f"realised_fpr_at_alpha_{level}") for level in LEVELS]


def _percent(figures: dict, name: str) -> str:
    value, low, high = (figures[f"{name}{end}"] for end in ("", "_ci_low", "_ci_high"))
    if value is None:
        return "not resolved"
    within = f"at least {100 * low:.1f}" if high in (None, 1) else f"{100 * low:.1f} to {100 * high:.1f}"
    return f"{100 * value:.1f} % ({within})"


def _realised(figures: dict, name: str) -> str:
    """The rate, and beside it what exact calibration gives by chance."""
    if f"{name}_expected_low" not in figures:  # metrics of a run that did not tell it
        return _percent(figures, name)
    low, high = (100 * figures[f"{name}_expected_{end}"] for end in ("low", "high"))
    return f"{100 * figures[name]:.1f} % ({low:.1f} to {high:.1f} by chance)"


def _told(metrics: dict) -> str:
    """One sentence a figure: which differences have a paired interval that excludes zero."""
    compared = {name: figures for name, figures in metrics.items() if figures.get("compared_with")}
    if not compared:
        return "No paired differences were measured: no difference between these rows can be told."
    gains = {"tpr_gain_at_fpr_1e-2": "TPR at 1 % FPR", "auc_gain": "AUC"}
    parts = []
    for key, what in gains.items():
        known = {name: figures for name, figures in compared.items() if figures[key] is not None}
        told = [
            f"`{name}` {'more' if figures[key] > 0 else 'less'} than `{figures['compared_with']}`"
            for name, figures in known.items()
            if figures[f"{key}_ci_low"] > 0 or figures[f"{key}_ci_high"] < 0
        ]
        parts.append(f"in {what} {', '.join(told) if told else 'no difference can be told'}")
    return (
        f"By paired intervals on the same images, of each learner against `marginal` and of each fusion against its "
        f"one score ({len(compared)} pairs, no correction for their number): {'; '.join(parts)}."
    )


def write(path: Path, block: re.Pattern[str], text: str) -> None:
    """Exchange a block of a page."""
    page = path.read_text(encoding="utf-8")
    assert len(block.findall(page)) == 1, f"{path}: its block was not found"
    path.write_text(block.sub(lambda _: text, page), encoding="utf-8")


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        write(REPOSITORY / "README.md", VERDICT, verdict())
        write(REPOSITORY / "docs/get-started.md", BLOCK, table())
    print(verdict() + "\n" + table())
