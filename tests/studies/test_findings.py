"""Every figure that the findings of the studies tell with an interval is a committed one."""

import re

import numpy as np
import pandas as pd
from conftest import REPOSITORY
from scipy.stats import betabinom

from studies.common.measurement import ALL_SEEDS, with_means

STUDIES = REPOSITORY / "studies"
FINDINGS = {path.parent.name: path.read_text() for path in sorted(STUDIES.glob("*/findings.md"))}
TEXT = "\n".join([(STUDIES / "README.md").read_text(), *FINDINGS.values()])
PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s%\s\((\d+(?:\.\d+)?)\sto\s(\d+(?:\.\d+)?)\)")
OF_TWO_SEEDS = re.compile(r"(\d+\.\d)\s%\s\((\d+\.\d)\sand\s(\d+\.\d)\)")
POINTS = re.compile(r"(\d+\.\d)\spoints[\w\s]*\((-?\d+\.\d)\sto\s(-?\d+\.\d)\)")
PLAIN = re.compile(r"(-?0\.\d+)\s\((-?\d\.\d+)\sto\s(-?\d\.\d+)\)")


def tables() -> dict[str, pd.DataFrame]:
    read = {"keep_default_na": False, "na_values": [""]}  # "none" is a defence
    return {path.stem: pd.read_csv(path, **read) for path in sorted((STUDIES / "metrics").glob("*.csv"))}


def committed() -> np.ndarray:
    """All triples of a value and its interval in the tables, (N, 3)."""
    triples = []
    for table in tables().values():
        for low in [name for name in table if name.endswith("ci_low")]:
            name = low.removesuffix("_ci_low") if low != "ci_low" else "correlation"
            triples.append(table[[name, low, low.replace("ci_low", "ci_high")]].to_numpy())
    return np.concatenate(triples)


def of_two_seeds() -> np.ndarray:
    """The mean TPR and both seeds' of all settings that have two, (N, 3)."""
    triples = []
    for table in tables().values():
        if "seed" in table and (table["seed"] == ALL_SEEDS).any():
            by = [name for name in table.columns[: table.columns.get_loc("auc")] if name != "seed"]
            for _, rows in table[table["seed"] != ALL_SEEDS].groupby(by, dropna=False):
                triples += [[rows["tpr"].mean(), *rows["tpr"]]] if len(rows) == 2 else []
    return np.array(triples)


def is_rounding(told: tuple[str, ...], known: np.ndarray) -> bool:
    """Whether what is told is, rounded as it is told, any of the triples known."""
    half = [0.5 * 10.0 ** -len(figure.partition(".")[2]) for figure in told]
    return bool((np.abs(known - np.array(told, float)) <= np.array(half) + 1e-4).all(axis=1).any())


def test_rates_with_intervals_are_those_of_the_tables():
    told, known = PERCENT.findall(TEXT), 100 * committed()
    assert len(told) > 45
    assert not [triple for triple in told if not is_rounding(triple, known)]


def test_figures_of_two_seeds_are_those_of_the_tables_and_have_no_interval():
    told, known = OF_TWO_SEEDS.findall(TEXT), 100 * of_two_seeds()
    assert len(told) >= 40
    assert not [triple for triple in told if not is_rounding(triple, known)]
    for name in ("processes", "memorisation", "defences"):
        over = tables()[name].query("seed == @ALL_SEEDS")
        assert over[["tpr_ci_low", "auc_ci_high"]].isna().all(axis=None), name


def test_intervals_over_three_seeds_are_students_over_the_seeds_of_the_table():
    for name, by in {"uplift": ["score", "column", "learner"], "beyond": ["model", "score", "rule"]}.items():
        table = tables()[name]
        again = with_means(table[table["seed"] != ALL_SEEDS].reset_index(drop=True), by, 0.95)
        pd.testing.assert_frame_equal(again, table, rtol=1e-4, check_dtype=False)


def test_other_figures_with_intervals_are_those_of_the_tables():
    told, gains = PLAIN.findall(TEXT), POINTS.findall(TEXT)
    assert told
    assert gains
    assert not [triple for triple in told if not is_rounding(triple, committed())]
    assert not [triple for triple in gains if not is_rounding(triple, 100 * committed())]


def test_the_gains_that_the_page_tells_from_chance_are_those_whose_interval_excludes_zero():
    over = tables()["uplift"].query("seed == @ALL_SEEDS and learner != 'marginal'")
    told = {
        name: over[(over[f"{name}_ci_low"] > 0) | (over[f"{name}_ci_high"] < 0)] for name in ("uplift", "auc_uplift")
    }
    assert len(over) == 27
    assert told["uplift"][["score", "learner"]].to_numpy().tolist() == [["PIA", "resnet"]]
    assert len(told["auc_uplift"]) == 8
    lower = told["auc_uplift"].query("auc_uplift < 0")
    assert lower[["score", "learner"]].to_numpy().tolist() == [["naive loss", "resnet"]]
    assert "resnet" not in set(told["auc_uplift"].query("auc_uplift > 0")["learner"])


def test_shifted_cases_are_counted_against_the_range_that_exact_calibration_gives():
    rows = tables()["mismatch"].query("learner == 'mlp' and calibration == 'plain' and strength > 0")
    drawn = np.floor(rows["alpha"] * (rows["effective_size"] + 1) + 1e-9)
    count = betabinom(1000, drawn, rows["effective_size"] + 1 - drawn)
    outside = (rows["realised_fpr_count"] < count.ppf(0.025)) | (rows["realised_fpr_count"] > count.ppf(0.975))
    warned = rows["warned"].astype(bool)
    counts = (outside.sum(), (outside & warned).sum(), (~outside & warned).sum())
    assert counts == (35, 32, 43)
    for count in counts:
        assert re.search(rf"\b{count}\b", FINDINGS["mismatch"]), count


def test_the_table_of_attacks_is_the_committed_one():
    table = tables()["cost"]
    lines = FINDINGS["cost"].splitlines()
    rows = [line for line in lines if line.startswith("| ") and "network calls" not in line]
    assert len(rows) == len(table) / 2
    for attack, rule, _, calls, _, one, tenth in [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]:
        of_attack = table[(table["attack"] == attack) & (table["rule"] == rule)].set_index("fpr")
        assert int(calls) == of_attack["network_calls"].iloc[0]
        known = 100 * of_attack.loc[[0.01], ["tpr", "tpr_ci_low", "tpr_ci_high"]].to_numpy()
        assert is_rounding(PERCENT.fullmatch(one).groups(), known), (attack, rule)
        assert tenth == f"{100 * of_attack.loc[0.001, 'tpr']:.1f} %", (attack, rule)
