"""Latent diffusion at its real size: images a second, memory, and how far each precision moves scores.

    python -m benchmarks.large.run [--networks sd15 sdxl] [--sides 512 1024] [--images 2] [--precisions ...]

UNets of the size of Stable Diffusion 1.5 (860M weights) and XL (2.6B), with the autoencoder that both have; weights,
images and prompts are drawn at random, for neither speed nor memory depends on their values.  The drift of scores does:
that of trained weights is what `score` measures on every run.  On a CPU memory is the peak of the process, which makes
the weights in float32.  Three t-errors of one walk, each way in a process of its
own, so that its memory is its own.  Writes results.json and results.md beside this file, or to --out.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from tqdm import tqdm

from leakgauge.attacks.registry import score_batch
from leakgauge.cli import parser_of
from leakgauge.compute import best_device
from leakgauge.diffusion.denoiser import LOW, PLAIN, Denoiser
from leakgauge.diffusion.loading import Autoencoder
from leakgauge.diffusion.process import NoiseProcess
from leakgauge.files import write_json
from leakgauge.options import Attacks, Precision

HERE = Path(__file__).parent
ATTACKS = Attacks(t_error={"interval": 10, "last": 20}, pia=[], pian=[], naive_loss=[], sima=[])
CALLS = 4  # an image
TOKENS = 77


def _precision(name: str) -> Precision:
    """float32 | tf32 | bfloat16 | float16, with `weights` behind a low one where weights are of it too, or offload."""
    precision, *rest = name.split()
    flags = {"low_weights": "weights" in rest, "offload": "offload" in rest}
    return PLAIN.model_copy(update={"channels_last": True, "precision": precision, **flags})


WAYS = (
    *("float32", "float32 offload", "tf32"),
    *("bfloat16", "bfloat16 weights", "bfloat16 weights offload", "float16", "float16 weights"),
)


def sd15() -> tuple[UNet2DConditionModel, dict[str, tuple[int, ...]]]:
    """The network, and the shapes of what a prompt gives it."""
    network = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    return network, {"encoder_hidden_states": (TOKENS, 768)}


def sdxl() -> tuple[UNet2DConditionModel, dict[str, tuple[int, ...]]]:
    """The same of SDXL: two encoders' states side by side, and a pooled embedding."""
    network = UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    return network, {"encoder_hidden_states": (TOKENS, 2048), "text_embeds": (1280,)}


NETWORKS: dict[str, Callable[[], tuple[UNet2DConditionModel, dict[str, tuple[int, ...]]]]] = {
    "sd15": sd15,
    "sdxl": sdxl,
}


def main() -> None:
    """Every network, size and precision."""
    parser = parser_of(main)
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS], choices=NETWORKS)
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1024], help="of images, in pixels")
    parser.add_argument("--images", type=int, default=2, help="of one call")
    parser.add_argument("--precisions", nargs="+", default=[*WAYS], choices=WAYS)
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    asked = [
        (network, side, way) for network in options.networks for side in options.sides for way in options.precisions
    ]
    rows: list[dict[str, Any]] = []
    for network, side, way in tqdm(asked, unit="way"):
        command = [sys.executable, "-m", "benchmarks.large.run", "one", network, str(side), way, str(options.images)]
        done = subprocess.run(command, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"failed": _last(done.stderr)}
        rows.append({"network": network, "side": side, "precision": way, **found})
    results = {"device": _device(), "images": options.images, "rows": rows}
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "results.json", results)
    (options.out / "results.md").write_text(as_markdown(results), encoding="utf-8")
    print(as_markdown(results))


@torch.inference_mode()
def measure(network: str, side: int, way: str, images: int) -> dict[str, Any]:
    """Images a second, GiB, and the scores of each image."""
    torch.manual_seed(0)
    precision, device = _precision(way), best_device()
    if precision.precision == "tf32" and device.type == "cpu":
        raise ValueError("a CPU has no tf32")
    made, shapes = NETWORKS[network]()
    prompts = {name: torch.randn(images, *shape) for name, shape in shapes.items()}
    autoencoder, pixels = _autoencoder(), torch.randint(0, 256, (images, 3, side, side), dtype=torch.uint8)
    if precision.low_weights:
        made = made.to(LOW[precision.precision])
    process = NoiseProcess.from_scheduler(
        DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    )
    target = Denoiser(made, process, device, autoencoder=autoencoder, precision=precision)
    target.inputs = {name: prompt.to(device) for name, prompt in prompts.items()}
    ids = [str(number) for number in range(images)]
    if device.type == "cuda":
        score_batch(target, target.encode(pixels), ids, ATTACKS)  # what is done once is not timed
    began = time.monotonic()
    x0 = target.encode(pixels)
    encoded = time.monotonic()
    scores = score_batch(target, x0, ids, ATTACKS).cpu().numpy()
    seconds = time.monotonic() - encoded
    cuda = device.type == "cuda"
    memory = torch.cuda.max_memory_reserved() if cuda else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "images_per_second": images / (time.monotonic() - began),
        "seconds_a_call": seconds / CALLS / images,
        "memory_gib": memory / 2**30,
        "scores": scores.tolist(),
    }


def _autoencoder() -> Autoencoder:
    """That of Stable Diffusion 1 and XL: 84M weights, a latent for 8 x 8 pixels."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    widths = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    return Autoencoder(AutoencoderKL(**blocks, **widths, latent_channels=4, sample_size=512))


def _device() -> str:
    device = best_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"


def _last(said: str) -> str:
    return said.strip().rpartition("\n")[2]


def as_markdown(results: dict[str, Any]) -> str:
    """One row a network, size and precision."""
    lines = [
        "# Latent diffusion at its real size",
        "",
        f"Networks with random weights on {results['device']}, {results['images']} images a call; three t-errors, "
        f"{CALLS} network calls an image. Drift: the largest relative difference to float32 in any score.",
        "",
        "| network | side, pixels | precision | images a second | seconds a call and image | memory, GiB | drift |",
        "|---|---|---|---|---|---|---|",
    ]
    exact = {
        (row["network"], row["side"]): row.get("scores") for row in results["rows"] if row["precision"] == "float32"
    }
    for row in results["rows"]:
        start = f"| `{row['network']}` | {row['side']} | {row['precision']} "
        if "failed" in row:
            lines.append(f"{start}| {row['failed']} | | | |")
            continue
        plain = exact.get((row["network"], row["side"]))
        moved = "" if plain is None else f"{np.abs(np.array(row['scores']) / np.array(plain) - 1).max():.2g}"
        rate, call = f"{row['images_per_second']:.3g}", f"{row['seconds_a_call']:.3g}"
        lines.append(f"{start}| {rate} | {call} | {row['memory_gib']:.1f} | {moved} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))))
    else:
        main()
