"""Epsilon: is the audited bound ever above what DP-SGD promises, and how tight is it where the truth is known?

    python -m benchmarks.epsilon.run [--seconds 280]

DP-SGD: small models of digits, trained by the studies' recipe with Opacus, and without privacy beside them; each run
draws its own members.  Members and holdout images are paired by a draw, and the t-error at t = 10 guesses.  A promise
is of training sets of which one image is added or removed; the audited bound is of one image replaced by another, which
may differ by up to twice the epsilon: to hold it to the promise itself is the stricter test.
Gaussian mechanism: guesses of a known mu, simulated.
Writes results.json and results.md beside this file, or to --out.  Some 10 minutes on one core; a run that was killed,
or that ended after --seconds, goes on with the training that it was at.
"""

import json
import math
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from benchmarks.judging import PROCESS
from leakgauge.attacks.columns import score_columns
from leakgauge.attacks.registry import score_batch
from leakgauge.cli import parser_of
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.files import file_hash, resumable, write_json
from leakgauge.inference.epsilon import DELTA, drawn_pairs, epsilon_bound, epsilon_of_mu
from leakgauge.options import Attacks, TErrorGrid
from studies.common.population import Shares
from studies.targets.recipe import Privacy, Recipe, Repeats
from studies.targets.trainer import train

HERE = Path(__file__).parent
MEMBERS, CONFIDENCE = 200, 0.95
ATTACKS = Attacks(t_error=TErrorGrid(last=10), pia=[], pian=[], naive_loss=[], sima=[])
TRAININGS: dict[str, tuple[int, dict[str, Any]]] = {  # how many runs, and what is other than in `_recipe`
    "epsilon = 1": (20, {"privacy": Privacy(epsilon=1.0, delta=DELTA, clip=0.1)}),
    "epsilon = 10": (10, {"privacy": Privacy(epsilon=10.0, delta=DELTA, clip=0.1)}),
    "none": (2, {"privacy": None, "width": 16, "steps": 600}),
}
MUS, SIMULATED, PAIRS = (0.5, 1.0, 2.0, 3.0), 1000, 200


def main() -> None:
    """Train and audit; simulate."""
    parser = parser_of(main)
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no training after so many")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    rows = []
    with resumable("epsilon", {"code": file_hash(HERE / "run.py")}, []) as work:
        for promise, (runs, changes) in TRAININGS.items():
            for seed in range(runs):
                kept = work / f"{promise} {seed}.json"
                if not kept.exists():
                    if time.monotonic() > end:
                        raise SystemExit(f"{len(rows)} trainings are done: run it again")
                    write_json(kept, {"promise": promise, "seed": seed, **_audited(_recipe(seed, **changes), seed)})
                rows.append(json.loads(kept.read_text()))
                print(rows[-1], flush=True)
        results = {"runs": rows, "simulated": [_simulated(mu) for mu in MUS]}
        options.out.mkdir(parents=True, exist_ok=True)
        write_json(options.out / "results.json", results)
        (options.out / "results.md").write_text(as_markdown(results), encoding="utf-8")
    print(as_markdown(results))


def _recipe(seed: int, **changes: Any) -> Recipe:
    """A tiny one of studies/params.yaml."""
    shares = Shares(member=MEMBERS, auxiliary=1, of_auxiliary=None)
    options: dict[str, Any] = {"seeds": [seed], "shares": shares, "network": "unet", "width": 4, "process": "ddpm"}
    options |= {"latent": False, "steps": 50, "snapshots": [], "batch_size": 64, "learning_rate": 2e-3}
    options |= {"warmup_steps": 100, "ema_decay": 0.995, "weight_decay": 0.0, "dropout": 0.0, "flip": False, "shift": 0}
    return Recipe(**options | {"repeats": Repeats(share=0.0, times=1)} | changes)


def _audited(recipe: Recipe, seed: int) -> dict[str, Any]:
    """The bound, and the epsilon that the accountant tells."""
    digits = np.round(load_digits().images * 255 / 16).astype(np.uint8)[:, None]  # (N, 1, 8, 8)
    drawn = np.random.default_rng(seed).permutation(len(digits))
    digits = digits[drawn[: 2 * MEMBERS]]  # the members, and as many others
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the accountant's, on its grid of orders
        (trained,) = train(torch.from_numpy(digits[:MEMBERS]), torch.zeros(MEMBERS, dtype=torch.int64), 1, recipe, seed)
    target = Denoiser(trained.network, PROCESS, torch.device("cpu"))
    errors = score_batch(target, target.encode(digits), [f"{row}" for row in drawn[: 2 * MEMBERS]], ATTACKS)
    score = -errors[:, list(score_columns(ATTACKS)).index("t_error_t10")].log().numpy()
    names = [f"{row}" for row in drawn[: 2 * MEMBERS]]
    rows, partners = drawn_pairs(names[:MEMBERS], names[MEMBERS:], seed)
    bound = epsilon_bound(score[:MEMBERS][rows], score[MEMBERS:][partners], CONFIDENCE)
    return {"spent": trained.epsilon, **asdict(bound)}


def _simulated(mu: float) -> dict[str, float]:
    """Of guesses under a Gaussian mechanism: how often a bound lies above mu, and the medians of both epsilons."""
    rng = np.random.default_rng(0)
    bounds = [epsilon_bound(rng.normal(mu / 2, 1, PAIRS), np.zeros(PAIRS), CONFIDENCE) for _ in range(SIMULATED)]
    return {
        "mu": mu,
        "epsilon_of_mu": epsilon_of_mu(mu, DELTA),
        "above": float(np.mean([one.mu > mu for one in bounds])),
        **{
            f"median_{name}": float(np.median([getattr(one, name) for one in bounds]))
            for name in ("mu", "epsilon", "epsilon_of_mu")
        },
    }


def as_markdown(results: dict[str, Any]) -> str:
    """results : results.json."""
    lines = [
        "# Epsilon",
        "",
        "## DP-SGD beside its promise",
        "",
        f"Models of {MEMBERS} digits, {MEMBERS} pairs a run: of 10,000 weights and 50 steps with DP-SGD, of 160,000 "
        f"and 600 steps without. Promised: epsilon at delta = {DELTA:g} as Opacus accounts for it, "
        "where one image is added or removed. Audited, with 95 % confidence: the bound on the "
        f"epsilon of (epsilon, 0)-privacy, and the epsilon at delta = {DELTA:g} of the bound on mu. Guesses right: "
        "of the share of the pairs that bounds, or of the surest eighth where none does.",
        "",
        "| promised | runs | above the promise | audited: median, largest | by mu: median, largest | guesses right |",
        "|---|---|---|---|---|---|",
    ]
    for promise, (runs, _) in TRAININGS.items():
        of = [row for row in results["runs"] if row["promise"] == promise]
        spent = of[0]["spent"]
        above = "" if spent is None else str(sum(max(row["epsilon"], row["epsilon_of_mu"]) > spent for row in of))
        both = [f"{np.median(values):.2f}, {max(values):.2f}" for values in _columns(of, "epsilon", "epsilon_of_mu")]
        right = sum(row["correct"] for row in of) / sum(row["guesses"] for row in of)
        told = "no DP-SGD" if spent is None else f"{spent:.2f}"
        lines.append(f"| {told} | {runs} | {above} | {both[0]} | {both[1]} | {100 * right:.0f} % |")
    lines += [
        "",
        "## A Gaussian mechanism",
        "",
        f"{SIMULATED} simulated runs of {PAIRS} pairs, whose trade-off curve is that of mu.",
        "",
        f"| mu | its epsilon at delta = {DELTA:g} | bounds above mu | median bound on mu | as epsilon | on epsilon, "
        "without the assumption |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['mu']:g} | {one['epsilon_of_mu']:.2f} | {100 * one['above']:.1f} % | {one['median_mu']:.2f} | "
        f"{one['median_epsilon_of_mu']:.2f} | {one['median_epsilon']:.2f} |"
        for one in results["simulated"]
    ]
    return "\n".join(lines) + "\n"


def _columns(rows: list[dict[str, Any]], *names: str) -> list[list[float]]:
    return [[row[name] for row in rows] for name in names]


if __name__ == "__main__":
    main()
