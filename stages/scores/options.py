"""Section `score`, which two stages read: `tune` and `score`."""

from typing import Literal

from pydantic import PositiveInt

from stages.diffusion.conditions import Use
from stages.params import Options
from stages.scores.columns import Attacks


class Score(Options):
    """Which scores, and how many images at once."""

    engine: Literal["local", "ray"]  # where; no part of what scores are, so that DVC does not watch it
    shard: PositiveInt  # images that are written together: what a killed run loses at most
    batch_size: PositiveInt | Literal["auto"]  # images a network call, at most a shard
    condition: Use  # of a conditional target
    attacks: Attacks
