"""Every figure that studies/README.md tells with an interval is a committed one."""

import re

import pandas as pd
from conftest import REPOSITORY

STUDIES = REPOSITORY / "studies"
TEXT = (STUDIES / "README.md").read_text()
PERCENT = re.compile(r"(\d+(?:\.\d+)?) % \((\d+(?:\.\d+)?) to (\d+(?:\.\d+)?)\)")
PLAIN = re.compile(r"(0\.\d+) \((-?\d\.\d+) to (-?\d\.\d+)\)")


def committed() -> set[tuple[float, ...]]:
    """All triples of a value and its interval in the tables."""
    triples: set[tuple[float, ...]] = set()
    for path in (STUDIES / "metrics").glob("*.csv"):
        table = pd.read_csv(path)
        for low in [name for name in table if name.endswith("ci_low")]:
            name = low.removesuffix("_ci_low") if low != "ci_low" else "correlation"
            triples |= set(table[[name, low, low.replace("ci_low", "ci_high")]].itertuples(index=False, name=None))
    return triples


def rounded(triple: tuple[float, ...], unit: float, digits: int) -> tuple[float, ...]:
    return tuple(round(unit * value + 1e-9, digits) for value in triple)


def test_rates_with_intervals_are_those_of_the_tables():
    told = [tuple(map(float, match)) for match in PERCENT.findall(TEXT)]
    known = {rounded(triple, 100, 1) for triple in committed()}
    assert len(told) > 20
    assert not [triple for triple in told if triple not in known]


def test_other_figures_with_intervals_are_those_of_the_tables():
    told = [tuple(map(float, match)) for match in PLAIN.findall(TEXT)]
    known = {rounded(triple, 1, 2) for triple in committed()}
    assert told
    assert not [triple for triple in told if triple not in known]


def test_the_table_of_attacks_is_the_committed_one():
    table = pd.read_csv(STUDIES / "metrics/cost.csv")
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and "network calls" not in line]
    assert len(rows) == len(table) / 2
    for attack, rule, _, calls, _, one, tenth in [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]:
        of_attack = table[(table["attack"] == attack) & (table["rule"] == rule)].set_index("fpr")
        assert int(calls) == of_attack["network_calls"].iloc[0]
        for fpr, told in ((0.01, one), (0.001, tenth)):
            found = rounded(tuple(of_attack.loc[fpr, ["tpr", "tpr_ci_low", "tpr_ci_high"]]), 100, 1)
            assert tuple(map(float, PERCENT.fullmatch(told).groups())) == found, (attack, rule)
