"""What is asked of the figures: levels, confidence, and what alike images are grouped by."""

from typing import Annotated

from pydantic import Field

from stages.params import Options

Level = Annotated[float, Field(gt=0, lt=1)]


class Evaluate(Options):
    """Section `evaluate`."""

    alphas: list[Level] = Field(min_length=1)  # false-positive rates asked for
    confidence: Level  # of every interval
    curve_fpr: Level  # at which curves show their TPR, and groups of images their FPR
    complexity: str  # the image statistic whose deciles must not differ in FPR
