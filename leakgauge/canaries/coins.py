"""The test of sealed canaries: does a model know which variant of each image was published?

Of every image one of K variants was drawn uniformly, independently of all else, and published.  Under the null
hypothesis the model is independent of the draw, and so are the scores of all variants.  Given these scores, what
is drawn again gives the exact distribution of any statistic: a permutation test whose permutations were made by design
(Fisher, "The Design of Experiments", 1935).  Nothing is supposed of the images, the model or the scores.

Everything before the sum over published variants is a function of the scores of all variants and not of the draw.
Otherwise the p-value would not be exact.
"""

import numpy as np

from leakgauge.inference.epsilon import GuessBound, guess_bound

LEVELS = 2**15  # of the statistic, at least
LEVELS_EACH = 32  # and for each image
RIDGE = 5.0  # of the regression on features, in rows


def contrasts(log_scores: np.ndarray, features: np.ndarray) -> np.ndarray:
    """How much lower a variant scores than the others of its image; lower is more like a training image.

    log_scores : (N, K, S) float64, of N images, K variants, S score columns.  features : (N, K, F), of the variants'
    pixels.  Returns (N, K) float64.

    1. Each column is centred within its image.
    2. What a ridge regression on the features, centred likewise, predicts of it is subtracted: some variants are
       simpler.
    3. Columns are divided by their root mean square, and averaged.
    4. Images are divided by their own spread and the common one, so that no few of them decide.
    """
    rows = _centred(log_scores).reshape(-1, log_scores.shape[2])
    predictors = _scaled(_centred(features).reshape(len(rows), -1))
    gram = predictors.T @ predictors + RIDGE * np.eye(predictors.shape[1])
    rest = rows - predictors @ np.linalg.solve(gram, predictors.T @ rows)
    each = _scaled(rest).mean(axis=1).reshape(log_scores.shape[:2])
    own = (each**2).mean(axis=1, keepdims=True)
    spread = np.sqrt(own + own.mean())
    return np.divide(each, spread, out=np.zeros_like(each), where=spread > 0)


def p_value(contrast: np.ndarray, published: np.ndarray) -> float:
    """P(sum of the contrasts of variants drawn anew <= that of the published ones), exact; at least K^-N.

    contrast : (N, K) float64.  published : (N,) int, which variant was.  The contrasts are rounded to a grid before,
    which the draw does not decide; the distribution of their sum is then a convolution of N uniform ones.
    """
    above = contrast - contrast.min(axis=1, keepdims=True)
    step = above.max(axis=1).sum() / max(LEVELS, LEVELS_EACH * len(above))
    if not step > 0:
        return 1.0
    levels = np.rint(above / step).astype(np.int64)
    distribution = np.ones(1)
    for image in levels:
        longer = np.zeros(len(distribution) + image.max())
        for level in image:
            longer[level : level + len(distribution)] += distribution / len(image)
        distribution = longer
    observed = int(levels[np.arange(len(levels)), published].sum())
    return min(float(distribution[: observed + 1].sum()), 1.0)


def epsilon(contrast: np.ndarray, published: np.ndarray, confidence: float) -> GuessBound:
    """A lower bound on epsilon of (epsilon, 0)-differential privacy, from guesses of what was published.

    contrast : (N, K).  published : (N,) int.  The guess is the variant of the lowest contrast.  Guessed are all images,
    and the half, quarter and eighth of them whose lowest two contrasts differ most, each at its share of the error.

    Adjacent are training sets of which one image is replaced by another variant of it.  Given the model and the
    draws of the images before it, two variants of an image differ in probability by a factor of at most e^epsilon, for
    they were as likely before.  So the guess is right with probability at most e^epsilon / (e^epsilon + K - 1),
    and the number of right ones is stochastically at most binomial (Steinke, Nasr and Jagielski, NeurIPS 2023, the
    induction of Theorem 3.1, with K outcomes in place of two).
    """
    lowest = np.sort(contrast, axis=1)
    surest = np.argsort(lowest[:, 0] - lowest[:, 1], kind="stable")
    right = contrast.argmin(axis=1) == published
    return guess_bound(right[surest], confidence, contrast.shape[1])


def _centred(values: np.ndarray) -> np.ndarray:
    """Within each image.  values : (N, K, ...)."""
    return values - values.mean(axis=1, keepdims=True)


def _scaled(columns: np.ndarray) -> np.ndarray:
    """Divided by their root mean square; a column of zeros stays.  columns : (rows, columns)."""
    size = np.sqrt((columns**2).mean(axis=0))
    return np.divide(columns, size, out=np.zeros_like(columns), where=size > 0)
