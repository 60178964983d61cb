"""Copies among what a model generates: which members does a sample come nearer to than auxiliary images explain?

The images of the audit (members, auxiliary, holdout) are the pool.  The score of a pool image x is how near the nearest
of the samples g comes to it, beside how near that sample is to images of the pool in general:

    r(g, x) = d(g, x) / mean d(g, the k images of the pool nearest to g),     score(x) = min over g of r(g, x).

The ratio is that of Carlini et al., "Extracting Training Data from Diffusion Models" (USENIX Security 2023), for
CIFAR-10: without it plain images pass for copies, because everything is near to them.  Distances are of pixels and of
image features.  As each score of this project, a lower one is more member-like.

**Calibration.**  Were the model to copy nothing, members, auxiliary and holdout images would be exchangeable given the
samples: the scores depend on the pool and on the samples, not on the roles.  So

    p(x) = (1 + #{auxiliary images whose score is at most that of x}) / (n + 1)

is a conformal p-value, of the image and not of the sample.  Benjamini & Hochberg's rule on such p-values holds the
false-discovery rate, also where other members are copied (Marandon, Lei, Mary & Roquain, "Adaptive Novelty Detection
with False Discovery Rate Guarantee", Annals of Statistics 2024: the score function may depend on calibrating and tested
images, as long as it does not tell them apart).  With as many members as auxiliary images, m, it names those that the
threshold of Barber & Candes (Annals of Statistics 2015) names at the rate q (m + 1) / m, on the sign "member or
auxiliary" of each image.

Of D distances each names at the rate q / D, and named is what any of them names: the false share of the union is at
most the sum of theirs.

`swapped_p_values` are of samples, but samples that share their nearest image are one piece of evidence:
benchmarks/copies measures what it costs to count it many times.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from leakgauge.inference.conformal import conformal_p_values
from leakgauge.inference.suspects import adjusted_p_values

CHUNK, BLOCK = 64, 1024  # samples, and images of the pool, that are compared at a time
Distances = Callable[[slice], np.ndarray]  # some of the samples -> (b, N) distances to the images of the pool


@dataclass(frozen=True)
class Search:
    """What a comparison of n samples with N images of the pool found, by one distance."""

    score: np.ndarray  # (N,) the smallest r of each image
    sample: np.ndarray  # (N,) int, the sample that has it
    image: np.ndarray  # (n,) int, the image nearest to each sample
    ratio: np.ndarray  # (n,) its r
    nearest: dict[str, np.ndarray]  # role -> (n,) int, the nearest image of that role
    distance: dict[str, np.ndarray]  # role -> (n,) its distance


@dataclass(frozen=True)
class Copies:
    """Which members are named, and which samples are copies of them."""

    p_value: np.ndarray  # (N,) the smallest of D distances, D-fold; NaN of auxiliary images
    adjusted_p_value: np.ndarray  # (N,) likewise, of members; NaN of others
    named: np.ndarray  # (N,) bool, members
    copy: np.ndarray  # (n,) bool, samples whose nearest image is named, and nearer than any image beyond those named
    resolution: float  # no p-value is below it
    fewest: int  # members: of fewer none could be named


def find_copies(searches: Mapping[str, Search], role: np.ndarray, rate: float) -> Copies:
    """The members that samples come nearer to than auxiliary images explain.

    searches : of the same samples and pool, by each distance.  role : (N,) of the images of the pool, `member`,
    `auxiliary` or `holdout`.  rate : of false discoveries among the members named, at most, on average.
    """
    member, auxiliary = role == "member", role == "auxiliary"
    p_value, adjusted = np.ones(len(role)), np.ones(len(role))
    copy = np.zeros(len(next(iter(searches.values())).ratio), dtype=bool)
    for one in searches.values():
        by_this = conformal_p_values(-one.score, -one.score[auxiliary]) * len(searches)
        adjusted_by_this = np.ones(len(role))
        adjusted_by_this[member] = adjusted_p_values(np.minimum(by_this[member], 1))
        named = adjusted_by_this <= rate
        beyond = one.score > one.score[named].max(initial=-np.inf)  # images that no sample comes near enough to
        copy |= (one.ratio < one.score[beyond].min(initial=np.inf)) & named[one.image]
        p_value, adjusted = np.minimum(p_value, by_this), np.minimum(adjusted, adjusted_by_this)
    resolution = len(searches) / (int(auxiliary.sum()) + 1)
    return Copies(
        np.where(auxiliary, np.nan, p_value),
        np.where(member, adjusted, np.nan),
        member & (adjusted <= rate),
        copy,
        resolution,
        max(math.ceil(int(member.sum()) * resolution / rate - 1e-9), 1),
    )


def search(distances: Distances, samples: int, role: np.ndarray, neighbours: int) -> Search:
    """Compare each sample with the pool.  role : (N,) of its images.  neighbours : k."""
    size = len(role)
    score, sample = np.full(size, np.inf), np.zeros(size, dtype=np.int64)
    image, ratio = np.zeros(samples, dtype=np.int64), np.zeros(samples)
    places = {name: np.flatnonzero(role == name) for name in ("member", "auxiliary")}
    nearest = {name: np.zeros(samples, dtype=np.int64) for name in places}
    distance = {name: np.zeros(samples) for name in places}
    for start in range(0, samples, CHUNK):
        rows = slice(start, start + CHUNK)
        found = distances(rows)
        r = found / usual(found, neighbours)[:, None]
        image[rows] = r.argmin(axis=1)
        ratio[rows] = r.min(axis=1)
        best = r.argmin(axis=0)  # of equal ones the first
        smallest = r[best, np.arange(size)]
        better = smallest < score
        score[better], sample[better] = smallest[better], best[better] + start
        for name, place in places.items():
            first = found[:, place].argmin(axis=1)
            nearest[name][rows] = place[first]
            distance[name][rows] = found[np.arange(len(found)), place[first]]
    return Search(score, sample, image, ratio, nearest, distance)


def usual(distances: np.ndarray, neighbours: int) -> np.ndarray:
    """(b,): the mean distance of each sample to the images nearest to it.  distances : (b, N)."""
    k = min(neighbours, distances.shape[1])
    near = np.sort(np.partition(distances, k - 1, axis=1)[:, :k], axis=1)
    return np.maximum(near.mean(axis=1), np.finfo(float).tiny)


def pixel_distances(samples: np.ndarray, pool: np.ndarray) -> Distances:
    """Root mean square differences in grey levels.  samples : (n, C, H, W) uint8.  pool : (N, C, H, W) uint8.

    Sums of squares of integers are exact in float64, so no order of summation and no batch changes them.
    """
    flat = pool.reshape(len(pool), -1)
    squares = np.concatenate([_squares(flat[start : start + BLOCK]) for start in range(0, len(flat), BLOCK)])

    def distances(rows: slice) -> np.ndarray:
        some = samples[rows].reshape(-1, flat.shape[1]).astype(np.float64)
        products = [some @ flat[start : start + BLOCK].T.astype(np.float64) for start in range(0, len(flat), BLOCK)]
        squared = (some**2).sum(axis=1)[:, None] + squares - 2 * np.concatenate(products, axis=1)
        return np.sqrt(squared / flat.shape[1])

    return distances


def _squares(block: np.ndarray) -> np.ndarray:
    return (block.astype(np.float64) ** 2).sum(axis=1)


def feature_distances(samples: np.ndarray, pool: np.ndarray) -> Distances:
    """Root mean square differences of features, each in its standard deviations over the pool.

    samples : (n, F), pool : (N, F) float32.  A feature that is the same for all of the pool is left out.
    """
    mean, deviation = pool.mean(axis=0, dtype=np.float64), pool.std(axis=0, dtype=np.float64)
    varies = deviation > 0
    asked, known = ((of[:, varies] - mean[varies]) / deviation[varies] for of in (samples, pool))
    return lambda rows: cdist(asked[rows], known) / math.sqrt(max(int(varies.sum()), 1))


def swapped_p_values(member: np.ndarray, auxiliary: np.ndarray) -> np.ndarray:
    """p-values of samples, were they independent: (1 + #{j: -s_j >= s_i}) / (n + 1), s = log d_A - log d_M.

    member, auxiliary : (n,) distances to the nearest member and the nearest auxiliary image, of as many of either.  The
    statistics with members and auxiliary swapped are the null.  Not used to name: see above.
    """
    s = np.log(np.maximum(auxiliary, np.finfo(float).tiny)) - np.log(np.maximum(member, np.finfo(float).tiny))
    return conformal_p_values(s, -s)
