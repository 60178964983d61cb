"""Sealed canaries: are p-values uniform where nothing was used, and how small where the published variants were?

    python -m benchmarks.canaries.run

Three owners have 40 digits of one class each, enlarged to 32x32, and publish one variant of each. These are among the
200 images of 8x8 that the default audit's target is trained on (800 steps). Scores and variants were chosen on seed 0,
and on pilots of seeds 0 and 1. The figures are those of seeds 2, 3 and 4. The files of one owner were taken as
published, those of one as JPEG of quality 75, and those of one resized to 24x24 on their way to 8x8. Of each owner's
scores the draw is made anew 200 times: the null hypothesis.

Writes results.json and results.md beside this file, or to --out.  Some 2 minutes a seed on one core; a run that was
killed goes on from the last checkpoint.
"""

import hashlib
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from PIL import Image
from scipy import stats
from sklearn.datasets import load_digits
from tqdm import tqdm

from leakgauge.attacks.registry import score_batch
from leakgauge.canaries.coins import contrasts, epsilon, p_value
from leakgauge.canaries.record import derived, drawn
from leakgauge.canaries.scores import ATTACKS
from leakgauge.canaries.variants import features, variants
from leakgauge.cli import parser_of
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.diffusion.process import NoiseProcess
from leakgauge.diffusion.training import train
from leakgauge.files import file_hash, npy, resumable, write_bytes, write_json
from leakgauge.options import Training

HERE = Path(__file__).parent
OWNED, MEMBERS, STEPS = 40, 200, 800
PUBLISHED, SMALLER, TRAINED = 32, 24, 8  # pixels a side
CHOSEN_ON, SHOWN = (0,), (2, 3, 4)  # seeds
REDRAWN, CONFIDENCE, BATCH = 200, 0.95, 64


@dataclass(frozen=True)
class Setting:
    """How variants are made."""

    count: int = 8
    tone: float = 8.0
    shift: float = 0.04


TRIED = (Setting(), Setting(count=4), Setting(shift=0.0))
HANDLED = ("as published", "JPEG 75", "resized")


@dataclass(frozen=True)
class Owner:
    """Whose images are of one class, and whose published files are handled like this before training."""

    digit: int
    setting: Setting
    handled: str


def main() -> None:
    """Train, score, test."""
    parser = parser_of(main)
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    with resumable("canaries", {"code": file_hash(HERE / "run.py")}, []) as work:
        found = [row for seed in (*CHOSEN_ON, *SHOWN) for row in _of_seed(seed, work / str(seed))]
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "results.json", found)
    (options.out / "results.md").write_text(as_markdown(found), encoding="utf-8")
    print(as_markdown(found))


def _owners(seed: int) -> list[Owner]:
    """Three classes; on seeds of the figures, their published files are handled in three ways."""
    digits = [(3 * seed + number) % 10 for number in range(3)]
    if seed in CHOSEN_ON:
        return [Owner(digit, setting, HANDLED[0]) for digit, setting in zip(digits, TRIED, strict=True)]
    return [Owner(digit, Setting(), HANDLED[(seed + number) % 3]) for number, digit in enumerate(digits)]


def _of_seed(seed: int, work: Path) -> list[dict[str, Any]]:
    """One target: what the test says for each owner, and of draws that the target has not seen."""
    images, label = load_digits(return_X_y=True)
    images = np.round(images.reshape(-1, TRAINED, TRAINED) * 255 / 16).astype(np.uint8)
    rng, owners = np.random.default_rng(seed), _owners(seed)
    rows = [rng.permutation(np.flatnonzero(label == owner.digit))[:OWNED] for owner in owners]
    rest = np.setdiff1d(np.arange(len(images)), np.concatenate(rows))
    others = images[rng.permutation(rest)[: MEMBERS - len(owners) * OWNED]]
    made = [_made(owner, images[of], seed) for owner, of in zip(owners, rows, strict=True)]
    drawn_of = [_drawn(owner, seed) for owner in owners]
    members = [
        _taken(image[which, ..., 0], owner.handled)
        for owner, large, published in zip(owners, made, drawn_of, strict=True)
        for image, which in zip(large, published, strict=True)
    ]
    asked = [np.stack([[_resized(one[..., 0], TRAINED) for one in image] for image in large]) for large in made]
    scores = _scores(np.concatenate([members, others])[:, None], asked, seed, work)
    return [
        {"seed": seed, "digit": owner.digit, **asdict(owner.setting), "handled": owner.handled, **_answer(*of, rng)}
        for owner, *of in zip(owners, scores, asked, drawn_of, strict=True)
    ]


def _made(owner: Owner, images: np.ndarray, seed: int) -> np.ndarray:
    """The variants of each image, (N, K, 32, 32, 1) uint8."""
    how = owner.setting
    return np.stack(
        [
            variants(
                _resized(image, PUBLISHED, Image.Resampling.BICUBIC)[..., None],
                derived(_secret(owner, seed), "variants", str(number)),
                how.count,
                how.tone,
                how.shift,
            )
            for number, image in enumerate(images)
        ]
    )


def _drawn(owner: Owner, seed: int) -> np.ndarray:
    """Which variant of each image is published."""
    return np.array([drawn(_secret(owner, seed), str(number), owner.setting.count) for number in range(OWNED)])


def _secret(owner: Owner, seed: int) -> str:
    return hashlib.sha256(f"benchmark {seed} {owner.digit}".encode()).hexdigest()


def _answer(scores: np.ndarray, asked: np.ndarray, published: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """scores : (N, K, S).  asked : (N, K, 8, 8).  published : (N,)."""
    contrast = contrasts(np.log(scores), np.stack([features(image[..., None]) for image in asked]))
    bound = epsilon(contrast, published, CONFIDENCE)
    null = [p_value(contrast, one) for one in rng.integers(contrast.shape[1], size=(REDRAWN, OWNED))]
    return {
        "p_value": p_value(contrast, published),
        "right": int((contrast.argmin(axis=1) == published).sum()),
        "epsilon": bound.epsilon,
        "most": bound.most,
        "null_ks": float(stats.kstest(null, "uniform").pvalue),
        "null_below_5": float(np.mean(np.array(null) <= 0.05)),
    }


def _scores(members: np.ndarray, asked: list[np.ndarray], seed: int, work: Path) -> list[np.ndarray]:
    """Of all variants under a target that was trained on the members, (N, K, S) for each owner; kept in `work`."""
    kept = [work / f"{number}.npy" for number in range(len(asked))]
    if not kept[-1].exists():
        work.mkdir(parents=True, exist_ok=True)
        unet = train(torch.from_numpy(members), Training(seed=seed, steps=STEPS), work)[0].unet
        target = Denoiser(unet, NoiseProcess.from_scheduler(DDPMScheduler()), torch.device("cpu"))
        for path, images in zip(kept, asked, strict=True):
            write_bytes(path, npy(_scored(target, images)))
    return [np.load(path, allow_pickle=False) for path in kept]


def _scored(target: Denoiser, images: np.ndarray) -> np.ndarray:
    """(N, K, S).  images : (N, K, 8, 8)."""
    flat = images.reshape(-1, 1, TRAINED, TRAINED)
    ids = np.repeat(np.arange(len(images)), images.shape[1]).astype(str).tolist()
    parts = []
    for start in tqdm(range(0, len(flat), BATCH), desc="score", disable=None):
        part = slice(start, start + BATCH)
        parts.append(score_batch(target, target.encode(flat[part]), ids[part], ATTACKS).numpy())
    return np.concatenate(parts).reshape(*images.shape[:2], -1)


def _taken(image: np.ndarray, handled: str) -> np.ndarray:
    """What training makes of a published image, (8, 8)."""
    if handled == "JPEG 75":
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=75)
        image = np.asarray(Image.open(stream))
    if handled == "resized":
        image = _resized(image, SMALLER, Image.Resampling.BILINEAR)
    return _resized(image, TRAINED)


def _resized(image: np.ndarray, side: int, resample: Image.Resampling = Image.Resampling.LANCZOS) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), resample))


def as_markdown(found: list[dict[str, Any]]) -> str:
    """The figures as a page."""
    tried = [run for run in found if run["seed"] in CHOSEN_ON]
    shown = [run for run in found if run["seed"] in SHOWN]
    page = ["# Canaries", "", (__doc__ or "").split("\n\n")[2].replace("\n", " "), "", *_table(shown), ""]
    page += [
        f"`p`: of the test. `right`: of how many of {OWNED} images the published variant is guessed. `epsilon`: the "
        f"lower bound at {CONFIDENCE:.0%}, and the most that so many images can show. `KS`: the p-value of a "
        f"Kolmogorov-Smirnov test that the p-values of {REDRAWN} draws made anew are uniform. `<= 5 %`: the share of "
        "them that is at most 0.05.",
        "",
        "## The choice",
        "",
        *_table(tried),
        "",
    ]
    return "\n".join(page)


def _table(runs: list[dict[str, Any]]) -> list[str]:
    head = ["seed", "digit", "variants", "tone", "shift", "files", "p", "right", "epsilon", "KS", "<= 5 %"]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for run in runs:
        cells = [run["seed"], run["digit"], run["count"], f"{run['tone']:g}", f"{run['shift']:g}", run["handled"]]
        cells += [f"{run['p_value']:.1e}", run["right"], f"{run['epsilon']:.2f} of {run['most']:.2f}"]
        cells += [f"{run['null_ks']:.2f}", f"{100 * run['null_below_5']:.1f} %"]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return rows


if __name__ == "__main__":
    main()
