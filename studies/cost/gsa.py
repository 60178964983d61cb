"""GSA: boosted trees tell members by their gradients, taught by shadow models whose members the attacker chose.

Pang et al., "White-box Membership Inference Attacks against Diffusion Models", PoPETs 2025 (arXiv 2308.06405).  Their
200 boosted trees are LightGBM's here.  As in their code, features are standardised model by model: over all images that
are put to a model, members or not, for which no label is needed.
"""

from typing import Any

import lightgbm as lgb
import numpy as np

TREES: dict[str, Any] = {"n_estimators": 200, "num_leaves": 15, "learning_rate": 0.05, "min_child_samples": 20}
REPEATABLE: dict[str, Any] = {"deterministic": True, "n_jobs": 1, "verbose": -1}


def features(norms: np.ndarray) -> np.ndarray:
    """Logarithms of gradient norms in units of their mean and deviation over the images.  (N, tensors), both."""
    logs = np.log(np.maximum(norms, 1e-30))
    return (logs - logs.mean(axis=0)) / np.maximum(logs.std(axis=0), 1e-12)


def gsa(shadows: list[tuple[np.ndarray, np.ndarray]], target: np.ndarray, seed: int) -> np.ndarray:
    """The membership score of each image put to the target, (N,): higher is more member-like.

    shadows : of each shadow model its images' gradient norms, (n, tensors), and whether each trained it, (n,) bool.
    target : gradient norms under the target, (N, tensors).
    """
    x = np.concatenate([features(norms) for norms, _ in shadows])
    y = np.concatenate([is_member for _, is_member in shadows])
    trees = lgb.LGBMClassifier(**TREES, **REPEATABLE, random_state=seed).fit(x, y)
    return np.asarray(trees.predict(features(target), raw_score=True), dtype=np.float64)
