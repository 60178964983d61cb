"""What a set of suspects says as a whole: which of them to name, whether any was used, and how many.

Naming.  Conformal p-values that share their calibration images are positively dependent, under which Benjamini &
Hochberg's rule still holds the false-discovery rate (Bates, Candes, Lei, Romano & Sesia, "Testing for Outliers with
Conformal p-values", Annals of Statistics 2023, Theorem 2; for images kept apart to calibrate: out of bag it is close).

The set.  If no suspect was used, and suspects come from where the holdout comes from, their margins rank among the
holdout's as if drawn with them, for the same bag judges both and has seen neither: Mann & Whitney's test, one-sided
(Annals of Mathematical Statistics 1947).  Its effect is an area under a curve, P(a suspect's margin is above a holdout
image's): 1/2 if none was used.  Margins of auxiliary images would not do: few attackers vote on each, out of bag.

How many.  At a level a, let f and b be the shares of non-members and of members with p <= a.  Of suspects, of whom a
share pi was used, the share with p <= a is

    q = (1 - pi) f + pi b,   so that   pi = (q - f) / (b - f),

which rises in q and falls in f and b.  Each is counted on its own images (suspects, holdout, members), with an exact
interval at a third of the error asked for; the interval of pi takes the worst of each.  Where no member is known, b is
only known to be at most 1, and pi only from below.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control, mannwhitneyu

from stages.statistics.intervals import Rate, exact_rate
from stages.statistics.roc import auc

LEVEL = 0.2  # a above: most members of a target that leaks are below it, and most others are not


@dataclass(frozen=True)
class SetTest:
    """Whether any suspect was used.  effect : P(margin of a suspect > of a holdout image), with its interval."""

    p_value: float
    effect: float
    effect_low: float
    effect_high: float


@dataclass(frozen=True)
class Fraction:
    """The share of the suspects that were used.  value : None where nothing tells it, for want of members say."""

    value: float | None
    low: float
    high: float


def adjusted_p_values(p_values: np.ndarray) -> np.ndarray:
    """(N,): Benjamini & Hochberg's rule names an image at each false-discovery rate from here up."""
    return np.asarray(false_discovery_control(p_values, method="bh")) if len(p_values) else np.zeros(0)


def set_test(suspects: np.ndarray, holdout: np.ndarray, confidence: float) -> SetTest:
    """Do suspects' margins lie above the holdout's?  suspects : (N,), holdout : (n,), margins by one bag."""
    p_value = float(mannwhitneyu(suspects, holdout, alternative="greater").pvalue)
    effect, low, high = auc(suspects, holdout, confidence)
    return SetTest(p_value, effect, low, high)


def used_fraction(suspects: np.ndarray, holdout: np.ndarray, members: np.ndarray | None, confidence: float) -> Fraction:
    """The share of the suspects that were used, from p-values.  Each (N,); members : None where none is known."""
    each = 1 - (1 - confidence) / 3
    q, f = _share(suspects, each), _share(holdout, each)
    if members is None or not len(members):
        return Fraction(None, _mixed(q.low, f.high, 1.0), 1.0)
    b = _share(members, each)
    value = _mixed(q.value, f.value, b.value) if b.value > f.value else None
    return Fraction(value, _mixed(q.low, f.high, b.high), _mixed(q.high, f.low, b.low, blind=1.0))


def _share(p_values: np.ndarray, confidence: float) -> Rate:
    return exact_rate(int((p_values <= LEVEL).sum()), len(p_values), confidence)


def _mixed(q: float, f: float, b: float, blind: float = 0.0) -> float:
    """pi within [0, 1]; `blind` where members cannot be told from non-members."""
    return float(np.clip((q - f) / (b - f), 0, 1)) if b > f else blind
