"""The lower bound on epsilon: hand-computed, never above a known epsilon in more runs than asked, paired by names."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pipeline import TARGET
from scipy import stats

from leakgauge.errors import InputError
from leakgauge.inference.epsilon import (
    SHARES,
    drawn_pairs,
    epsilon_bound,
    epsilon_of_mu,
    mu_of_guesses,
    of_guesses,
)
from leakgauge.tables import read_metadata, read_table, write_table
from stages.evaluate import MEASURED
from stages.report import report


def test_all_guesses_right_show_what_their_number_can():
    """q^300 = 0.05."""
    q = 0.05 ** (1 / 300)
    assert of_guesses(300, 300, 0.95) == pytest.approx(math.log(q / (1 - q)))
    assert of_guesses(300, 300, 0.95) == pytest.approx(4.60, abs=0.005)
    assert of_guesses(297, 300, 0.95) == pytest.approx(3.64, abs=0.005)


def test_the_bound_is_where_so_many_right_guesses_become_improbable():
    epsilon = of_guesses(80, 100, 0.95)
    q = 1 / (1 + math.exp(-epsilon))
    assert stats.binom.sf(79, 100, q) == pytest.approx(0.05)


@pytest.mark.parametrize("correct", [0, 30, 50, 57])
def test_what_chance_may_do_shows_nothing(correct):
    assert of_guesses(correct, 100, 0.95) == 0


def test_the_surest_pairs_are_guessed_and_the_error_is_shared():
    member, holdout = np.full(80, 1.0), np.zeros(80)
    member[40:] = np.tile([0.1, -0.1], 20)  # what is less sure is right by chance
    found = epsilon_bound(member, holdout, 0.95)
    assert (found.pairs, found.guesses, found.correct) == (80, 40, 40)
    q = (0.05 / len(SHARES)) ** (1 / 40)
    assert found.epsilon == pytest.approx(math.log(q / (1 - q)))
    q = (0.05 / len(SHARES)) ** (1 / 80)
    assert found.most == pytest.approx(math.log(q / (1 - q)))


def test_equal_scores_are_no_right_guess():
    assert epsilon_bound(np.zeros(50), np.zeros(50), 0.95).correct == 0


def test_swapped_roles_show_nothing():
    rng = np.random.default_rng(0)
    member, holdout = rng.normal(3, 1, 200), rng.normal(0, 1, 200)
    assert epsilon_bound(member, holdout, 0.95).epsilon > 2
    assert epsilon_bound(holdout, member, 0.95).epsilon == 0


def test_no_pair_shows_nothing():
    found = epsilon_bound(np.empty(0), np.empty(0), 0.95)
    assert (found.epsilon, found.most, found.pairs) == (0, 0, 0)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("even", [True, False])
def test_randomised_response_is_covered_in_95_of_100_runs(epsilon, even):
    """Each coin is told truly with probability e^epsilon / (1 + e^epsilon), alike or with confidence that says it."""
    rng = np.random.default_rng(int(10 * epsilon) + even)
    runs, pairs, above, found = 300, 300, 0, []
    q = 1 / (1 + math.exp(-epsilon))
    for _ in range(runs):
        told = np.where(rng.random(pairs) < q, 1.0, -1.0)
        sure = np.ones(pairs) if even else rng.random(pairs)
        bound = epsilon_bound(told * sure, np.zeros(pairs), 0.95).epsilon
        above += bound > epsilon
        found.append(bound)
    assert stats.binomtest(above, runs, 0.05, alternative="greater").pvalue > 0.01, above
    if epsilon == 2:
        assert np.median(found) > 1.5, "and it is not far below"


def test_the_mu_of_two_right_guesses_of_two_by_hand():
    """r_2 = t, h_1 = Phi(Phi^-1(t) - mu), r_1 = t + h_1, h_0 = Phi(Phi^-1(r_1) - mu); the probabilities sum to one."""
    tail = 0.4
    mu = mu_of_guesses(2, 2, 2, 1 - tail)
    r = tail + stats.norm.cdf(stats.norm.ppf(tail) - mu)
    assert r + stats.norm.cdf(stats.norm.ppf(r) - mu) == pytest.approx(1)
    assert mu_of_guesses(2, 2, 2, 0.75) == pytest.approx(0, abs=1e-9), "what fair coins do once in four times"
    assert mu_of_guesses(2, 2, 2, 0.74) > 0
    assert mu_of_guesses(2, 2, 2, 0.76) == mu_of_guesses(0, 2, 2, 0.1) == 0


@pytest.mark.parametrize("mu", [0.3, 1.0, 4.0])
def test_the_epsilon_of_a_mu_has_the_delta_of_the_gaussian_mechanism(mu):
    """By integration: delta is what the density under one hypothesis has above e^epsilon times the other's."""
    epsilon = epsilon_of_mu(mu, 1e-3)
    x = np.linspace(-10, 20, 400_001)
    above = stats.norm.pdf(x, mu) - np.exp(epsilon) * stats.norm.pdf(x)
    assert np.trapezoid(np.maximum(above, 0), x) == pytest.approx(1e-3, rel=1e-4)
    assert epsilon_of_mu(mu, 0.999) == 0


@pytest.mark.parametrize(
    ("correct", "guesses", "pairs", "epsilon"),
    [(100, 100, 200, 5.669787), (95, 100, 200, 3.403425), (150, 200, 200, 1.334100), (40, 40, 1000, 2.872181)],
)
def test_the_bound_for_mu_is_that_of_jax_privacy(correct, guesses, pairs, epsilon):
    """Version 2.0.0, `_epsilon_one_run_fdp` of its module `auditing`, at delta = 1e-5 and a significance of 0.0125."""
    assert epsilon_of_mu(mu_of_guesses(correct, guesses, pairs, 1 - 0.0125), 1e-5) == pytest.approx(epsilon, abs=1e-6)


@pytest.mark.parametrize("mu", [1.0, 2.0])
def test_the_gaussian_mechanism_is_covered_in_95_of_100_runs_and_its_epsilon_bounded_more_tightly(mu):
    rng = np.random.default_rng(int(10 * mu))
    runs, pairs, found = 200, 200, []
    for _ in range(runs):
        told = rng.normal(mu / 2, 1.0, pairs)  # the other of a pair has the mean -mu / 2
        found.append(epsilon_bound(told, np.zeros(pairs), 0.95))
    above = sum(bound.mu > mu for bound in found)
    assert stats.binomtest(above, runs, 0.05, alternative="greater").pvalue > 0.01, above
    assert np.median([bound.mu for bound in found]) > 0.35 * mu, "and it is not far below"
    assert np.mean([bound.epsilon_of_mu > bound.epsilon for bound in found]) > 0.9


def test_pairs_are_drawn_by_names_and_each_unit_once():
    members, others = [f"m{i}" for i in range(30)], [f"h{i % 20}" for i in range(40)]
    rows, partners = drawn_pairs(members, others, 0)
    assert len(rows) == len(partners) == 20
    assert len({others[row] for row in partners}) == 20
    assert partners.max() < 20, "the first image of a unit"
    again, _ = drawn_pairs(members[::-1], others, 0)
    assert [members[row] for row in rows] == [members[::-1][row] for row in again]
    assert not np.array_equal(rows, drawn_pairs(members, others, 1)[0])


def test_pairs_of_a_dataset_with_units_are_of_units(audit):
    path = {role: Path(f"data/roles/{TARGET}/{role}.parquet") for role in MEASURED}
    ids = {role: read_table(of).column("image_id").to_pylist() for role, of in path.items()}
    for role, of in path.items():
        table = read_table(of).append_column("unit", pa.array([f"{role} {n // 3}" for n in range(len(ids[role]))]))
        write_table(of, table, read_metadata(of))
    report()
    found = json.loads(Path("metrics/summary.json").read_text())[TARGET]
    rows = read_table(Path(f"data/verdicts/{TARGET}.parquet")).to_pandas()
    score = rows[rows["learner"] == found["judge"]].set_index("image_id")["membership_score"]
    first = {role: ids[role][::3] for role in MEASURED}
    members, others = drawn_pairs(*([f"{role} {n}" for n in range(len(of))] for role, of in first.items()), 0)
    pairs = score[np.array(first["member"])[members]], score[np.array(first["holdout"])[others]]
    assert found["epsilon_bound"] == asdict(epsilon_bound(*(of.to_numpy() for of in pairs), 0.95))
    assert found["epsilon_bound"]["pairs"] == 20, "of 60 members, three a unit"


def test_a_target_that_the_pipeline_trains_has_a_bound_and_one_whose_members_were_named_has_none(audit):
    def bound() -> dict | None:
        report()
        return json.loads(Path("metrics/summary.json").read_text())[TARGET]["epsilon_bound"]

    found = bound()
    rows = read_table(Path(f"data/verdicts/{TARGET}.parquet")).to_pandas()
    judge = json.loads(Path("metrics/summary.json").read_text())[TARGET]["judge"]
    score = rows[rows["learner"] == judge].set_index("image_id")["membership_score"]
    ids = [read_table(Path(f"data/roles/{TARGET}/{role}.parquet")).column("image_id").to_pylist() for role in MEASURED]
    members, others = drawn_pairs(*ids, 0)
    pairs = score[np.array(ids[0])[members]].to_numpy(), score[np.array(ids[1])[others]].to_numpy()
    assert found == asdict(epsilon_bound(*pairs, 0.95))
    assert found["pairs"] == 60
    path = Path(f"data/roles/{TARGET}/member.parquet")
    write_table(path, read_table(path), read_metadata(path) | {"drawn_by": {"member": "members/*", "seed": 0}})
    assert bound() is None
    write_table(path, read_table(path).slice(1), read_metadata(path) | {"drawn_by": {"member": 60, "seed": 0}})
    with pytest.raises(InputError, match=r"member.parquet: has no image '.*', of which there is a verdict: run"):
        bound()
