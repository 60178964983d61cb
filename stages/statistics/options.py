"""What is asked of the figures: levels, confidence, and how scores become one."""

from typing import Annotated

from pydantic import Field

from stages.params import Options
from stages.statistics.fusion import Rule

Level = Annotated[float, Field(gt=0, lt=1)]


class Evaluate(Options):
    """Section `evaluate`."""

    alphas: list[Level] = Field(min_length=1)  # false-positive rates asked for
    confidence: Level  # of every interval
    curve_fpr: Level  # at which curves show their TPR, and groups of images their FPR
    fusion: Rule  # how the scores of a bag that learnt several become one
    complexity: str  # the image statistic whose deciles must not differ in FPR
