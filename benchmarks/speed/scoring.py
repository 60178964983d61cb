"""How fast images are scored: one walk for all timesteps, against the plain ways, and against the machine itself.

    python -m benchmarks.speed.scoring [--images 32] [--rounds 3]

The target is the UNet of the CIFAR-10 DDPM that this literature attacks (35.7M parameters), with random weights: speed
does not depend on their values.  Every way computes the same ten t-errors, or the same single one, of the same
images; each is timed once a round, in turn, so that a ratio is of neighbours in time.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from leakgauge.attacks.scorer import Job, Scorer
from leakgauge.cli import parser_of
from leakgauge.compute import best_device
from leakgauge.diffusion.denoiser import PLAIN, Denoiser
from leakgauge.options import Attacks, Precision, Score
from leakgauge.scoring import Shards, score_here
from leakgauge.tables import image_table, write_table

INTERVAL, TIMESTEPS = 10, 10  # t-errors at 0, 10, ..., 90
LAST = INTERVAL * (TIMESTEPS - 1)
CHANNELS_LAST = PLAIN.model_copy(update={"channels_last": True})
KINDS = {  # of operations, by what their names contain; the last takes the others
    "convolutions": ("convolution",),
    "attention": ("attention",),
    "matrix products": ("mm", "linear"),
    "norms, activations, sums, copies": ("",),
}
SIDE = 2048  # of the matrices whose product tells what the machine can do


def unet() -> UNet2DModel:
    """Ho et al., NeurIPS 2020, for CIFAR-10: 35.7M parameters, attention of one head at 16x16."""
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        block_out_channels=(128, 256, 256, 256),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None,
    )


def write_job(folder: Path, images: int, last: int, precision: Precision) -> Job:
    """A target and a table of images in `folder`, and the job to compute their t-errors at 0, ..., `last`."""
    model, table = folder / "target", folder / "images.parquet"
    if not model.exists():
        DDPMPipeline(unet(), DDPMScheduler(num_train_timesteps=1000)).save_pretrained(model)
        pixels = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
        ids = [str(i) for i in range(images)]
        write_table(table, image_table(ids, pixels, [None] * images, [None] * images), {})
    attacks = Attacks.model_validate(
        {
            "t_error": {"interval": INTERVAL, "last": last},
            **{name: [] for name in ("pia", "pian", "naive_loss", "sima")},
            "rediffuse": {"timesteps": [], "stride": 1, "draws": 1},
            "noise_seed": 0,
        }
    )
    return Job("speed", model, table, Score(**precision.model_dump(), attacks=attacks))


def ours(scorer: Scorer, folder: Path) -> np.ndarray:
    """From the table of images to scores on disk, (N, timesteps)."""
    shards = Shards(folder, scorer.starts)
    with tqdm(disable=True) as bar:
        score_here(scorer, list(scorer.starts), shards.save, bar)
    return np.concatenate(shards.read())


def per_timestep(target: Denoiser, x0: Tensor, last: int) -> Tensor:
    """As the published code does: each timestep walks from 0 anew.  Returns (B, timesteps)."""
    return torch.stack([_alone(target, x0, t) for t in range(0, last + 1, INTERVAL)], dim=1)


def _alone(target: Denoiser, x0: Tensor, t: int) -> Tensor:
    x = x0
    for s in range(0, t, INTERVAL):
        x = target.ddim(x, target.epsilon(x, s), s, s + INTERVAL)
    return _up_and_back(target, x, t)[0]


def chain(target: Denoiser, x0: Tensor, last: int) -> Tensor:
    """One walk, but with two network calls a timestep: up, and back.  Returns (B, timesteps)."""
    x, errors = x0, []
    for t in range(0, last + 1, INTERVAL):
        error, x = _up_and_back(target, x, t)
        errors.append(error)
    return torch.stack(errors, dim=1)


def _up_and_back(target: Denoiser, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
    ahead = target.ddim(x, target.epsilon(x, t), t, t + INTERVAL)
    back = target.ddim(ahead, target.epsilon(ahead, t + INTERVAL), t + INTERVAL, t)
    return (x - back).double().square().flatten(1).sum(1), ahead


def batched(way: Callable[[Denoiser, Tensor, int], Tensor], scorer: Scorer, last: int) -> np.ndarray:
    """A plain way, batch by batch, images at hand already decoded.  (N, timesteps)."""
    pixels, size = scorer.read(0).pixels, scorer.batch_size
    with torch.no_grad():
        parts = [way(scorer.denoiser, scorer.denoiser.encode(part), last) for part in pixels.split(size)]
    return torch.cat(parts).cpu().numpy()


def network_flops(target: Denoiser) -> int:
    """Floating-point operations of one network call for one image, as torch counts them."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        target.epsilon(target.encode(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)), 0)
    return counter.get_total_flops()


def profile(target: Denoiser, images: int) -> dict[str, dict[str, float]]:
    """Where a network call spends its time, on a CPU: kind of operation -> share of the time, and GFLOP/s."""
    pixels = torch.zeros(images, 3, 32, 32, dtype=torch.uint8)
    with torch.inference_mode():
        x0 = target.encode(pixels)
        with FlopCounterMode(display=False) as counter:
            target.epsilon(x0, 0)
        with torch.profiler.profile() as profiled:
            target.epsilon(x0, 0)
    flops, seconds = dict.fromkeys(KINDS, 0.0), dict.fromkeys(KINDS, 0.0)
    for operation, count in counter.get_flop_counts()["Global"].items():
        flops[_kind(str(operation))] += count
    for event in profiled.key_averages():
        seconds[_kind(event.key)] += event.self_cpu_time_total / 1e6
    total = sum(seconds.values())
    return {
        kind: {"share": seconds[kind] / total}
        | ({"gflops": flops[kind] / seconds[kind] / 1e9} if flops[kind] else {})  # torch does not count all operations
        for kind in KINDS
    }


def _kind(operation: str) -> str:
    return next(kind for kind, names in KINDS.items() if any(name in operation for name in names))


def matrix_rate(device: torch.device) -> float:
    """Operations a second of large float32 matrix products: what the machine reaches at best."""
    a, b = torch.randn(2, SIDE, SIDE, device=device)
    seconds, products = 0.0, 0
    while seconds < 1.0:
        seconds += timed(lambda: a @ b, device)[1]
        products += 1
    return products * 2 * SIDE**3 / seconds


def timed(work: Callable[[], object], device: torch.device) -> tuple[object, float]:
    """What `work` returns, and the seconds that it took."""
    _wait(device)
    start = time.perf_counter()
    result = work()
    _wait(device)
    return result, time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(images: int, rounds: int) -> dict[str, Any]:
    """Figure -> median, low and high over the rounds; and where the time of a network call goes."""
    device = best_device()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        walk = Scorer(write_job(folder, images, LAST, CHANNELS_LAST), device)
        single = Scorer(write_job(folder, images, 0, CHANNELS_LAST), device)
        plain = Scorer(write_job(folder, images, 0, PLAIN), device)
        flops = network_flops(plain.denoiser) * images * (TIMESTEPS + 1)
        ways: dict[str, Callable[[], np.ndarray]] = {
            "ten, ours": lambda: ours(walk, folder),
            "ten, 2N calls": lambda: batched(chain, walk, LAST),
            "ten, each timestep anew": lambda: batched(per_timestep, walk, LAST),
            "one, ours": lambda: ours(single, folder),
            "one, plain": lambda: batched(per_timestep, plain, 0),
        }
        for scorer in (walk, plain):  # warm up: kernels are chosen at the first call
            scorer.score(scorer.read(0, 1))
        figures = [_round(ways, flops, device) for _ in tqdm(range(rounds), desc="scoring", disable=None)]
        spent = profile(walk.denoiser, walk.batch_size) if device.type == "cpu" else {}
    return {
        name: {
            "median": statistics.median(one[name] for one in figures),
            "low": min(one[name] for one in figures),
            "high": max(one[name] for one in figures),
        }
        for name in figures[0]
    } | {"images a network call": walk.batch_size, **{f"time in {kind}": values for kind, values in spent.items()}}


def _round(ways: dict[str, Callable[[], np.ndarray]], flops: int, device: torch.device) -> dict[str, float]:
    before = matrix_rate(device)
    done = {name: timed(way, device) for name, way in ways.items()}
    after = matrix_rate(device)
    scores, seconds = {name: one[0] for name, one in done.items()}, {name: one[1] for name, one in done.items()}

    def moved(way: str, reference: str) -> float:
        return float(np.abs(scores[way] / scores[reference] - 1).max())

    return {
        "against each timestep anew": seconds["ten, each timestep anew"] / seconds["ten, ours"],
        "against 2N calls": seconds["ten, 2N calls"] / seconds["ten, ours"],
        "one timestep against plain": seconds["one, plain"] / seconds["one, ours"],
        "share of the matrix rate": flops / seconds["ten, ours"] / ((before + after) / 2),
        "matrix GFLOP/s": (before + after) / 2e9,
        "images/s, ten timesteps": len(scores["ten, ours"]) / seconds["ten, ours"],
        "largest difference, each anew": moved("ten, ours", "ten, each timestep anew"),
        "largest difference, 2N calls": moved("ten, ours", "ten, 2N calls"),
        "largest difference, plain": moved("one, ours", "one, plain"),
    }


def main() -> None:
    """Print the figures."""
    parser = parser_of(main)
    parser.add_argument("--images", type=int, default=32, help="how many (32)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is timed (3)")
    arguments = parser.parse_args()
    for name, figure in measure(arguments.images, arguments.rounds).items():
        print(f"{name:45}", figure if isinstance(figure, int) else {k: float(f"{v:.4g}") for k, v in figure.items()})


if __name__ == "__main__":
    main()
