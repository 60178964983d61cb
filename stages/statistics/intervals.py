"""Exact intervals for rates."""

from dataclasses import dataclass

from scipy.stats import binomtest


@dataclass(frozen=True)
class Rate:
    """A share of a count, with its exact interval."""

    count: int  # how many did
    total: int  # of how many
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.count / self.total


def exact_rate(count: int, total: int, confidence: float) -> Rate:
    """count / total with its Clopper-Pearson interval (Biometrika 1934).  0 <= count <= total, total > 0."""
    interval = binomtest(count, total).proportion_ci(confidence, method="exact")
    return Rate(count, total, float(interval.low), float(interval.high))
