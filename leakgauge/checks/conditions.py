"""Do labels or captions give the role away?  Then so does a target that is conditioned on them, trained or not.

The labels of two sets are compared by an exact test of independence, their captions by a blind check on words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from leakgauge.checks.blind import Blind, blind_check
from leakgauge.checks.plan import CONFIDENCE, Plan

WORDS = 300  # the most frequent ones, which a caption is described by


@dataclass(frozen=True)
class LabelRole:
    """How far the labels of one set of images differ from those of another."""

    p_value: float  # of "label and set are independent"
    label: int | None  # the one that differs most from what is expected; None: no label
    images: int  # of either set that have it
    of_first: int  # of the first set that have it
    expected: float  # how many these would be on average


def label_role(
    first: Sequence[int | None], second: Sequence[int | None], permutations: int, seed: int
) -> LabelRole | None:
    """Are the labels of two sets drawn alike?  None where neither set has labels; a missing label is a label too.

    Pearson's chi-square statistic with a permutation p-value, which is exact for any number of classes and of images:
    shuffled roles give a class's images to the first set as a multivariate hypergeometric draw (Phipson & Smyth 2010).
    """
    if all(label is None for label in (*first, *second)):
        return None
    labels = sorted({*first, *second}, key=lambda label: -1 if label is None else label)
    place = {label: number for number, label in enumerate(labels)}
    codes = np.array([place[label] for label in (*first, *second)])
    images = np.bincount(codes)  # (K,) of each label
    observed = np.bincount(codes[: len(first)], minlength=len(labels))  # of these, in the first set
    expected = images * len(first) / images.sum()

    def parts(counts: np.ndarray) -> np.ndarray:  # of the statistic, but for a constant: row and column sums are fixed
        return (counts - expected) ** 2 / images

    shuffled = np.random.default_rng(seed).multivariate_hypergeometric(images, len(first), permutations)  # (P, K)
    statistic = parts(observed).sum()
    as_large = int((parts(shuffled).sum(axis=1) >= statistic * (1 - 1e-9)).sum())
    most = int(parts(observed).argmax())
    return LabelRole(
        (1 + as_large) / (1 + permutations), labels[most], int(images[most]), int(observed[most]), float(expected[most])
    )


def caption_role(
    first: Sequence[str | None], second: Sequence[str | None], confidence: float, permutations: int, seed: int
) -> Blind | None:
    """Do the words and lengths of their captions tell two sets apart?  None where neither has any, or one is small.

    A missing caption is one without words.
    """
    if not any((*first, *second)):
        return None
    features = caption_features([*first, *second])
    return blind_check(features[: len(first)], features[len(first) :], confidence, permutations, seed)


def label_roles(labels: Mapping[str, Sequence[int | None]], plan: Plan) -> dict[str, LabelRole]:
    """Role -> how its labels differ from those of the roles it must look like.  labels : by role."""
    found = {
        role: label_role(own, others, plan.permutations, plan.seed)
        for role, own, others in plan.comparisons(labels)
        if _comparable(role, own, others)
    }
    return {role: one for role, one in found.items() if one}


def caption_roles(captions: Mapping[str, Sequence[str | None]], plan: Plan) -> dict[str, Blind]:
    """Role -> how its captions differ from those of the roles it must look like.  captions : by role."""
    found = {
        role: caption_role(own, others, CONFIDENCE, plan.permutations, plan.seed)
        for role, own, others in plan.comparisons(captions)
        if _comparable(role, own, others)
    }
    return {role: one for role, one in found.items() if one}


def _comparable(role: str, own: Sequence[object], others: Sequence[object]) -> bool:
    """Suspects need no labels or captions, even where the target's images have them; roles of one dataset do."""
    known = [any(value is not None for value in values) for values in (own, others)]
    return all(known) or role != "suspect"


def caption_features(captions: Sequence[str | None]) -> np.ndarray:
    """(N, 2 + words) float32: characters, words, and how often each of the `WORDS` most frequent words occurs."""
    texts = [caption or "" for caption in captions]
    counter = CountVectorizer(token_pattern=r"\w+", max_features=WORDS)
    lengths = np.array([[len(text), len(text.split())] for text in texts])
    if not any(map(counter.build_analyzer(), texts)):
        return lengths.astype(np.float32)
    return np.hstack([lengths, counter.fit_transform(texts).toarray()]).astype(np.float32)
