"""How long figures, `evaluate` and a `dvc repro` that has nothing to do take, and what the plain way takes.

    python -m benchmarks.speed.evaluation [--images 1000000] [--without-repro]

Figures, of half as many members as images and as many holdout images: AUC with its interval, ASR, TPR at two
FPRs and the thinned curve, all exact.  The plain ways: the loop over 1,000 evenly spaced thresholds that published
attacks' code has, with neither exact figures nor an interval; scikit-learn's curve and area, without an interval; and
scikit-learn's area over bootstrap resamples, an interval by force.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML
from sklearn.metrics import roc_auc_score, roc_curve

from benchmarks.memory.peak import peak_of
from benchmarks.synthetic import REPOSITORY, TARGET, Bag, write_audit
from leakgauge.cli import parser_of
from leakgauge.inference.conformal import AttackResult
from leakgauge.inference.metrics import roc_points
from leakgauge.inference.roc import asr, auc, true_positives_at_fpr

ALPHAS, CONFIDENCE = (0.01, 0.001), 0.95
THRESHOLDS, RESAMPLES = 1000, 10
BAGS = {"marginal": Bag("quantiles", size=10), "gbm": Bag("location_scale", size=10)}
TINY = {  # sections of params.yaml: every stage runs, none for long
    "target": {"block_out_channels": [8, 16], "steps": 12, "batch_size": 16},
    "fit": {"bag_size": 3, "scores": ["t_error_t10"]},
    "evaluate": {"stack": []},
}


def measure(images: int = 1_000_000, repro: bool = True) -> dict[str, float | int]:
    """Seconds by name, `_ratio`s to ours, and the peak memory of `evaluate`.  repro : whether to time `dvc repro`."""
    return _figures(images) | _evaluate(images) | (_repro() if repro else {})


def _figures(images: int) -> dict[str, float | int]:
    rng = np.random.default_rng(0)
    member, holdout = rng.normal(1, 1, images // 2), rng.normal(0, 1, images // 2)
    labels, membership_scores = np.repeat([1, 0], images // 2), np.r_[member, holdout]
    ours = _seconds(lambda: _ours(member, holdout))
    plain = {
        "figures_grid": _seconds(lambda: _grid(member, holdout)),
        "figures_sklearn": _seconds(
            lambda: (roc_curve(labels, membership_scores), roc_auc_score(labels, membership_scores))
        ),
        f"figures_bootstrap_{RESAMPLES}": _seconds(lambda: _bootstrap(labels, membership_scores, rng)),
    }
    ratios = {f"{name}_ratio": seconds / ours for name, seconds in plain.items()}
    return {"images": images, "figures_seconds": ours, **{f"{k}_seconds": v for k, v in plain.items()}, **ratios}


def _ours(member: np.ndarray, holdout: np.ndarray) -> None:
    roc_points(AttackResult({}, {"member": member, "holdout": holdout}, {}, {}, np.empty(0), ""))
    auc(member, holdout, CONFIDENCE)
    asr(member, holdout)
    for alpha in ALPHAS:
        true_positives_at_fpr(member, holdout, alpha)


def _grid(member: np.ndarray, holdout: np.ndarray) -> tuple[float, float, list[float]]:
    """ASR, area by trapezoids and TPR at each alpha, from evenly spaced thresholds."""
    low, high = min(member.min(), holdout.min()), max(member.max(), holdout.max())
    rates = [((member >= t).mean(), (holdout >= t).mean()) for t in np.linspace(high, low, THRESHOLDS)]
    tpr, fpr = np.array(rates).T
    return ((tpr + 1 - fpr) / 2).max(), np.trapezoid(tpr, fpr), [tpr[fpr <= alpha].max() for alpha in ALPHAS]


def _bootstrap(labels: np.ndarray, membership_scores: np.ndarray, rng: np.random.Generator) -> None:
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(labels), len(labels))
        roc_auc_score(labels[rows], membership_scores[rows])


def _evaluate(images: int) -> dict[str, float | int]:
    """The stage as a program, on two learners' bags of ten."""
    with tempfile.TemporaryDirectory() as work:
        write_audit(Path(work), images, BAGS)
        peak = peak_of(["stages.evaluate", TARGET], Path(work))
    return {"evaluate_seconds": peak.seconds, "evaluate_peak_mib": peak.largest}


def _repro() -> dict[str, float | int]:
    """`dvc repro` in a clone of what is committed, with a tiny audit; and again, with nothing to do."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
        params = YAML(typ="safe").load((folder / "params.yaml").read_text(encoding="utf-8"))
        params |= {name: params[name] | options for name, options in TINY.items()}
        params["learners"] = {name: params["learners"][name] for name in BAGS}
        with (folder / "params.yaml").open("w", encoding="utf-8") as stream:
            YAML().dump(params, stream)
        full, idle = (_seconds(lambda: _dvc_repro(folder)) for _ in range(2))
    return {"repro_full_seconds": full, "repro_idle_seconds": idle, "repro_full_ratio": full / idle}


def _dvc_repro(folder: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder)}
    done = subprocess.run(["dvc", "repro"], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"dvc repro failed: {done.stderr}")


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print what `measure` finds."""
    parser = parser_of(main)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--without-repro", action="store_true", help="leave `dvc repro` out, which takes minutes")
    options = parser.parse_args()
    print(json.dumps(measure(options.images, not options.without_repro), indent=1))


if __name__ == "__main__":
    main()
