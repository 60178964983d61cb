"""Published attacks that know members, as the study of cost has them, fitted on halves as the judge here is.

GSA (Pang et al., PoPETs 2025, its first variant): gradient norms, a number a tensor of weights; boosted trees.
SecMI-NNs (Duan et al., ICML 2023, Sec. 4): a network sees the t-error pixel by pixel.
"""

from typing import Any

import lightgbm
import numpy as np
import torch
from torch import Tensor

from studies.cost.gsa import REPEATABLE, TREES
from studies.cost.secmi_nns import fitted_network


class Boosted:
    """Boosted trees, as GSA has them.  member, holdout : (M, D) and (N, D) features."""

    def __init__(self, member: np.ndarray, holdout: np.ndarray) -> None:
        labels = np.repeat([1, 0], [len(member), len(holdout)])
        trees = lightgbm.LGBMClassifier(**TREES, **REPEATABLE, random_state=0)
        self.model = trees.fit(np.concatenate([member, holdout]), labels)

    def decision_function(self, features: np.ndarray) -> np.ndarray:
        """(N,) log odds."""
        return np.asarray(self.model.predict(features, raw_score=True))


def boosted(member: np.ndarray, holdout: np.ndarray, units: list[str]) -> tuple[Any, float]:
    """Nothing is chosen."""
    return Boosted(member, holdout), 0.0


class Convolutional:
    """The network of SecMI-NNs.  Features : (N, C * H * W) logarithms of the maps."""

    def __init__(self, member: np.ndarray, holdout: np.ndarray, shape: tuple[int, ...]) -> None:
        self.shape = shape
        labels = np.repeat([True, False], [len(member), len(holdout)])
        self.network, self.spread = fitted_network(self._maps(np.concatenate([member, holdout])), labels, 0)

    def _maps(self, features: np.ndarray) -> Tensor:
        return torch.from_numpy(np.exp(features)).float().reshape(-1, *self.shape)

    @torch.inference_mode()
    def decision_function(self, features: np.ndarray) -> np.ndarray:
        """(N,) log odds."""
        return self.network(self._maps(features) / self.spread)[:, 0].double().numpy()
