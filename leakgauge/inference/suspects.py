"""What a set of suspects says as a whole: which of them to name, whether any was used, and how many.

Naming.  Conformal p-values that share their calibration images are positively dependent, under which Benjamini &
Hochberg's rule still holds the false-discovery rate (Bates, Candes, Lei, Romano & Sesia, "Testing for Outliers with
Conformal p-values", Annals of Statistics 2023, Theorem 2; for a calibration split: out of bag it is close).

The set.  If no suspect was used, and suspects come from where the holdout comes from, their membership scores rank
among the holdout's as if drawn with them, for the same bag judges both and has seen neither: Mann & Whitney's test,
one-sided (Annals of Mathematical Statistics 1947).  Its effect is an area under a curve, P(a suspect's membership
score is above a holdout image's): 1/2 if none was used.  Membership scores of auxiliary images would not do: few
attackers vote on each, out of bag.

How many.  K of the N suspects were used; every K that the suspects do not contradict is in the interval.  Let
w(membership score) in (0, 1) rise with how much more likely a membership score is of a member than of a holdout
image.  The suspects' mean of w is expected at

    mu_K = (1 - K / N) mean w(holdout) + K / N mean w(members),

and what it strays by, sigma_K, is the chance of the suspects and of both means.  K is kept where its misfit,
(mean w(suspects) - mu_K)^2 / sigma_K^2 + 2 log sigma_K, is not larger above that of the best K than in all but 5 % of
simulated sets: K members and N - K holdout images, drawn anew.  Ordering by a likelihood ratio (Feldman & Cousins,
Physical Review D 1998, 57:3873) leaves no interval empty, and none longer than need be where all or none were used.

Where no member is known, let q be the share of suspects with a p-value among the holdout of at most a, and f(a) its
false-positive rate.  If every member is caught, q = (1 - pi) f + pi; if fewer are, more were used: (q - f) / (1 - f) is
a lower bound of the share pi, with each of q and f at the end of its interval.

Labels.  A target fits some classes better than others, so that suspects of one class, none of them used, may rank high
among a holdout of all.  Where labels are known the suspects are compared with images of their own labels, in the same
shares (`same_labels`): with holdout, auxiliary and member images.  Where they are not, the checks must tell; where one
fails, nothing is said of the set (`withheld`).

Units.  Images of one unit (a scene, a patient) are alike, and units are what is independent, in suspects and in the
holdout.  Where the holdout has none each of its images is one, and then a suspect unit that was not used is supposed to
be of images each of which scores like a holdout image; how alike they are need not be known.

- The set: images count as fewer, by the design effect of their ranks (`leakgauge.inference.units`), in the normal
  approximation of Mann & Whitney's test.
- How many: a unit is used as a whole or not at all, and tells as much as one image does.  Fewer images of it that were
  used are counted as such a share of the unit.
- Naming: a unit's p-value is Simes' of its images' (Biometrika 1986), valid for positively dependent ones; Benjamini &
  Hochberg's rule names units (Benjamini & Heller, Biometrics 2008), and a unit's name is that of its images.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, mannwhitneyu, norm, rankdata, tiecorrect
from sklearn.linear_model import LogisticRegression

from leakgauge.inference.conformal import AttackResult, conformal_p_values, fpr_interval
from leakgauge.inference.metrics import Figures, level_name
from leakgauge.inference.roc import auc, exact_rate
from leakgauge.inference.units import NO_UNITS, Pair, design_effect, joined, typical_size, unit_codes

LEVEL = 0.2  # a above: most members of a target that leaks are below it, and most others are not
DRAWS = 1000  # simulated sets of suspects
MIXES = 101  # values of K, at most, that are tried
FEWEST_OF_LABEL = 10  # images of each of the suspects' labels, with which they are compared within it
ANSWERS = ("p_value", "effect", "effect_ci_low", "effect_ci_high", "fraction", "fraction_ci_low", "fraction_ci_high")
EACH_DRAWN = 500  # suspects, of more of which the mean is drawn, not each


@dataclass(frozen=True)
class SetTest:
    """Was any suspect used?  effect : P(membership score of a suspect > of a holdout image), with its interval."""

    p_value: float
    effect: float
    effect_low: float
    effect_high: float


@dataclass(frozen=True)
class Fraction:
    """The share of the suspects that were used.  value : None where it is unknown, without members say."""

    value: float | None
    low: float
    high: float


def same_labels(asked: Sequence[int | None], others: Sequence[int | None]) -> np.ndarray | None:
    """(n,) int, sorted: as many of the others as have the labels of those asked about in the same shares.

    Of each label the first are taken.  None where a label is missing on either side, or the others have fewer than
    `FEWEST_OF_LABEL` images of one.
    """
    if any(label is None for label in (*asked, *others)) or not len(asked):
        return None
    wanted, there = Counter(asked), Counter(others)
    if min(there[label] for label in wanted) < FEWEST_OF_LABEL:
        return None
    each = min(there[label] / count for label, count in wanted.items())  # others to a suspect
    labels = np.array(others)
    rows = [np.flatnonzero(labels == label)[: max(1, round(each * count))] for label, count in wanted.items()]
    return np.sort(np.concatenate(rows))


def withheld(figures: Figures) -> Figures:
    """The figures of a set of which a check fails: all that would be read as evidence is None."""
    hidden = (*ANSWERS, "named", *(name for name in figures if name.startswith("member_at_")))
    return figures | dict.fromkeys(hidden)


def suspect_verdicts(
    ids: list[str],
    result: AttackResult,
    picture: np.ndarray,
    alphas: list[float],
    rate: float,
    units: np.ndarray | None = None,
) -> pd.DataFrame:
    """One row a suspect, with the verdict of its picture.  rate : of false discoveries among those named.

    picture : (N,) int, the first suspect of each one's picture.  units : (N,) names; units that share a picture are
    one, by the name that comes first, and there is a column `unit`.
    """
    names = np.array(ids, dtype=object)
    membership_score, p_value = (values["suspect"][picture] for values in (result.membership_score, result.p_value))
    first, place = np.unique(picture, return_inverse=True)
    unit = None if unit_codes(units) is None else joined(np.asarray(units), picture)
    adjusted = adjusted_p_values(p_value[first], None if unit is None else unit[first])
    verdicts = pd.DataFrame(
        {
            "image_id": names,
            "membership_score": membership_score,
            "p_value": p_value,
            **{f"member_at_{level_name(alpha)}": p_value <= alpha for alpha in alphas},
            "adjusted_p_value": adjusted[place],
            "picture": names[picture],
            "distinct": picture == np.arange(len(picture)),
        }
    )
    if unit is not None:
        verdicts["unit"] = pd.Series(units, dtype=object).groupby(unit).transform("min").to_numpy()
    return verdicts.assign(named=verdicts["adjusted_p_value"] <= rate)


def set_figures(
    result: AttackResult,
    verdicts: pd.DataFrame,
    measured: Mapping[str, np.ndarray],
    confidence: float,
    units: Mapping[str, np.ndarray | None] | None = None,
) -> Figures:
    """The answer for the set, flat.

    measured : role -> (N,) membership scores by the same judge, of those known.  units : role -> (N,) the units of
    these.  Where suspects have units, `units` is how many.
    """
    counted, of_known = verdicts[verdicts["distinct"]], units or {}
    suspects = result.membership_score["suspect"][verdicts["distinct"].to_numpy()]
    of_suspects = counted["unit"].to_numpy() if "unit" in counted else None
    holdout, member = measured["holdout"], measured.get("member")
    pair = (of_suspects, of_known.get("holdout"))
    test = set_test(suspects, holdout, confidence, pair)
    fraction = used_fraction(suspects, holdout, member, confidence, pair, of_known.get("member"))
    flagged = {name: int(counted[name].sum()) for name in counted.columns if name.startswith("member_at_")}
    return {
        "suspects": len(verdicts),
        "distinct": len(counted),
        **({} if of_suspects is None else {"units": len(np.unique(of_suspects))}),
        "p_value": test.p_value,
        "effect": test.effect,
        "effect_ci_low": test.effect_low,
        "effect_ci_high": test.effect_high,
        "fraction": fraction.value,
        "fraction_ci_low": fraction.low,
        "fraction_ci_high": fraction.high,
        "named": int(counted["named"].sum()),
        **flagged,
        "calibration": result.calibration_size,
        "calibration_by": result.calibration_by,
        "holdout": len(holdout),
    }


def adjusted_p_values(p_values: np.ndarray, units: np.ndarray | None = None) -> np.ndarray:
    """(N,): Benjamini & Hochberg's rule names an image at each false-discovery rate from here up.

    units : (N,); where images share one it names units, each by Simes' p-value, and its images with it.
    """
    if not len(p_values):
        return np.zeros(0)
    if (unit := unit_codes(units)) is None:
        return np.asarray(false_discovery_control(p_values, method="bh"))
    of_units = pd.Series(p_values).groupby(unit).agg(_simes).to_numpy()
    return np.asarray(false_discovery_control(of_units, method="bh"))[unit]


def _simes(p_values: pd.Series) -> float:
    """The p-value of "none of these": the least of n p_(i) / i, p_(1) <= ... <= p_(n)."""
    return float((np.sort(p_values) * len(p_values) / np.arange(1, len(p_values) + 1)).min())


def set_test(suspects: np.ndarray, holdout: np.ndarray, confidence: float, units: Pair = NO_UNITS) -> SetTest:
    """Do suspects lie above the holdout?

    suspects : (N,), holdout : (n,) membership scores by one bag.  units : (N,) and (n,).
    """
    effect, low, high = auc(suspects, holdout, confidence, units)
    if all(unit_codes(of) is None for of in units):
        p_value = float(mannwhitneyu(suspects, holdout, alternative="greater").pvalue)
    else:
        p_value = _rank_sum(suspects, holdout, units, effect)
    return SetTest(p_value, effect, low, high)


def _rank_sum(suspects: np.ndarray, holdout: np.ndarray, units: Pair, effect: float) -> float:
    """Mann & Whitney's p-value by its normal approximation, for as many independent images as these count for."""
    ranks, count = rankdata(np.concatenate([suspects, holdout])), len(suspects)
    variance = tiecorrect(ranks) / 12  # of one image's rank, as a share of all; 0 where all scores are equal
    if not variance:
        return 1.0
    shares = ranks / len(ranks)
    m = count / design_effect(shares[:count], units[0], variance)
    n = len(holdout) / design_effect(shares[count:], units[1], variance)
    spread = np.sqrt(variance * (1 / m + 1 / n + 1 / (m * n)))
    return float(norm.sf((effect - 0.5 - 0.5 / (m * n)) / spread))


def used_fraction(
    suspects: np.ndarray,
    holdout: np.ndarray,
    members: np.ndarray | None,
    confidence: float,
    units: Pair = NO_UNITS,
    of_members: np.ndarray | None = None,
) -> Fraction:
    """The share of the suspects that were used, from membership scores by one bag.

    suspects : (N,), holdout : (n,), members : (M,), or None where none is known.  units : of suspects and holdout, (N,)
    and (n,).  of_members : (M,) those of members.
    """
    of_suspects, of_holdout = map(unit_codes, units)
    count = len(suspects) if of_suspects is None else max(1, int(len(suspects) / typical_size(of_suspects)))
    if members is None or not len(members):
        flagged = conformal_p_values(suspects, holdout) <= LEVEL
        q = exact_rate(int(flagged.mean() * count + 1e-9), count, confidence)
        as_many = len(holdout) / design_effect(_above(holdout), of_holdout, LEVEL * (1 - LEVEL))
        _, f = fpr_interval(int(as_many), LEVEL, confidence)  # each errs on one side: together as often as asked for
        return Fraction(None, float(np.clip((q.low - f) / (1 - f), 0, 1)), 1.0)
    suspects, holdout, members = _likeness(suspects, holdout, members)
    apart = members.mean() - holdout.mean()
    if apart <= 0:
        return Fraction(None, 0.0, 1.0)
    value = float(np.clip((suspects.mean() - holdout.mean()) / apart, 0, 1))
    sizes = np.array(
        [len(pool) / design_effect(pool, of, pool.var()) for pool, of in ((holdout, of_holdout), (members, of_members))]
    )
    mixes = _Mixes(count, holdout, members, value, sizes)
    kept = mixes.used[mixes.fit(suspects.mean()) <= mixes.allowed(confidence) + 1e-9] / count
    return Fraction(value, float(min(value, kept.min(initial=1))), float(max(value, kept.max(initial=0))))


def _above(holdout: np.ndarray) -> np.ndarray:
    """(n,) 0 or 1: the share `LEVEL` of the holdout that looks most like members."""
    return (holdout >= np.quantile(holdout, 1 - LEVEL)).astype(float)


def _likeness(suspects: np.ndarray, holdout: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, ...]:
    """w of each membership score: the probability of a member, were there as many as others, by logistic regression.

    It regresses on the z-score of their rank among the holdout's.  All 1/2 where members' are no higher.
    """
    ordered = np.sort(holdout)
    ranks = [
        (np.searchsorted(ordered, membership_score, "left") + np.searchsorted(ordered, membership_score, "right") + 1)
        / 2
        for membership_score in (suspects, holdout, members)
    ]
    scores = [norm.ppf(rank / (len(holdout) + 1))[:, None] for rank in ranks]
    if scores[2].mean() <= scores[1].mean():
        return tuple(np.full(len(score), 0.5) for score in scores)
    model = LogisticRegression(class_weight="balanced")
    model.fit(np.concatenate(scores[1:]), np.repeat([0, 1], [len(holdout), len(members)]))
    return tuple(model.predict_proba(score)[:, 1] for score in scores)


class _Mixes:
    """The K that are tried, and what the mean w of N suspects is expected at, of whom K were used.

    count : N.  holdout, members : w.  value : the estimate of K / N; no K beyond six standard errors of it is tried.
    sizes : (2,) how many independent images those of holdout and members count for.
    """

    def __init__(self, count: int, holdout: np.ndarray, members: np.ndarray, value: float, sizes: np.ndarray) -> None:
        self.count, self.pools = count, (holdout, members)
        self.means = np.array([holdout.mean(), members.mean()])
        self.variances = np.array([np.append(pool, (0, 1)).var(ddof=1) for pool in self.pools])  # never 0
        self.of_means = self.variances / sizes
        error = np.sqrt(self.variances.max() / count + self.of_means.max())
        reach = 1 / count + 6 * error / (self.means[1] - self.means[0])
        ends = max(0.0, value - reach), min(1.0, value + reach)
        self.used = np.unique((count * np.linspace(*ends, MIXES)).round())
        share = np.stack([1 - self.used / count, self.used / count])  # (2, G) of either sort
        self.share, self.own = share, self.variances @ share / count
        self.sigma = np.sqrt(self.own + self.of_means @ share**2)  # (G,)

    def fit(self, mean: np.ndarray, means: np.ndarray | None = None) -> np.ndarray:
        """The misfit of each K above that of the best.  mean : (...) of suspects; means : (..., 2).  (..., G)."""
        expected = (self.means if means is None else means) @ self.share
        misfit = ((mean[..., None] - expected) / self.sigma) ** 2 + 2 * np.log(self.sigma)
        return misfit - misfit.min(axis=-1, keepdims=True)

    def allowed(self, confidence: float) -> np.ndarray:
        """(G,): the misfit of each K where it is the truth, that no more than 1 - confidence of draws exceed."""
        rng = np.random.default_rng(0)
        means = self.means + rng.standard_normal((DRAWS, 2)) * np.sqrt(self.of_means)
        found = self._suspects(rng)  # (DRAWS, G)
        return np.array(
            [
                np.quantile(self.fit(found[:, place], means)[:, place], confidence, method="higher")
                for place in range(len(self.used))
            ]
        )

    def _suspects(self, rng: np.random.Generator) -> np.ndarray:
        """(DRAWS, G): mean w of N suspects of whom each K were used; of very many by the central limit theorem."""
        if self.count > EACH_DRAWN:
            return self.means @ self.share + rng.standard_normal((DRAWS, 1)) * np.sqrt(self.own)
        first = np.zeros((DRAWS, 1))
        others, used = (
            np.hstack([first, np.cumsum(rng.choice(pool, (DRAWS, self.count)), axis=1)]) for pool in self.pools
        )
        taken = self.used.astype(int)
        return (used[:, taken] + others[:, self.count - taken]) / self.count
