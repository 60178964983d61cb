"""A lower bound on epsilon, from one run of training whose members were drawn at random.

Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023, Theorem 3.1: where training is
(epsilon, 0)-differentially private, the guesses of a fixed number of coins that are right are stochastically at most
Binomial(guesses, e^epsilon / (1 + e^epsilon)).

And one for trainings whose trade-off curve is a Gaussian mechanism's, f(x) = Phi(Phi^-1(1 - x) - mu) (mu-GDP):
Mahloujifar, Melis and Chaudhuri, "Auditing f-differential privacy in one run", 2024 (arXiv 2410.22235).

A coin here is a pair, of a member and a holdout image.  Which of the two was trained on was drawn at random, so the
guess, that of the higher membership score, is right by chance in half of all pairs.  Adjacent are training sets of
which one image is replaced by another.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr, ndtri

from leakgauge.draws import drawn_by_name

SHARES = (1.0, 0.5, 0.25, 0.125)  # of the pairs that are guessed, the surest ones: fixed beforehand
DELTA = 1e-5  # at which mu-GDP is told as an epsilon


@dataclass(frozen=True)
class GuessBound:
    """What guesses come to."""

    epsilon: float  # the lower bound; 0: none is shown
    most: float  # what these pairs could show, were all guesses right
    guesses: int
    correct: int
    pairs: int


@dataclass(frozen=True)
class EpsilonBound(GuessBound):
    """What guesses of pairs come to."""

    mu: float  # the lower bound where training is mu-GDP; 0: none is shown
    epsilon_of_mu: float  # the epsilon of mu-GDP at `delta`
    delta: float


def epsilon_bound(member: np.ndarray, holdout: np.ndarray, confidence: float) -> EpsilonBound:
    """The largest of the bounds by each of `SHARES` of the pairs, each at its share of the error; so for mu.

    member, holdout : (P,) membership scores of the pairs.
    """
    pairs, difference = len(member), member - holdout
    surest = np.argsort(-np.abs(difference), kind="stable")
    right = difference[surest] > 0  # of equal scores none is guessed right
    found = guess_bound(right, confidence)
    mu = max(mu_of_guesses(correct, guesses, pairs, one) for correct, guesses, one in _shares(right, confidence))
    return EpsilonBound(
        found.epsilon, found.most, found.guesses, found.correct, found.pairs, mu, epsilon_of_mu(mu, DELTA), DELTA
    )


def guess_bound(right: np.ndarray, confidence: float, choices: int = 2) -> GuessBound:
    """The largest of the bounds by each of `SHARES` of the guesses, each at its share of the error.

    right : (P,) bool, the surest guess first.  choices : of which each guess takes one.
    """
    shares = _shares(right, confidence)
    bounds = [(of_guesses(correct, guesses, one, choices), -guesses, correct) for correct, guesses, one in shares]
    epsilon, guesses, correct = max(bounds)
    most = max(of_guesses(guesses, guesses, one, choices) for _, guesses, one in shares)
    return GuessBound(epsilon, most, -guesses, correct, len(right))


def _shares(right: np.ndarray, confidence: float) -> list[tuple[int, int, float]]:
    """Of each of `SHARES`: how many guesses are right, of how many, and the confidence of its bound."""
    counts = [math.floor(share * len(right)) for share in SHARES]
    return [(int(right[:guesses].sum()), guesses, 1 - (1 - confidence) / len(SHARES)) for guesses in counts]


def of_guesses(correct: int, guesses: int, confidence: float, choices: int = 2) -> float:
    """The epsilon below which so many right guesses, or more, have a probability of at most 1 - confidence; at least 0.

    By the lower end of Clopper and Pearson's interval, q = e^epsilon / (e^epsilon + choices - 1).
    choices : outcomes of a coin, which were as likely.
    """
    if not correct:
        return 0.0
    q = float(stats.beta.ppf(1 - confidence, correct, guesses - correct + 1))
    return max(math.log((choices - 1) * q / (1 - q)), 0.0)


def mu_of_guesses(correct: int, guesses: int, pairs: int, confidence: float) -> float:
    """The mu below which so many right guesses, or more, have a probability below 1 - confidence; at least 0.

    guesses : of the pairs, the surest ones.  Mahloujifar et al., Algorithm 3 (two candidates a coin).
    """
    if not correct or _excess(0.0, correct, guesses, pairs, 1 - confidence) <= 0:
        return 0.0
    high = 1.0
    while _excess(high, correct, guesses, pairs, 1 - confidence) > 0:
        high *= 2
    return float(brentq(_excess, 0.0, high, args=(correct, guesses, pairs, 1 - confidence)))


def _excess(mu: float, correct: int, guesses: int, pairs: int, probability: float) -> float:
    """By how much all probabilities sum to more than they can, had `correct` or more right guesses this probability.

    Let p_n be the probability of n right guesses, r_i = sum over n >= i of (n / pairs) p_n, and h_i the same of
    (guesses - n) / pairs.  A coin turned over, among the others as they are, makes a right guess a wrong one, so that
    mu-GDP demands h_i >= Phi(Phi^-1(r_{i+1}) - mu).
    """
    r, h = probability * correct / pairs, probability * (guesses - correct) / pairs
    for i in range(correct - 1, -1, -1):
        least = max(h, float(ndtr(ndtri(min(r, 1.0)) - mu)))
        if least == h:  # and stays so
            break
        r, h = r + i / (guesses - i) * (least - h), least
    return r + h - guesses / pairs


def epsilon_of_mu(mu: float, delta: float) -> float:
    """The least epsilon with which mu-GDP is (epsilon, delta)-private.

    Dong, Roth and Su, "Gaussian differential privacy", 2022, Corollary 2.13:
    delta = Phi(-epsilon / mu + mu / 2) - e^epsilon Phi(-epsilon / mu - mu / 2).
    """

    def excess(epsilon: float) -> float:
        return float(ndtr(mu / 2 - epsilon / mu) - np.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu))) - delta

    if not mu or excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, mu * (mu / 2 - float(ndtri(delta)))))


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
