"""References: without a base, what does a model of the target's recipe add that other non-members trained?

    python -m benchmarks.references.run [--seeds 1 2 3 4]

The default audit's target, of 200 digits and 800 steps, drawn and trained by each seed.  400 other digits are set
apart: a reference is trained on all of them, and three on 300 of them each.  597 of the others fit and calibrate, 600
measure.
Every judge ranks the same images: learners that see image features; the same, fitted on the 400 too, for without a
reference they could be; and beside the scores of one reference or of three, whose mean log score is the ratio's.
Writes results.json and results.md beside this file, or to --out.  Some 10 minutes a seed on one core; a run that was
killed goes on with the seed that it was at.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from benchmarks.judging import COLUMNS, FPR, LEARNERS, SCORES, Judge, Judged, area, gain, judged, log_scores, means
from leakgauge import image_features
from leakgauge.cli import parser_of
from leakgauge.diffusion.training import train
from leakgauge.files import file_hash, resumable, write_json
from leakgauge.options import Training
from leakgauge.quantile.inputs import Inputs

HERE = Path(__file__).parent
MEMBERS, SET_APART, AUXILIARY, STEPS = 200, 400, 597, 800
SEVERAL, OF_SEVERAL = 3, 300  # references, and what each of them is trained on
MORE, ONE, THREE = " on all images", " beside a reference", f" beside {SEVERAL} references"


def main() -> None:
    """Train, score, judge."""
    parser = parser_of(main)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    with resumable("references", {"code": file_hash(HERE / "run.py")}, []) as work:
        found = [_of_seed(seed, work / str(seed)) for seed in options.seeds]
    results = {"seeds": options.seeds, "fpr": FPR, "scores": {score: _figures(found, score) for score in SCORES}}
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "results.json", results)
    (options.out / "results.md").write_text(as_markdown(results), encoding="utf-8")
    print(as_markdown(results))


def _of_seed(seed: int, work: Path) -> Judged:
    """What the judges say of a seed's target; kept in `work`."""
    kept = work / "found.json"
    if kept.exists():
        return json.loads(kept.read_text())
    digits = np.round(load_digits().images * 255 / 16).astype(np.uint8)[:, None]  # (N, 1, 8, 8)
    rng = np.random.default_rng(seed)
    drawn = np.split(rng.permutation(len(digits)), np.cumsum([MEMBERS, SET_APART, AUXILIARY]))
    roles = dict(zip(("member", "apart", "auxiliary", "holdout"), drawn, strict=True))
    trained_on = {"target": roles["member"], "reference": roles["apart"]}
    trained_on |= {f"{number} of several": rng.permutation(roles["apart"])[:OF_SEVERAL] for number in range(SEVERAL)}
    scores = {}  # model -> (N, columns) log scores
    for number, (name, rows) in enumerate(trained_on.items()):
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        recipe = Training(seed=seed + 1000 * number, steps=STEPS)
        scores[name] = log_scores(train(torch.from_numpy(digits[rows]), recipe, folder)[0].unet, digits)
    found = judged(_judges(scores, image_features(digits), roles), roles, seed)
    write_json(kept, found)
    return found


def _judges(scores: dict[str, np.ndarray], features: np.ndarray, roles: dict[str, np.ndarray]) -> dict[str, Judge]:
    """scores : model -> (N, columns) log scores.  features : (N, F).  roles : role -> rows."""
    auxiliary, everything = roles["auxiliary"], np.concatenate([roles["auxiliary"], roles["apart"]])
    observed, no_pixels = scores["target"][:, COLUMNS], np.empty((len(features), 0, 0, 0), dtype=np.uint8)
    one, several = [scores["reference"]], [of for name, of in scores.items() if name.endswith("several")]
    alone = Inputs(no_pixels, features)
    beside = {
        what: Inputs(
            no_pixels, features, np.hstack(of).astype(np.float32), np.mean([each[:, COLUMNS] for each in of], axis=0)
        )
        for what, of in ((ONE, one), (THREE, several))
    }
    judges = {"one threshold": Judge("marginal", alone, observed, auxiliary)}
    judges |= {
        f"ratio{what}": Judge("marginal", alone, observed - of.own_base, auxiliary) for what, of in beside.items()
    }
    for name in LEARNERS:
        judges[name] = Judge(name, alone, observed, auxiliary)
        judges[f"{name}{MORE}"] = Judge(name, alone, observed, everything)
        judges |= {f"{name}{what}": Judge(name, of, observed, auxiliary) for what, of in beside.items()}
    return judges


def _figures(found: list[Judged], score: str) -> dict[str, Any]:
    """Judge -> means over seeds, and gains: of one reference over the same learner on all images, of three over one."""
    of_seeds = [of[score] for of in found]
    figures = {one: means([of[one] for of in of_seeds]) for one in of_seeds[0]}
    pairs = [(f"{name}{one}", f"{name}{other}") for name in LEARNERS for one, other in ((ONE, MORE), (THREE, ONE))]
    for one, other in pairs:
        figures[one] |= {"over": other, "tpr_gain": gain(of_seeds, one, other)}
        figures[one] |= {"auc_gain": gain(of_seeds, one, other, area)}
    return figures


def as_markdown(results: dict[str, Any]) -> str:
    """results : results.json."""
    fpr = f"{100 * results['fpr']:g} %"
    parts = [
        "# References",
        f"TPR at {fpr} FPR, in percent, of the default audit's target; means of {len(results['seeds'])} seeds. "
        "Gains have a paired bootstrap interval over images: of one reference over the same learner "
        f"fitted on all images, those that trained the reference too; of {SEVERAL} references over one. "
        "In brackets: AUC.",
    ]
    for score, figures in results["scores"].items():
        lines = ["| judge | TPR (AUC) | gain in TPR, points | gain in AUC |", "|---|---|---|---|"]
        for name, of in figures.items():
            gained = f"{_said(of['tpr_gain'], 100, 1)} | {_said(of['auc_gain'], 1, 3)}" if "over" in of else " | "
            lines.append(f"| {name} | {100 * of['tpr']:.1f} ({of['auc']:.3f}) | {gained} |")
        parts += [f"## `{score}`", "\n".join(lines)]
    realised = [of["realised"] for figures in results["scores"].values() for of in figures.values()]
    parts.append(
        f"Realised false-positive rate at {fpr}: mean {100 * np.mean(realised):.2f} %, from {100 * min(realised):.2f} "
        f"to {100 * max(realised):.2f} %."
    )
    return "\n\n".join(parts) + "\n"


def _said(gained: dict[str, float], times: int, digits: int) -> str:
    values = (f"{times * gained[key]:+.{digits}f}" for key in ("gain", "gain_ci_low", "gain_ci_high"))
    return "{} ({} to {})".format(*values)


if __name__ == "__main__":
    main()
