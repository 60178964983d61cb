"""What each precision gains in scoring, and how far it moves scores, on the device that is there.

    python -m benchmarks.speed.shortcuts [--images 32]

Ten t-errors of the 35.7M-parameter UNet under each combination, against plain float32: what `score` measures, and
holds against `score.tolerance`.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.speed.scoring import CHANNELS_LAST, LAST, TIMESTEPS, matrix_rate, network_flops, timed, write_job
from leakgauge.attacks.scorer import Scorer
from leakgauge.cli import parser_of
from leakgauge.compute import best_device
from leakgauge.diffusion.denoiser import PLAIN
from leakgauge.errors import warn
from leakgauge.options import Precision

COMBINATIONS = {
    "plain float32": PLAIN,
    "channels_last": CHANNELS_LAST,
    "channels_last, compile": CHANNELS_LAST.model_copy(update={"compile": True}),
    "channels_last, tf32": CHANNELS_LAST.model_copy(update={"precision": "tf32"}),
    "channels_last, tf32, compile": CHANNELS_LAST.model_copy(update={"precision": "tf32", "compile": True}),
    "channels_last, bfloat16": CHANNELS_LAST.model_copy(update={"precision": "bfloat16"}),
    "channels_last, bfloat16, compile": CHANNELS_LAST.model_copy(update={"precision": "bfloat16", "compile": True}),
}


def measure(images: int) -> dict[str, dict[str, float]]:
    """Combination -> images a second, its ratio to plain, GFLOP/s, the share of the machine's rate of float32 matrix
    products, and the largest and the median relative difference that it makes to a score."""
    device = best_device()
    rate = matrix_rate(device)
    figures: dict[str, dict[str, float]] = {}
    plain = np.empty(0)
    with tempfile.TemporaryDirectory() as folder:
        for name, precision in COMBINATIONS.items():
            if device.type == "cpu" and precision.precision == "tf32":
                continue  # there is none
            try:
                scores, seconds, flops = _once(Path(folder), images, precision, device)
            except RuntimeError as error:
                warn(f"{name} does not work here: {str(error).splitlines()[0]}")
                continue
            plain = plain if len(plain) else scores
            moved = np.abs(scores / plain - 1)
            figures[name] = {
                "images_per_second": images / seconds,
                "gflops": flops / seconds / 1e9,
                "share_of_matrix_rate": flops / seconds / rate,
                "moves_scores_by_at_most": float(moved.max()),
                "moves_scores_by_median": float(np.median(moved)),
            }
    base = figures["plain float32"]["images_per_second"]
    return {name: {**values, "ratio": values["images_per_second"] / base} for name, values in figures.items()}


def _once(folder: Path, images: int, precision: Precision, device: torch.device) -> tuple[np.ndarray, float, float]:
    scorer = Scorer(write_job(folder, images, LAST, precision), device)
    shard = scorer.read(0)
    scorer.score(shard[: scorer.batch_size])  # compiled, and kernels chosen
    scores, seconds = timed(lambda: scorer.score(shard), device)
    flops = network_flops(scorer.denoiser.eager()) * images * (TIMESTEPS + 1)
    return np.asarray(scores), seconds, flops


def main() -> None:
    """Print the figures."""
    parser = parser_of(main)
    parser.add_argument("--images", type=int, default=32, help="how many, a multiple of the batch at best (32)")
    for name, values in measure(parser.parse_args().images).items():
        print(f"{name:34}", "  ".join(f"{key} {value:.4g}" for key, value in values.items()))


if __name__ == "__main__":
    main()
