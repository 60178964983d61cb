"""Fine-tunes: what do scores under the base add, from light to heavy fine-tuning?

    pip install -e '.[lora]'
    python -m benchmarks.fine_tunes.run [--seeds 0 1 2]

A DDPM is trained on 600 of scikit-learn's digits: the base.  Copies of it are fine-tuned on 100 other digits: all
weights, or a LoRA of rank 4 or 64 (PEFT), for so many steps.  The other 1,097 are certain non-members of both: half fit
and calibrate, half measure.  Every judge then ranks the same images:

- one threshold for all images, on the score and on its ratio to that under the base;
- learners that see image features alone;
- the same beside the scores under the base.

Two controls, of the heaviest fine-tune of all weights: a base that is the target itself, and one that learnt nothing.
Writes results.json and results.md beside this file, or to --out.  Some 20 minutes a seed on one core; a run that was
killed goes on with the seed that it was at.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from peft import LoraConfig, inject_adapter_in_model
from sklearn.datasets import load_digits
from tqdm import tqdm

from benchmarks.fine_tunes.table import as_markdown
from benchmarks.judging import (
    COLUMNS,
    FPR,
    LEARNERS,
    PROCESS,
    Judge,
    Judged,
    gain,
    judged,
    log_scores,
    means,
)
from leakgauge import image_features
from leakgauge.cli import parser_of
from leakgauge.diffusion.denoiser import reinitialised, to_unit_range
from leakgauge.diffusion.training import train
from leakgauge.files import file_hash, resumable, write_json
from leakgauge.options import Training
from leakgauge.quantile.inputs import Inputs

HERE = Path(__file__).parent
BASE, MEMBERS = 600, 100  # digits
WARMUP, BATCH = 20, 64  # of fine-tuning
BASE_STEPS = 1500
BESIDE, CONTROLS = " beside the base", ("unrelated", "itself")


class Way(NamedTuple):
    """How the base is fine-tuned, and the steps after which it is audited."""

    name: str
    rank: int | None  # of the LoRA; None: all weights
    learning_rate: float
    steps: tuple[int, ...]


WAYS = (
    Way("all weights", None, 3e-4, (75, 150, 300, 600)),
    Way("LoRA of rank 4", 4, 1e-3, (150, 300, 600, 1200)),
    Way("LoRA of rank 64", 64, 1e-3, (75, 150, 300, 600)),
)
Figures = dict[str, dict[str, dict[str, dict[str, Any]]]]  # fine-tune or control -> score -> judge -> figures
LAYERS = ["conv1", "conv2", "conv_shortcut", "time_emb_proj"]  # of the UNet, that a LoRA changes


def main() -> None:
    """Train, fine-tune, score, judge."""
    parser = parser_of(main)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    with resumable("fine_tunes", {"code": file_hash(HERE / "run.py")}, []) as work:
        figures = combined([_of_seed(seed, work / str(seed)) for seed in options.seeds])
    names = [_name(way, steps) for way in WAYS for steps in way.steps]
    results = {"seeds": options.seeds, "fpr": FPR}
    results |= {"fine_tunes": {name: figures[name] for name in names}}
    results |= {"controls": {name: figures[name] for name in CONTROLS}}
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "results.json", results)
    (options.out / "results.md").write_text(as_markdown(results), encoding="utf-8")
    print(as_markdown(results))


def _name(way: Way, steps: int) -> str:
    return f"{way.name}, {steps} steps"


def _of_seed(seed: int, work: Path) -> Figures:
    """The figures of a seed, kept in `work`."""
    kept = work / "figures.json"
    if kept.exists():
        return json.loads(kept.read_text())
    work.mkdir(exist_ok=True)
    digits = np.round(load_digits().images * 255 / 16).astype(np.uint8)[:, None]  # (N, 1, 8, 8)
    order = np.random.default_rng(seed).permutation(len(digits))
    members, others = order[BASE : BASE + MEMBERS], order[BASE + MEMBERS :]
    rows = {"member": members, "auxiliary": others[::2], "holdout": others[1::2]}
    recipe = Training(seed=seed, steps=BASE_STEPS)
    base = train(torch.from_numpy(digits[order[:BASE]]), recipe, work)[0].unet
    unrelated = reinitialised(base, seed)
    under_base, under_unrelated = (log_scores(network, digits) for network in (base, unrelated))
    features, found = image_features(digits), dict[str, Judged]()
    for way in WAYS:
        for steps, network in _fine_tuned(base, way, digits[members], seed):
            if steps in way.steps:
                scores = log_scores(network, digits)
                found[_name(way, steps)] = judged_beside(scores, under_base, features, rows, seed)
        if way.rank is None:
            found["unrelated"] = judged_beside(scores, under_unrelated, features, rows, seed)
            found["itself"] = judged_beside(scores, scores, features, rows, seed)
    figures = _figures(found)
    write_json(kept, figures)
    return figures


def _fine_tuned(base: UNet2DModel, way: Way, pixels: np.ndarray, seed: int) -> Iterator[tuple[int, UNet2DModel]]:
    """The step, and the network as it is then, step after step."""
    network, generator = copy.deepcopy(base).train().requires_grad_(way.rank is None), torch.Generator()
    generator.manual_seed(seed)
    if way.rank is not None:
        torch.manual_seed(seed)  # of the LoRA's weights
        inject_adapter_in_model(LoraConfig(r=way.rank, lora_alpha=way.rank, target_modules=LAYERS), network)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=way.learning_rate, weight_decay=0.0)
    x0, process = to_unit_range(torch.from_numpy(pixels)), PROCESS
    for step in tqdm(range(1, max(way.steps) + 1), desc=way.name, unit="step", disable=None):
        batch = torch.randperm(len(x0), generator=generator)[:BATCH]
        noise = torch.randn((len(batch), *x0.shape[1:]), generator=generator)
        t = torch.randint(process.num_train_timesteps, (len(batch),), generator=generator)
        alpha, sigma = (of[t].float()[:, None, None, None] for of in (process.alpha, process.sigma))
        for group in optimizer.param_groups:
            group["lr"] = way.learning_rate * min(1.0, step / WARMUP)
        F.mse_loss(network(alpha * x0[batch] + sigma * noise, t).sample, noise).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield step, network


def judged_beside(
    scores: np.ndarray, under_base: np.ndarray, features: np.ndarray, rows: dict[str, np.ndarray], seed: int
) -> Judged:
    """What each judge says of the images.  scores, under_base : (N, columns) log scores.  features : (N, F)."""
    observed, own, auxiliary = scores[:, COLUMNS], under_base[:, COLUMNS], rows["auxiliary"]
    no_pixels = np.empty((len(features), 0, 0, 0), dtype=np.uint8)
    alone, beside = Inputs(no_pixels, features), Inputs(no_pixels, features, under_base.astype(np.float32), own)
    judges = {"one threshold": Judge("marginal", alone, observed, auxiliary)}
    judges["ratio"] = Judge("marginal", alone, observed - own, auxiliary)
    judges |= {name: Judge(name, alone, observed, auxiliary) for name in LEARNERS}
    judges |= {f"{name}{BESIDE}": Judge(name, beside, observed, auxiliary) for name in LEARNERS}
    return judged(judges, rows, seed)


def _figures(found: dict[str, Judged]) -> Figures:
    """What the judges of one seed come to.  found : a fine-tune, or a control -> what they say."""
    figures: Figures = {}
    for name, of_scores in found.items():
        for score, said in of_scores.items():
            judges = {one: means([said[one]]) for one in said}
            without = max((one for one in judges if BESIDE not in one), key=lambda one: judges[one]["tpr"])
            for one in judges:
                if BESIDE in one:
                    judges[one] |= {"compared_with": [without], **gain([said], one, without)}
            figures.setdefault(name, {})[score] = judges
    return figures


def combined(seeds: list[Figures]) -> Figures:
    """Means over seeds; the errors of their gains are independent."""
    return {
        name: {
            score: {one: _mean([of[name][score][one] for of in seeds]) for one in judges}
            for score, judges in of_scores.items()
        }
        for name, of_scores in seeds[0].items()
    }


def _mean(of_seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of a judge's figures."""
    figures = {key: float(np.mean([of[key] for of in of_seeds])) for key in ("tpr", "auc", "realised")}
    if "gain" not in of_seeds[0]:
        return figures
    middle = float(np.mean([of["gain"] for of in of_seeds]))
    below, above = (
        float(np.sqrt(np.sum([(of[f"gain_ci_{end}"] - of["gain"]) ** 2 for of in of_seeds]))) / len(of_seeds)
        for end in ("low", "high")
    )
    picked = sorted({judge for of in of_seeds for judge in of["compared_with"]})
    interval = {"gain": middle, "gain_ci_low": middle - below, "gain_ci_high": middle + above}
    return figures | interval | {"compared_with": picked}


if __name__ == "__main__":
    main()
