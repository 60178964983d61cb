"""mlp: a small fully connected network on image statistics.  Seconds to fit."""

from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from stages.quantile.network import Network, NetworkAttacker, NetworkOptions, hidden_layers


class MLPOptions(NetworkOptions):
    """An entry of the `learners` registry."""

    kind: Literal["mlp"]
    width: PositiveInt  # units of a hidden layer
    depth: PositiveInt  # hidden layers


class StatisticsBody(nn.Module):
    """Hidden layers on the statistics; the images are not looked at."""

    def __init__(self, statistics: int, options: MLPOptions) -> None:
        super().__init__()
        self.layers = hidden_layers(statistics, options.width, options.depth, options.dropout)

    def forward(self, images: Tensor, statistics: Tensor) -> Tensor:
        """statistics : (B, F) standardised.  Returns (B, width)."""
        return self.layers(statistics)


class MLPAttacker(NetworkAttacker):
    """A fitted MLP."""

    @staticmethod
    def build(channels: int, statistics: int, scores: int, options: MLPOptions) -> Network:
        """The network before training."""
        return Network(StatisticsBody(statistics, options), options.width, scores, options.head, statistics)
