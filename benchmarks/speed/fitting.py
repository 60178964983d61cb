"""How long a bag of ten takes: one attacker after another, a process a core, or all networks trained at once.

    python -m benchmarks.speed.fitting [--images 900] [--rounds 3]

Images, features and log scores are drawn at random; learners are those of params.yaml, with fewer epochs.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from ruamel.yaml import YAML
from tqdm import tqdm

from leakgauge.cli import parser_of
from leakgauge.compute import spread
from leakgauge.quantile.bag import Learner, LearnerOptions, attacker_seed, fit_attackers
from leakgauge.quantile.base import Resample, resamples
from leakgauge.quantile.inputs import Inputs

BAG, SCORES, FEATURES = 10, 7, 135
EPOCHS = {"mlp": 4, "resnet": 2}


class Work(NamedTuple):
    """What a bag is fitted on, as `fit_attackers` takes it."""

    inputs: Inputs
    log_scores: np.ndarray
    options: LearnerOptions
    seeds: list[int]
    drawn: list[Resample]

    def parts(self) -> "list[Work]":
        """The same for each attacker."""
        return [self._replace(seeds=[seed], drawn=[rows]) for seed, rows in zip(self.seeds, self.drawn, strict=True)]


def one_by_one(work: Work) -> None:
    """In this process."""
    for part in work.parts():
        fit_attackers(*part)


def a_process_a_core(work: Work) -> None:
    """As `fit` does on CPUs."""
    spread(fit_attackers, work.parts(), "fit")


def at_once(work: Work) -> None:
    """As `fit` does on a GPU."""
    fit_attackers(*work)


WAYS: dict[str, Callable[[Work], None]] = {
    "one by one": one_by_one,
    "a process a core": a_process_a_core,
    "at once": at_once,
}


def measure(images: int, rounds: int) -> dict[str, dict[str, float]]:
    """Learner and way -> seconds (median of the rounds), and how often as fast as one by one."""
    torch.set_num_threads(1)
    figures: dict[str, dict[str, float]] = {}
    for kind in EPOCHS:
        work = _work(kind, images)
        a_process_a_core(work)  # starts the processes
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in tqdm(range(rounds), desc=f"fitting {kind}", disable=None):
            for name, way in WAYS.items():
                start = time.perf_counter()
                way(work)
                seconds[name].append(time.perf_counter() - start)
        for name, taken in seconds.items():
            ratios = [base / own for base, own in zip(seconds["one by one"], taken, strict=True)]
            figures[f"{kind}, {name}"] = {
                "seconds": statistics.median(taken),
                "ratio": statistics.median(ratios),
                "ratio_low": min(ratios),
                "ratio_high": max(ratios),
            }
    return figures


def _work(kind: str, images: int) -> Work:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, 1, 8, 8), dtype=np.uint8)
    inputs = Inputs(pixels, rng.standard_normal((images, FEATURES), dtype=np.float32))
    values = rng.standard_normal((images, SCORES))
    written = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))["learners"][kind]
    options = Learner.model_validate(written | {"epochs": EPOCHS[kind]}).root
    drawn = resamples(np.zeros(images, dtype=bool), 0, BAG)
    return Work(inputs, values, options, [attacker_seed(0, number) for number in range(BAG)], drawn)


def main() -> None:
    """Print the figures."""
    parser = parser_of(main)
    parser.add_argument("--images", type=int, default=900, help="auxiliary images (900)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is timed (3)")
    arguments = parser.parse_args()
    for name, values in measure(arguments.images, arguments.rounds).items():
        print(f"{name:28}", "  ".join(f"{key} {value:.3g}" for key, value in values.items()))


if __name__ == "__main__":
    main()
