"""Every figure of speed, as ratios against the plain ways, in one command.

    python -m benchmarks.speed.run [--parts scoring shortcuts fitting evaluation] [--out FOLDER]

Run it alone on the machine, from the repository's root.  Writes results.json and results.md beside this file, or to
--out; parts that are not asked for keep what was found before.  About 40 minutes on two cores.
"""

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.speed import evaluation, fitting, scoring, shortcuts
from leakgauge.cli import parser_of

HERE = Path(__file__).parent
PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "scoring": lambda: scoring.measure(images=32, rounds=3),
    "shortcuts": lambda: shortcuts.measure(images=32),
    "fitting": lambda: fitting.measure(images=900, rounds=3),
    "evaluation": evaluation.measure,
}


def main() -> None:
    """Measure what the command line asks for."""
    parser = parser_of(main)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--out", type=Path, default=HERE, help="where the results go")
    arguments = parser.parse_args()
    written = arguments.out / "results.json"
    results = json.loads(written.read_text(encoding="utf-8")) if written.exists() else {}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts:
        results[part] = PARTS[part]() | {"machine": machine()}
        written.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page = "\n".join([INTRODUCTION, *(_table(part, results[part]) for part in PARTS if part in results)])
    (arguments.out / "results.md").write_text(page, encoding="utf-8")
    print(page)


INTRODUCTION = """\
# Speed

Each part's module says what is measured and against what. A ratio is of two ways in one run, so that another machine's
should be near; median of the rounds, lowest and highest in brackets where there are several.
"""


def machine() -> str:
    """What a reader must know of it."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    memory = psutil.virtual_memory().total / 2**30
    return f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {gpu}, torch {torch.__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _table(part: str, figures: dict[str, Any]) -> str:
    rows = [f"| {name} | {_cell(value)} |" for name, value in figures.items() if name != "machine"]
    return "\n".join([f"## {part.capitalize()}\n", f"{figures['machine']}.\n", "| | |", "|---|---|", *rows, ""])


def _cell(value: Any) -> str:
    if not isinstance(value, dict):
        return f"{value:.4g}"
    if value.keys() == {"median", "low", "high"}:
        return f"{value['median']:.4g} ({value['low']:.4g} to {value['high']:.4g})"
    return ", ".join(f"{key.replace('_', ' ')} {number:.3g}" for key, number in value.items())


if __name__ == "__main__":
    main()
