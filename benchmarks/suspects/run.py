"""Suspects of a known mix: do the p-value of a set, the false-discovery rate and the fraction say what they promise?

    python -m benchmarks.suspects.run [--target digits_ddpm] [--draws 200] [--suspects 60]

Run it where `dvc repro` has run.  Every draw shares the target's non-members out anew: auxiliary images, suspects that
were not used, and holdout; and its members: suspects that were used, and known members.  It fits and calibrates a bag
of its own on that draw's auxiliary images, five small boosted attackers on one score, so that hundreds of draws take
minutes, and asks about its suspects as `suspects` does.  Writes suspects.md beside this file, or to --out.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest, kstest

from leakgauge.cli import parser_of
from leakgauge.compute import spread
from leakgauge.inference.conformal import AttackResult, judge
from leakgauge.inference.suspects import adjusted_p_values, set_test, used_fraction
from leakgauge.quantile.bag import Learner, attacker_seed, fit_attacker
from leakgauge.quantile.base import resamples
from leakgauge.quantile.inputs import Inputs
from leakgauge.tables import ROLES, log_scores, read_features

HERE = Path(__file__).parent
SHARES = (0.0, 0.1, 0.5, 1.0)  # of the suspects that were used
AUXILIARY, BAG, CONFIDENCE, RATE = 900, 5, 0.95, 0.1
LEARNER = Learner.model_validate(  # small: a draw takes seconds
    {
        "kind": "gbm",
        "head": "location_scale",
        "trees": 50,
        "scale_trees": 10,
        "leaves": 8,
        "learning_rate": 0.1,
        "min_leaf": 20,
        "feature_fraction": 0.3,
    }
).root


@dataclass(frozen=True)
class Pool:
    """Images of a finished audit: features (N, F), log scores (N,), who is a member (N,)."""

    features: np.ndarray
    log_scores: np.ndarray
    is_member: np.ndarray


def main() -> None:
    """Draw, ask, count."""
    parser = parser_of(main)
    parser.add_argument("--target", default="digits_ddpm")
    parser.add_argument("--score", default="t_error_t10")
    parser.add_argument("--draws", type=int, default=200, help="where none was used; of each other mix a third")
    parser.add_argument("--suspects", type=int, default=60, help="in each draw")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    pool = _pool(options.target, options.score)
    jobs = [
        (pool, share, options.suspects, seed)
        for share in SHARES
        for seed in range(options.draws // (3 if share else 1))
    ]
    answers = pd.DataFrame(spread(_ask, jobs, "draws"))
    page = _page(answers, options)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "suspects.md").write_text(page, encoding="utf-8")
    print(page)


def _pool(target: str, score: str) -> Pool:
    scores = [Path(f"data/scores/{target}/{role}.parquet") for role in ROLES]
    features = [read_features(Path(f"data/features/{target}/{role}.parquet"))[1] for role in ROLES]
    return Pool(
        np.concatenate(features),
        np.concatenate([log_scores(path, score) for path in scores]),
        np.repeat([role == "member" for role in ROLES], [len(rows) for rows in features]),
    )


def _ask(pool: Pool, share: float, count: int, seed: int) -> dict[str, float]:
    """One draw: what `suspects` would say, and whether it is right."""
    rng = np.random.default_rng([seed, int(100 * share)])
    members, others = (rng.permutation(np.flatnonzero(pool.is_member == known)) for known in (True, False))
    used = round(share * count)
    auxiliary, rest = others[:AUXILIARY], others[AUXILIARY:]
    roles = {
        "suspect": np.r_[members[:used], rest[: count - used]],
        "member": members[used:],
        "holdout": rest[count - used :],
    }
    result = _judge(pool, auxiliary, roles, seed)
    test = set_test(result.membership_score["suspect"], result.membership_score["holdout"], CONFIDENCE)
    fraction, least = (
        used_fraction(result.membership_score["suspect"], result.membership_score["holdout"], known, CONFIDENCE)
        for known in (result.membership_score["member"], None)
    )
    named, truth = adjusted_p_values(result.p_value["suspect"]) <= RATE, np.arange(count) < used
    return {
        "share": share,
        "p_value": test.p_value,
        "fraction": np.nan if fraction.value is None else fraction.value,
        "covered": fraction.low <= share <= fraction.high,
        "width": fraction.high - fraction.low,
        "least_holds": least.low <= share,
        "least": least.low,
        "false_share": (named & ~truth).sum() / max(named.sum(), 1),
        "found": named[truth].mean() if used else np.nan,
    }


def _judge(pool: Pool, auxiliary: np.ndarray, roles: dict[str, np.ndarray], seed: int) -> AttackResult:
    """A bag fitted on the auxiliary rows, and what it makes of the others."""
    inputs = Inputs(np.empty((len(pool.log_scores), 0, 0, 0), dtype=np.uint8), pool.features)
    drawn = resamples(np.zeros(len(auxiliary), dtype=bool), seed, BAG)
    scores = pool.log_scores[auxiliary][:, None]
    fitted = [
        fit_attacker(inputs[auxiliary], scores, LEARNER, attacker_seed(seed, number), resample)[0]
        for number, resample in enumerate(drawn)
    ]
    z = {}
    for role, rows in (roles | {"auxiliary": auxiliary}).items():
        observed = pool.log_scores[rows][:, None]
        z[role] = np.concatenate([attacker.predict(inputs[rows]).z_scores(observed) for attacker in fitted], axis=1)
    out_of_bag = np.stack([resample.out_of_bag for resample in drawn], axis=1)
    of_auxiliary = z.pop("auxiliary")
    return judge(z, of_auxiliary, out_of_bag, np.ones(len(auxiliary), dtype=bool))


def _page(answers: pd.DataFrame, options: argparse.Namespace) -> str:
    """The counts as Markdown."""
    unused = answers.loc[answers["share"] == 0, "p_value"]
    columns = [
        "used",
        "set p-value: median, at most 5 %",
        "fraction: mean",
        "95 % interval holds",
        "its mean width",
        "lower bound without members holds, its mean",
        "false among the named",
        "used ones named",
    ]
    head = f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|\n"
    lines = []
    for share, rows in answers.groupby("share"):
        found = "-" if share == 0 else f"{100 * rows['found'].mean():.0f} %"
        lines.append(
            f"| {100 * share:.0f} % | {rows['p_value'].median():.2g}, {_share(rows['p_value'] <= 0.05)} "
            f"| {100 * rows['fraction'].mean():.1f} % | {_share(rows['covered'])} | {100 * rows['width'].mean():.0f} % "
            f"| {_share(rows['least_holds'])}, {100 * rows['least'].mean():.0f} % "
            f"| {100 * rows['false_share'].mean():.1f} % | {found} |\n"
        )
    return f"""\
# Suspects of a known mix

{options.draws} draws of {options.suspects} suspects that were not used, and a third as many of each other mix, on
`{options.target}` by `{options.score}`; each draw with auxiliary images, bag, holdout and known members of its own.
Shares of draws carry exact 95 % intervals.

{head}{"".join(lines)}
Where none was used the set's p-value should be uniform: Kolmogorov and Smirnov's test of {len(unused)} draws gives
p = {kstest(unused, "uniform").pvalue:.2f}.  The false-discovery rate asked for is {100 * RATE:.0f} %.  The exact
intervals take draws as independent.  They share one target and its images: the intervals are about draws from these,
and too narrow for other targets.
"""


def _share(held: pd.Series) -> str:
    interval = binomtest(int(held.sum()), len(held)).proportion_ci(0.95, method="exact")
    return f"{100 * held.mean():.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


if __name__ == "__main__":
    main()
