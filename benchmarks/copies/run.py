"""Copies among samples of which the truth is known: how often does each rule name what was not copied?

    python -m benchmarks.copies.run [--draws 200] [--samples 500]

A draw shares the digits out anew: 200 members, 600 auxiliary and 300 holdout images; what is left stands for what a
model generates, each with noise of its own.  In the first setting nothing is copied.  In the second neither, but all
samples come from ten images, as of a model that collapsed.  In the third a fifth of the samples are copies of 20
members.  Compared are the rule of stage `copies`, which judges images, and two that judge samples one by one, on the
sign and size of s = log d_A - log d_M, with as many auxiliary images as members.  Writes copies.md beside this file, or
to --out.
"""

import argparse
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from leakgauge.cli import parser_of
from leakgauge.compute import spread
from leakgauge.datasets.digits import DigitsEntry, read
from leakgauge.features import image_features
from leakgauge.inference.copies import feature_distances, find_copies, pixel_distances, search, swapped_p_values
from leakgauge.inference.suspects import adjusted_p_values

HERE = Path(__file__).parent
ENTRY = DigitsEntry(source="digits", path="leakgauge/datasets/digits.py")
SIZES = {"member": 200, "auxiliary": 600, "holdout": 300}
SETTINGS = {"nothing copied": 0, "collapsed": 0, "20 members copied": 20}  # members that are copied
COLLAPSED, RATE, LEVEL, NOISE = 10, 0.1, 0.05, 12.0  # images; and grey levels of noise


def main() -> None:
    """Draw, compare, count."""
    parser = parser_of(main)
    parser.add_argument("--draws", type=int, default=200, help="of each setting")
    parser.add_argument("--samples", type=int, default=500, help="in each draw")
    parser.add_argument("--out", type=Path, default=HERE / "copies.md")
    options = parser.parse_args()
    jobs = [(setting, seed, options.samples) for setting in SETTINGS for seed in range(options.draws)]
    found = pd.DataFrame(spread(one_draw, jobs, "draws", networks=False))
    options.out.write_text(_page(found, options), encoding="utf-8")


@lru_cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels, (N, 1, 8, 8) uint8, and features, (N, F) float32."""
    pixels = read(ENTRY).pixels.transpose(0, 3, 1, 2)
    return pixels, image_features(pixels)


def one_draw(setting: str, seed: int, samples: int) -> dict[str, float | str]:
    """What each rule names in one draw."""
    pixels, features = digits()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pixels))
    ends = np.cumsum([*SIZES.values()])
    pool, others = pixels[order[: ends[-1]]], pixels[order[ends[-1] :]]
    role = np.repeat([*SIZES], [*SIZES.values()])
    copied = np.arange(SETTINGS[setting])  # of the members, which come first
    known = features[order[: ends[-1]]]
    made, truth = _samples(rng, pool, others[:COLLAPSED] if setting == "collapsed" else others, copied, samples)
    by = {
        "pixels": pixel_distances(made, pool),
        "features": feature_distances(image_features(made), known),
    }
    found = find_copies({name: search(one, samples, role, 50) for name, one in by.items()}, role, RATE)
    named = np.flatnonzero(found.named)
    equal = np.where((role == "auxiliary") & (np.cumsum(role == "auxiliary") > SIZES["member"]), "left out", role)
    nearest = search(by["pixels"], samples, equal, 50).distance
    p_values = swapped_p_values(nearest["member"], nearest["auxiliary"])
    s = np.log(nearest["auxiliary"]) - np.log(nearest["member"])
    by_sample = {"swapped": adjusted_p_values(p_values) <= RATE, "signs": s >= sign_threshold(s, RATE)}
    figures: dict[str, float | str] = {
        "setting": setting,
        "holdout": float((found.p_value[role == "holdout"] <= LEVEL).mean()),
        "swapped": float((p_values <= LEVEL).mean()),
        "any_rule": len(named) > 0,
        "false_rule": _share_of(~np.isin(named, copied)),
        "found_rule": float(found.named[copied].mean()) if len(copied) else np.nan,
        "samples_rule": float(found.copy[truth].mean()) if truth.any() else np.nan,
    }
    for name, chosen in by_sample.items():
        figures |= {f"any_{name}": bool(chosen.any()), f"false_{name}": _share_of(~truth[chosen])}
    return figures


def _samples(
    rng: np.random.Generator, pool: np.ndarray, others: np.ndarray, copied: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """(n, C, H, W) uint8 samples, a fifth of them copies where any member is copied; and (n,) bool, which are."""
    truth = np.arange(count) < (count // 5 if len(copied) else 0)
    places = rng.integers(len(others), size=count)
    made = others[places].astype(float)
    made[truth] = pool[copied[np.arange(truth.sum()) % len(copied)]] if truth.any() else made[truth]
    noisy = made + NOISE * rng.standard_normal(made.shape)
    return np.clip(noisy.round(), 0, 255).astype(np.uint8), truth


def sign_threshold(s: np.ndarray, rate: float) -> float:
    """The least t with (1 + #{s <= -t}) / #{s >= t} <= rate; inf where there is none (Barber & Candes 2015, (1.9))."""
    for t in np.sort(np.abs(s[s != 0])):
        if (1 + (s <= -t).sum()) <= rate * (s >= t).sum():
            return float(t)
    return np.inf


def _share_of(false: np.ndarray) -> float:
    return float(false.mean()) if len(false) else 0.0


def _page(found: pd.DataFrame, options: argparse.Namespace) -> str:
    """The counts as Markdown."""
    rows = []
    for setting, draws in found.groupby("setting", sort=False):
        for rule, name in (
            ("rule", "images, as `copies`"),
            ("swapped", "samples, swapped"),
            ("signs", "samples, signs"),
        ):
            rows.append(
                f"| {setting} | {name} | {_share(draws[f'any_{rule}'])} | {_mean(draws[f'false_{rule}'])} "
                f"| {_mean(draws['found_rule']) if rule == 'rule' and draws['found_rule'].notna().all() else '-'} |\n"
            )
    levels = [
        f"| {setting} | {_mean(draws['holdout'])} | {_mean(draws['swapped'])} "
        f"| {100 * draws['swapped'].quantile(0.95):.1f} % |\n"
        for setting, draws in found.groupby("setting", sort=False)
    ]
    return f"""\
# Copies of a known kind

{options.draws} draws of {options.samples} samples in each setting; digits, shared out anew in each draw. Intervals are
of 95 %, over draws. The false-discovery rate asked for is {100 * RATE:.0f} %.

| setting | rule, on | draws in which any is named | false among those named, mean | copied members named |
|---|---|---|---|---|
{"".join(rows)}
Where nothing is copied all that is named is false: the third column should be at most {100 * RATE:.0f} %. A rule on
images counts members that are named, rules on samples the samples.

| setting | p at most {LEVEL:g}: holdout images | p at most {LEVEL:g}: samples, swapped | 95th percentile over draws |
|---|---|---|---|
{"".join(levels)}
Holdout images should have it in at most {100 * LEVEL:.0f} %, and samples too but in the third setting, where a fifth of
them are copies.
"""


def _share(held: pd.Series) -> str:
    interval = binomtest(int(held.sum()), len(held)).proportion_ci(0.95, method="exact")
    return f"{100 * held.mean():.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _mean(values: pd.Series) -> str:
    mean, error = values.mean(), 1.96 * values.std() / np.sqrt(len(values))
    return f"{100 * mean:.1f} % ({100 * max(mean - error, 0):.1f} to {100 * (mean + error):.1f})"


if __name__ == "__main__":
    main()
