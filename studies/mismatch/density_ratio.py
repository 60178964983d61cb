"""How much more common images like this one are among those asked about than among the auxiliary ones.

A classifier that tells the two sets apart tells their density ratio: w(x) = odds(asked | x) n_auxiliary / n_asked
(Bickel, Bruckner & Scheffer, JMLR 2009).  Members and non-members among those asked about are not told apart: an
auditor has no such labels.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5
STRENGTH = 0.01  # inverse of the L2 penalty: few images, many features
LARGEST = 50.0  # weight, and its inverse the smallest: what lies beyond is noise


def density_ratio(auxiliary: np.ndarray, asked: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the auxiliary images and of those asked about, (n,) and (N,), each from folds without the image.

    auxiliary, asked : features, (n, F) and (N, F).
    """
    features = np.concatenate([auxiliary, asked])
    is_asked = np.repeat([0, 1], [len(auxiliary), len(asked)])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=2000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    log_odds = cross_val_predict(classifier, features, is_asked, cv=folds, method="decision_function")
    weight = np.exp(log_odds.clip(-30, 30)) * len(auxiliary) / len(asked)
    weight = weight.clip(1 / LARGEST, LARGEST)
    return weight[: len(auxiliary)], weight[len(auxiliary) :]
