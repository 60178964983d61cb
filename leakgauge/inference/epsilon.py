"""A lower bound on epsilon, from one run of training whose members were drawn at random.

Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023, Theorem 3.1: where training is
(epsilon, 0)-differentially private, the guesses of a fixed number of coins that are right are stochastically at most
Binomial(guesses, e^epsilon / (1 + e^epsilon)).

A coin here is a pair, of a member and a holdout image.  Which of the two was trained on was drawn at random, so the
guess, that of the higher membership score, is right by chance in half of all pairs.  Adjacent are training sets of
which one image is replaced by another.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from leakgauge.draws import drawn_by_name

SHARES = (1.0, 0.5, 0.25, 0.125)  # of the pairs that are guessed, the surest ones: fixed beforehand


@dataclass(frozen=True)
class EpsilonBound:
    """What the guesses come to."""

    epsilon: float  # the lower bound; 0: none is shown
    most: float  # what these pairs could show, were all guesses right
    guesses: int
    correct: int
    pairs: int


def epsilon_bound(member: np.ndarray, holdout: np.ndarray, confidence: float) -> EpsilonBound:
    """The largest of the bounds by each of `SHARES` of the pairs, each at its share of the error.

    member, holdout : (P,) membership scores of the pairs.
    """
    pairs, error = len(member), (1 - confidence) / len(SHARES)
    difference = member - holdout
    surest = np.argsort(-np.abs(difference), kind="stable")
    bounds = []
    for share in SHARES:
        guesses = math.floor(share * pairs)
        correct = int((difference[surest[:guesses]] > 0).sum())  # of equal scores none is guessed right
        bounds.append((of_guesses(correct, guesses, 1 - error), -guesses, correct))
    epsilon, guesses, correct = max(bounds)
    most = max(of_guesses(count, count, 1 - error) for count in (math.floor(share * pairs) for share in SHARES))
    return EpsilonBound(epsilon, most, -guesses, correct, pairs)


def of_guesses(correct: int, guesses: int, confidence: float, choices: int = 2) -> float:
    """The epsilon below which so many right guesses, or more, have a probability of at most 1 - confidence; at least 0.

    By the lower end of Clopper and Pearson's interval, q = e^epsilon / (e^epsilon + choices - 1).
    choices : outcomes of a coin, which were as likely.
    """
    if not correct:
        return 0.0
    q = float(stats.beta.ppf(1 - confidence, correct, guesses - correct + 1))
    return max(math.log((choices - 1) * q / (1 - q)), 0.0)


def drawn_pairs(member: list[str], holdout: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of members and of holdout images, (P,) each, paired at random by their names.

    member, holdout : the images' names; of a name that stands there twice (a unit's) the first counts.
    """
    orders = []
    for names in (member, holdout):
        distinct = list(dict.fromkeys(names))
        first = {name: row for row, name in reversed(list(enumerate(names)))}
        drawn = np.argsort(drawn_by_name([f"pair {name}" for name in distinct], seed), kind="stable")
        orders.append(np.array([first[distinct[place]] for place in drawn], dtype=np.int64))
    count = min(map(len, orders))
    return orders[0][:count], orders[1][:count]
