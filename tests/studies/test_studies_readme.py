"""Every figure that studies/README.md tells with an interval is a committed one."""

import re

import numpy as np
import pandas as pd
from conftest import REPOSITORY

STUDIES = REPOSITORY / "studies"
TEXT = (STUDIES / "README.md").read_text()
PERCENT = re.compile(r"(\d+(?:\.\d+)?) % \((\d+(?:\.\d+)?) to (\d+(?:\.\d+)?)\)")
PLAIN = re.compile(r"(0\.\d+) \((-?\d\.\d+) to (-?\d\.\d+)\)")


def committed() -> np.ndarray:
    """All triples of a value and its interval in the tables, (N, 3)."""
    triples = []
    for path in (STUDIES / "metrics").glob("*.csv"):
        table = pd.read_csv(path)
        for low in [name for name in table if name.endswith("ci_low")]:
            name = low.removesuffix("_ci_low") if low != "ci_low" else "correlation"
            triples.append(table[[name, low, low.replace("ci_low", "ci_high")]].to_numpy())
    return np.concatenate(triples)


def is_rounding(told: list[float], known: np.ndarray, digits: int) -> bool:
    """Whether what is told is, rounded, any of the triples known."""
    return bool((np.abs(known - told) <= 0.5 * 10.0**-digits + 1e-4).all(axis=1).any())


def test_rates_with_intervals_are_those_of_the_tables():
    told, known = [[*map(float, match)] for match in PERCENT.findall(TEXT)], 100 * committed()
    assert len(told) > 80
    assert not [triple for triple in told if not is_rounding(triple, known, 1)]


def test_other_figures_with_intervals_are_those_of_the_tables():
    told, known = [[*map(float, match)] for match in PLAIN.findall(TEXT)], committed()
    assert told
    assert not [triple for triple in told if not is_rounding(triple, known, 2)]


def test_the_table_of_attacks_is_the_committed_one():
    table = pd.read_csv(STUDIES / "metrics/cost.csv")
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and "network calls" not in line]
    assert len(rows) == len(table) / 2
    for attack, rule, _, calls, _, one, tenth in [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]:
        of_attack = table[(table["attack"] == attack) & (table["rule"] == rule)].set_index("fpr")
        assert int(calls) == of_attack["network_calls"].iloc[0]
        for fpr, told in ((0.01, one), (0.001, tenth)):
            known = 100 * of_attack.loc[[fpr], ["tpr", "tpr_ci_low", "tpr_ci_high"]].to_numpy()
            assert is_rounding([*map(float, PERCENT.fullmatch(told).groups())], known, 1), (attack, rule)
