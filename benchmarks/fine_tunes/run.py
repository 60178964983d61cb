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
from diffusers import DDPMScheduler, UNet2DModel
from peft import LoraConfig, inject_adapter_in_model
from sklearn.datasets import load_digits
from tqdm import tqdm

from benchmarks.fine_tunes.table import as_markdown
from leakgauge import QuantileBag, image_features
from leakgauge.attacks.columns import score_columns
from leakgauge.attacks.registry import score_batch
from leakgauge.cli import parser_of
from leakgauge.diffusion.denoiser import Denoiser, reinitialised, to_unit_range
from leakgauge.diffusion.process import NoiseProcess
from leakgauge.diffusion.training import train
from leakgauge.files import file_hash, resumable, write_json
from leakgauge.inference.conformal import judge
from leakgauge.inference.roc import auc, true_positives_at_fpr
from leakgauge.options import Attacks, TErrorGrid, Training
from leakgauge.quantile.inputs import Inputs

HERE = Path(__file__).parent
BASE, MEMBERS = 600, 100  # digits
WARMUP, BATCH = 20, 64  # of fine-tuning
BASE_STEPS = 1500
SCORES = ("t_error_t10", "t_error_t20", "pia_t100", "sima_t20")
LEARNERS, BESIDE = ("linear", "gbm", "mlp"), " beside the base"
MEASURED, CONTROLS = ("member", "holdout"), ("unrelated", "itself")
FPR, CONFIDENCE, ATTACKERS = 0.01, 0.95, 10
DRAWS = 2000  # of the bootstrap
ATTACKS = Attacks(t_error=TErrorGrid(last=50), pian=[], naive_loss=[])
PROCESS = NoiseProcess.from_scheduler(DDPMScheduler())  # as `train` has it


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
LAYERS = ["conv1", "conv2", "conv_shortcut", "time_emb_proj"]  # of the UNet, that a LoRA changes
Judged = dict[str, dict[str, dict[str, list[float]]]]  # score -> judge -> membership scores by role, and p-values


def main() -> None:
    """Train, fine-tune, score, judge."""
    parser = parser_of(main)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    with resumable("fine_tunes", {"code": file_hash(HERE / "run.py")}, []) as work:
        found = [_of_seed(seed, work / str(seed)) for seed in options.seeds]
    names = [_name(way, steps) for way in WAYS for steps in way.steps]
    results = {"seeds": options.seeds, "fpr": FPR}
    results |= {"fine_tunes": {name: _figures(found, name) for name in names}}
    results |= {"controls": {name: _figures(found, name) for name in CONTROLS}}
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "results.json", results)
    (options.out / "results.md").write_text(as_markdown(results), encoding="utf-8")
    print(as_markdown(results))


def _name(way: Way, steps: int) -> str:
    return f"{way.name}, {steps} steps"


def _of_seed(seed: int, work: Path) -> dict[str, Judged]:
    """A fine-tune, or a control -> what the judges say; kept in `work`."""
    kept = work / "found.json"
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
    under_base, under_unrelated = (_log_scores(network, digits) for network in (base, unrelated))
    features, found = image_features(digits), dict[str, Judged]()
    for way in WAYS:
        for steps, network in _fine_tuned(base, way, digits[members], seed):
            if steps in way.steps:
                scores = _log_scores(network, digits)
                found[_name(way, steps)] = _judged(scores, under_base, features, rows, seed)
        if way.rank is None:
            found["unrelated"] = _judged(scores, under_unrelated, features, rows, seed)
            found["itself"] = _judged(scores, scores, features, rows, seed)
    write_json(kept, found)
    return found


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


def _log_scores(network: UNet2DModel, pixels: np.ndarray) -> np.ndarray:
    """(N, columns) float64."""
    target = Denoiser(copy.deepcopy(network), PROCESS, torch.device("cpu"))
    parts = []
    for start in tqdm(range(0, len(pixels), BATCH), desc="score", disable=None):
        part = pixels[start : start + BATCH]
        ids = [f"digit-{start + number}" for number in range(len(part))]
        parts.append(score_batch(target, target.encode(part), ids, ATTACKS).numpy())
    return np.log(np.concatenate(parts))


def _judged(
    scores: np.ndarray, under_base: np.ndarray, features: np.ndarray, rows: dict[str, np.ndarray], seed: int
) -> Judged:
    """What each judge says of the images.  scores, under_base : (N, columns) log scores.  features : (N, F)."""
    columns = [list(score_columns(ATTACKS)).index(name) for name in SCORES]
    observed, no_pixels = scores[:, columns], np.empty((len(features), 0, 0, 0), dtype=np.uint8)
    alone = Inputs(no_pixels, features)
    beside = Inputs(no_pixels, features, under_base.astype(np.float32), under_base[:, columns])
    judges = {"one threshold": ("marginal", alone, observed)}
    judges["ratio"] = ("marginal", alone, observed - under_base[:, columns])
    judges |= {name: (name, alone, observed) for name in LEARNERS}
    judges |= {f"{name}{BESIDE}": (name, beside, observed) for name in LEARNERS}
    found: Judged = {score: {} for score in SCORES}
    for name, (learner, inputs, values) in judges.items():
        bag = QuantileBag(learner, ATTACKERS, seed).fit(inputs[rows["auxiliary"]], values[rows["auxiliary"]])
        z = {role: bag.z_scores(inputs[rows[role]], values[rows[role]]) for role in MEASURED}  # (n, B, S)
        for number, score in enumerate(SCORES):
            of_score = {role: of[..., number] for role, of in z.items()}
            result = judge(of_score, bag.auxiliary_z[..., number], bag.out_of_bag, np.ones(len(bag.out_of_bag), bool))
            found[score][name] = {role: result.membership_score[role].tolist() for role in MEASURED}
            found[score][name]["p_value"] = result.p_value["holdout"].tolist()
    return found


def _figures(found: list[dict[str, Judged]], name: str) -> dict[str, Any]:
    """Score -> judge -> figures, means over seeds, of a fine-tune, or of a control."""
    figures: dict[str, Any] = {}
    for score in SCORES:
        of_seeds = [of[name][score] for of in found]
        judges = {one: _means([of[one] for of in of_seeds]) for one in of_seeds[0]}
        without = max((one for one in judges if BESIDE not in one), key=lambda one: judges[one]["tpr"])
        for one in judges:
            if BESIDE in one:
                judges[one] |= {"compared_with": without, **_gain(of_seeds, one, without)}
        figures[score] = judges
    return figures


def _means(of_seeds: list[dict[str, list[float]]]) -> dict[str, Any]:
    """TPR at `FPR`, AUC and the share of the holdout with a p-value of at most `FPR`."""
    whole = [{role: np.array(one[role]) for role in MEASURED} for one in of_seeds]
    return {
        "tpr": float(np.mean([_tpr(**one) for one in whole])),
        "auc": float(np.mean([auc(one["member"], one["holdout"], CONFIDENCE)[0] for one in whole])),
        "realised": float(np.mean([np.mean(np.array(one["p_value"]) <= FPR + 1e-9) for one in of_seeds])),
    }


def _gain(of_seeds: list[dict[str, Any]], one: str, other: str) -> dict[str, Any]:
    """By how much the TPR at `FPR` of a judge is higher, mean over seeds, with a paired bootstrap interval.

    Images are drawn anew within each seed, the same for both judges; seeds are as they are.
    """
    rng, draws, gain = np.random.default_rng(0), np.zeros(DRAWS), 0.0
    for of in of_seeds:
        a, b = ({role: np.array(of[name][role]) for role in MEASURED} for name in (one, other))
        gain += (_tpr(**a) - _tpr(**b)) / len(of_seeds)
        for draw in range(DRAWS):
            rows = {role: rng.integers(len(a[role]), size=len(a[role])) for role in MEASURED}
            again = (_tpr(**{role: values[role][rows[role]] for role in MEASURED}) for values in (a, b))
            draws[draw] += (next(again) - next(again)) / len(of_seeds)
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"gain": gain, "gain_ci_low": float(low), "gain_ci_high": float(high)}


def _tpr(member: np.ndarray, holdout: np.ndarray) -> float:
    return (true_positives_at_fpr(member, holdout, FPR) or 0) / len(member)


if __name__ == "__main__":
    main()
