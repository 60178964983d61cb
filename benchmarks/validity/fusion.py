"""Rules that make several scores one: what each loses to its best column, and whether error rates hold.

Power.  Small DDPMs of four kinds, on digits of another split and seed than the default audit's; 33 score columns; bags
of ten `mlp` and ten `gbm`.  Rules are compared by TPR at 1 % FPR on 200 random sets of six columns, the default's seven
t-errors, and all columns.  A set's gain is the fused TPR less that of its best column.  That column is picked by that
TPR, which flatters it; a second table picks it on one half of members and holdout and compares on the other half.  The
rule was chosen on the first seed and is confirmed on the second, with other roles, targets, bags and sets.

Error rates.  z ~ N(0, R) of non-members, R = 0.4 off the diagonal, one attacker: all that departs from the level asked
for comes from learning a fusion on the images that calibrate.

`python -m benchmarks.validity.fusion FOLDER` makes both tables: about 40 minutes on one core, a minute where FOLDER has
the pilots' z.  `python -m benchmarks.validity.run` has the error rates as its part `fusion`.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from ruamel.yaml import YAML
from scipy.optimize import nnls
from scipy.special import log_ndtr, ndtr
from sklearn.covariance import ledoit_wolf

from leakgauge.attacks.columns import score_columns
from leakgauge.attacks.registry import score_batch
from leakgauge.bags import BagRunner, Named, Scored
from leakgauge.datasets.digits import DigitsEntry, read
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.diffusion.training import train
from leakgauge.features import named_features
from leakgauge.inference.conformal import bag_vote, conformal_p_values
from leakgauge.inference.fusion import fuse
from leakgauge.options import Attacks, Training
from leakgauge.quantile.bag import Learner
from leakgauge.quantile.inputs import Inputs

HERE = Path(__file__).parent
PARAMS = YAML(typ="safe").load((HERE.parent.parent / "params.yaml").read_text(encoding="utf-8"))
SEEDS = (101, 202)  # chosen on; confirmed on
PILOTS = {  # members, auxiliary images, and how their training differs from the default's
    "default": (300, 900, {}),
    "weak": (200, 900, {"steps": 1500}),
    "cosine": (600, 700, {"steps": 1500, "beta_schedule": "squaredcos_cap_v2"}),
    "narrow": (300, 900, {"steps": 2000, "block_out_channels": [16, 32]}),
}
LEARNERS, ATTACKERS, MAIN = ("mlp", "gbm"), 10, "t_error_t10"
SEVEN = [f"t_error_t{t}" for t in (10, 0, 20, 30, 50, 70, 100)]
SETS, SIZE, FPR, RESAMPLES, HALVINGS = 200, 6, 0.01, 100, 20
SHARED, COUNTS, WIDTHS, ALPHAS = 0.4, (60, 100, 250, 900), (7, 33), (0.1, 0.05)

TITLE = "Realised FPR of fused scores"
ABOUT = (
    "p-values of K fused columns from n auxiliary images.  Exact: floor(alpha (n + 1)) / (n + 1).  Before: weights of "
    "minimum variance, learnt on the images that calibrate.  Now: the soft minimum, which learns nothing.  Means of "
    "1,000 draws (standard error)."
)
Combine = Callable[[np.ndarray], np.ndarray]  # (..., K) z to (...), lower is more member-like


def soft_minimum(drop: float) -> Combine:
    """The likelihood ratio of a drop by so much in one unknown column; `fuse` is that of 1."""
    return lambda z: fuse(drop * z)


def cauchy(z: np.ndarray) -> np.ndarray:
    """Liu & Xie, "Cauchy combination test", JASA 2020."""
    return -(1 / np.tan(np.pi * np.clip(ndtr(z), 1e-300, 1 - 1e-15))).sum(axis=-1)


def higher_criticism(z: np.ndarray) -> np.ndarray:
    """Donoho & Jin, "Higher criticism for detecting sparse heterogeneous mixtures", Ann. Stat. 2004; lower half."""
    count = z.shape[-1]
    p, rank = np.sort(np.clip(ndtr(z), 1e-300, 1 - 1e-12), axis=-1), np.arange(1, count + 1) / count
    return -((rank - p) / np.sqrt(p * (1 - p)))[..., : max(1, count // 2)].max(axis=-1)


def minimum_variance(auxiliary: np.ndarray) -> Combine:
    """The rule that was the default: weights w >= 0 that minimise w'Rw, learnt on non-members' z, (n, K)."""
    centre, spread = auxiliary.mean(axis=0), np.maximum(auxiliary.std(axis=0), 1e-9)
    correlation = ledoit_wolf((auxiliary - centre) / spread, assume_centered=True)[0]
    lower = np.linalg.cholesky(correlation)
    weights = nnls(lower.T, np.linalg.solve(lower, np.ones(len(lower))))[0]
    return lambda z: ((z - centre) / spread) @ (weights / weights.sum())


RULES: dict[str, Combine | None] = {
    "minimum variance": None,  # learnt on auxiliary images
    "mean (Stouffer)": lambda z: z.mean(axis=-1),
    "largest (min z)": lambda z: z.min(axis=-1),
    "Fisher": lambda z: log_ndtr(z).sum(axis=-1),
    "sum of min(z, 0)^2": lambda z: -(np.minimum(z, 0) ** 2).sum(axis=-1),
    "sum of min(z, 0)^3": lambda z: (np.minimum(z, 0) ** 3).sum(axis=-1),
    "mean of the two lowest": lambda z: np.sort(z, axis=-1)[..., :2].mean(axis=-1),
    "higher criticism": higher_criticism,
    "Cauchy": cauchy,
    "soft minimum, drop 0.5": soft_minimum(0.5),
    "soft minimum, drop 1": fuse,
    "soft minimum, drop 1.5": soft_minimum(1.5),
    "soft minimum, drop 2": soft_minimum(2),
}
ORDERED = "soft minimum, drop 1, of the bag's medians"


def main(folder: Path) -> list[dict]:
    """All rows, each with its `table`.  folder : for the pilots' z, which are computed where they are missing."""
    rows = [row for seed in SEEDS for kind in PILOTS for row in _power(kind, seed, folder / f"{kind}-{seed}")]
    return rows + list(realised_fpr(draws=1000))


def _power(kind: str, seed: int, folder: Path) -> Iterator[dict]:
    if not all((folder / f"{learner}.npz").exists() for learner in LEARNERS):
        make_pilot(kind, seed, folder)
    columns = _columns()
    draw = np.random.default_rng([seed, 5])
    sets = [draw.choice(len(columns), SIZE, replace=False) for _ in range(SETS)]
    sets += [np.array([columns.index(name) for name in SEVEN]), np.arange(len(columns))]
    for learner in LEARNERS:
        with np.load(folder / f"{learner}.npz", allow_pickle=False) as stored:
            z = {name: stored[name] if name == "out_of_bag" else stored[name].astype(float) for name in stored}
        about = {"table": "power", "seed": seed, "target": kind, "learner": learner}
        yield from (about | row for row in compare(z, sets, seed))


def compare(z: dict[str, np.ndarray], sets: list[np.ndarray], seed: int) -> Iterator[dict]:
    """A row a rule.  z : member, auxiliary and holdout (n, B, K), and out_of_bag (n, B).  sets : the last two by
    name."""
    seen_by_some = z["out_of_bag"].any(axis=1)
    auxiliary = -bag_vote(z["auxiliary"][seen_by_some], z["out_of_bag"][seen_by_some])
    alone = {role: bag_vote(z[role]) for role in ("member", "holdout")}  # (N, K)
    resamples = list(_draws(alone, RESAMPLES, seed, halves=False))
    halves = list(zip(*[_draws(alone, HALVINGS, seed, halves=True)] * 2, strict=True))
    best = _best(tpr(alone), sets)
    for name in [*RULES, ORDERED]:
        rule = fuse if name == ORDERED else RULES[name]
        combines = [rule or minimum_variance(auxiliary[:, columns]) for columns in sets]
        if name == ORDERED:
            fused = _stack({r: [-fuse(-alone[r][:, columns]) for columns in sets] for r in alone})
        else:
            pairs = list(zip(combines, sets, strict=True))
            fused = _stack({r: [bag_vote(f(z[r][..., columns])) for f, columns in pairs] for r in alone})
        caught = tpr(fused)
        gain = (caught - best)[:SETS]
        boot = [np.mean((tpr(_take(fused, d)) - _best(tpr(_take(alone, d)), sets))[:SETS]) for d in resamples]
        honest = [_honest(alone, fused, sets, *pair) for pair in halves]
        yield {
            "rule": name,
            "gain": gain.mean(),
            "gain_se": np.std(boot, ddof=1),
            "gain_honest": np.mean(honest),
            "worst": gain.min(),
            "below": (gain < 0).mean(),
            "seven": caught[-2],
            "seven_best": best[-2],
            "all": caught[-1],
            "all_best": best[-1],
            "main": tpr(alone)[0],
        }


def tpr(membership_score: dict[str, np.ndarray]) -> np.ndarray:
    """TPR at `FPR`, as `inference.roc` has it, by S columns of membership scores, (N, S) a role.  Returns (S,)."""
    holdout = np.sort(membership_score["holdout"], axis=0)[::-1]
    return (membership_score["member"] > holdout[int(np.floor(FPR * len(holdout) + 1e-9))]).mean(axis=0)


def _best(caught: np.ndarray, sets: list[np.ndarray]) -> np.ndarray:
    return np.array([caught[columns].max() for columns in sets])


def _honest(
    alone: dict[str, np.ndarray],
    fused: dict[str, np.ndarray],
    sets: list[np.ndarray],
    chosen_on: dict[str, np.ndarray],
    compared_on: dict[str, np.ndarray],
) -> float:
    """The mean gain over the best column, which is picked on some images, on others."""
    pick, caught = tpr(_take(alone, chosen_on)), tpr(_take(alone, compared_on))
    best = np.array([caught[columns[pick[columns].argmax()]] for columns in sets])
    return float((tpr(_take(fused, compared_on)) - best)[:SETS].mean())


def _draws(alone: dict[str, np.ndarray], count: int, seed: int, halves: bool) -> Iterator[dict[str, np.ndarray]]:
    """Rows of each role: `count` bootstrap resamples, or one half after the other of `count` halvings."""
    rng = np.random.default_rng([seed, 9])
    for _ in range(count):
        if halves:
            order = {role: rng.permutation(len(membership_score)) for role, membership_score in alone.items()}
            yield {role: rows[::2] for role, rows in order.items()}
            yield {role: rows[1::2] for role, rows in order.items()}
        else:
            yield {
                role: rng.integers(len(membership_score), size=len(membership_score))
                for role, membership_score in alone.items()
            }


def _take(membership_score: dict[str, np.ndarray], rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {role: membership_score[role][rows[role]] for role in membership_score}


def _stack(membership_scores: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    return {role: np.stack(columns, axis=1) for role, columns in membership_scores.items()}


def simulate() -> pd.DataFrame:
    """The error rates, as a part of `benchmarks.validity.run`: a row a number of images, of columns, and a level."""
    found = pd.DataFrame(realised_fpr(draws=1000))
    rates = zip(found["realised"], found["realised_se"], strict=True)
    found["realised"] = [f"{100 * mean:.2f} ({100 * error:.2f})" for mean, error in rates]
    found[["asked", "exact"]] = 100 * found[["alpha", "exact"]]
    keys = ["auxiliary", "columns", "asked", "exact"]
    table = found.pivot(index=keys, columns="rule", values="realised").reset_index()
    names = {"auxiliary": "n", "columns": "K", "minimum variance": "before", "soft minimum, drop 1": "now"}
    return table.sort_values(keys, ascending=[True, True, False, True]).rename(columns=names)[
        ["n", "K", "asked", "exact", "before", "now"]
    ]


def realised_fpr(draws: int) -> Iterator[dict]:
    """The FPR that p-values of fused scores realise, on average over draws of auxiliary images, and what is exact."""
    for count in COUNTS:
        for width in WIDTHS:
            found: dict[str, list[list[float]]] = {"minimum variance": [], "soft minimum, drop 1": []}
            for seed in range(draws):
                auxiliary, new = (_non_members(n, width, [seed, i]) for i, n in enumerate((count, 1000)))
                for rule, combine in zip(found, (minimum_variance(auxiliary), fuse), strict=True):
                    p_value = conformal_p_values(-combine(new), -combine(auxiliary))
                    found[rule].append([(p_value <= alpha).mean() for alpha in ALPHAS])
            for rule, realised in found.items():
                mean, error = np.mean(realised, axis=0), np.std(realised, axis=0, ddof=1) / np.sqrt(draws)
                for i, alpha in enumerate(ALPHAS):
                    about = {"table": "fpr", "rule": rule, "auxiliary": count, "columns": width, "alpha": alpha}
                    exact = int(alpha * (count + 1) + 1e-9) / (count + 1)
                    yield about | {"exact": exact, "realised": mean[i], "realised_se": error[i]}


def _non_members(count: int, width: int, seed: list[int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    own, shared = rng.standard_normal((count, width)), rng.standard_normal((count, 1))
    return np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own


def _columns() -> list[str]:
    """The score columns of params.yaml, the main one first."""
    names = list(score_columns(_attacks()))
    return [MAIN, *(name for name in names if name != MAIN)]


def _attacks() -> Attacks:
    return Attacks.model_validate(PARAMS["score"]["attacks"])


def make_pilot(kind: str, seed: int, folder: Path) -> None:
    """Train a target, score all digits, fit the bags, and write what `compare` reads: <learner>.npz."""
    members, auxiliary, changes = PILOTS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    images = read(DigitsEntry(source="digits", path="leakgauge/datasets/digits.py"))
    pixels = np.moveaxis(np.asarray(images.pixels), 3, 1)  # (N, 1, 8, 8)
    order = np.random.default_rng([seed, 7]).permutation(len(pixels))
    rows = dict(zip(("member", "auxiliary", "holdout"), np.split(order, [members, members + auxiliary]), strict=True))
    options = PARAMS["target"] | changes | {"seed": seed}
    options = Training.model_validate({name: options[name] for name in Training.model_fields})
    pipeline, _ = train(torch.from_numpy(pixels[rows["member"]]), options, folder)
    pipeline.save_pretrained(folder / "pipeline")
    log_scores = _log_scores(folder / "pipeline", torch.from_numpy(pixels), images.ids)
    described = np.stack(list(named_features(pixels).values()), axis=1)
    roles = {
        role: Scored(
            Inputs(pixels[of], described[of]), of.astype(str), {name: values[of] for name, values in log_scores.items()}
        )
        for role, of in rows.items()
    }
    for learner in LEARNERS:
        named = Named(learner, Learner.model_validate(PARAMS["learners"][learner]).root)
        everyone = np.arange(auxiliary)
        fitted = BagRunner(roles, seed, folder / "work").fit(named, ATTACKERS, _columns(), everyone, learner)
        z = {role: values.astype(np.float32) for role, values in fitted.z.items()}
        np.savez(folder / f"{learner}.npz", out_of_bag=fitted.out_of_bag, **z)


def _log_scores(model: Path, pixels: torch.Tensor, ids: list[str]) -> dict[str, np.ndarray]:
    target, attacks = Denoiser.from_pipeline(model, torch.device("cpu")), _attacks()
    with torch.inference_mode():
        parts = [
            score_batch(target, target.encode(pixels[i : i + 256]), ids[i : i + 256], attacks)
            for i in range(0, len(ids), 256)
        ]
    return dict(zip(score_columns(attacks), np.log(torch.cat(parts).numpy()).T, strict=True))


def markdown(rows: list[dict]) -> str:
    """The tables."""
    text = ["# Fusion: what each rule loses to its best column, and its error rates", "", __doc__.split("\n\n")[1], ""]
    for seed, role in zip(SEEDS, ("chosen on", "confirmed on"), strict=True):
        some = [row for row in rows if row["table"] == "power" and row["seed"] == seed]
        text += [f"## Power, seed {seed} ({role})", "", *_power_tables(some), ""]
    text += ["## Error rates", "", __doc__.split("\n\n")[2], "", *_fpr_table(rows), ""]
    return "\n".join(text)


def _power_tables(rows: list[dict]) -> Iterator[str]:
    pairs = list(dict.fromkeys((row["target"], row["learner"]) for row in rows))
    cell = {(row["rule"], row["target"], row["learner"]): row for row in rows}
    titles = " | ".join(f"{target} {learner}" for target, learner in pairs)
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    means = {
        "Mean gain over the best column of six, in points of TPR (s.e. over images)": lambda row: (
            f"{100 * row['gain']:+.1f} ({100 * row['gain_se']:.1f})"
        ),
        "The same, the best column picked on other images": lambda row: f"{100 * row['gain_honest']:+.1f}",
        "Worst set, and share of sets below their best column": lambda row: (
            f"{100 * row['worst']:+.0f}, {100 * row['below']:.0f} %"
        ),
        "TPR of the seven t-errors, and of all 33 columns, %": lambda row: (
            f"{100 * row['seven']:.1f}, {100 * row['all']:.1f}"
        ),
    }
    for place, (title, shown) in enumerate(means.items()):
        key = ("gain", "gain_honest")[place] if place < 2 else None
        yield from (f"{title}:", "", f"| rule | {titles} |{' mean |' if key else ''}")
        yield "|---" * (1 + len(pairs) + bool(key)) + "|"
        for rule in rules:
            of = [cell[(rule, *pair)] for pair in pairs]
            mean = f" {100 * np.mean([row[key] for row in of]):+.1f} |" if key else ""
            yield f"| {rule} | {' | '.join(map(shown, of))} |{mean}"
        if not key and place == len(means) - 1:
            best = [f"{100 * row['seven_best']:.1f}, {100 * row['all_best']:.1f}" for row in of]
            yield f"| (best column) | {' | '.join(best)} |"
            main_alone = [f"{100 * row['main']:.1f}" for row in of]
            yield f"| (main column) | {' | '.join(main_alone)} |"
        yield ""


def _fpr_table(rows: list[dict]) -> Iterator[str]:
    yield "| auxiliary | columns | alpha | exact | minimum variance (before) | soft minimum (now) |"
    yield "|---|---|---|---|---|---|"
    before, now = (
        [row for row in rows if row["table"] == "fpr" and row["rule"] == rule]
        for rule in ("minimum variance", "soft minimum, drop 1")
    )
    for old, new in zip(before, now, strict=True):
        shown = [f"{100 * row['realised']:.2f} % ({100 * row['realised_se']:.2f})" for row in (old, new)]
        about = f"| {old['auxiliary']} | {old['columns']} | {100 * old['alpha']:g} % | {100 * old['exact']:.2f} % "
        yield f"{about}| {' | '.join(shown)} |"


if __name__ == "__main__":
    found = main(Path(sys.argv[1]))
    pd.DataFrame(found).to_csv(HERE / "fusion.csv", index=False, float_format="%.6g")
    (HERE / "fusion.md").write_text(markdown(found), encoding="utf-8")
