"""Validity: do error rates and intervals hold what they say?  By simulation, where the truth is known.

    python -m benchmarks.validity.run [--parts vote tpr auc realised fraction fusion]

One module a part, each with a `TITLE`, an `ABOUT` and `simulate()`, which returns a table: what was simulated, what was
asked for, and what came out, percentages throughout.  Seeds are fixed.  A run of some parts keeps the others' results.
Writes results.json and results.md beside this file.
"""

import argparse
import importlib
import json
import time
from pathlib import Path

import pandas as pd

from leakgauge.cli import parser_of

HERE = Path(__file__).parent
PARTS = ("vote", "tpr", "auc", "realised", "fraction", "fusion")


def main() -> None:
    """Simulate, and write what came out."""
    options = _arguments()
    written = options.out / "results.json"
    results = json.loads(written.read_text(encoding="utf-8")) if written.exists() else {}
    for part in options.parts:
        module = importlib.import_module(f"benchmarks.validity.{part}")
        start = time.perf_counter()
        table = module.simulate()
        results[part] = {
            "title": module.TITLE,
            "about": module.ABOUT,
            "seconds": round(time.perf_counter() - start),
            "rows": json.loads(table.round(3).to_json(orient="records")),
        }
    results = {part: results[part] for part in PARTS if part in results}
    options.out.mkdir(parents=True, exist_ok=True)
    written.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "results.md").write_text(as_markdown(results), encoding="utf-8")


def as_markdown(results: dict) -> str:
    """The page.  results : as `main` writes them to JSON."""
    parts = [f"## {of['title']}\n\n{of['about']}\n\n{_table(pd.DataFrame(of['rows']))}" for of in results.values()]
    total = sum(of["seconds"] for of in results.values()) / 60
    head = "# Do error rates and intervals hold?\n\nSimulated; percent.  README.md says how.\n\n"
    return head + "\n".join(parts) + f"\nSimulated in {total:.0f} minutes, on one core.\n"


def _table(rows: pd.DataFrame) -> str:
    cells = [[_cell(value) for value in row] for row in rows.itertuples(index=False)]
    lines = [list(rows.columns), ["---"] * len(rows.columns), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if pd.isna(value) else f"{value:.3g}" if abs(value) < 1 else f"{value:.4g}"
    return str(value)


def _arguments() -> argparse.Namespace:
    parser = parser_of(main)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=HERE, help="where the results go (default: beside this file)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
