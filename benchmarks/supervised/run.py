"""An attacker that knows half of the members: do its rates hold, and what does it gain?

    python -m benchmarks.supervised.run AUDIT...

AUDIT : folders of finished audits (`leakgauge report`) with `data/` and `models/`; every target in them is measured.
In simulations the truth is known: how often do intervals and false-positive rates hold?  On the audits: what does it
gain over the headline judge, and over published attacks with the same members?
Writes results.json and results.md beside this file, or to --out.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from tqdm import tqdm

from benchmarks.supervised.rivals import Convolutional, boosted
from leakgauge.cli import parser_of
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.files import write_json
from leakgauge.inference.comparisons import paired_difference
from leakgauge.inference.metrics import Figures, summarise, widened
from leakgauge.inference.roc import auc, tpr_at_fpr
from leakgauge.inference.supervised import WIDER, Features, Fit, Supervised, logistic, supervised
from leakgauge.inference.z_scores import MEASURED, ZTable
from leakgauge.tables import ROLES, decode_images, read_metadata, read_table, unit_names
from studies.cost.gradients import gradient_norms
from studies.cost.secmi_nns import step_differences

HERE = Path(__file__).parent
TIMESTEPS = list(range(50, 1000, 100))  # of GSA
T, INTERVAL, FLOOR = 20, 10, 1e-12  # of the maps of SecMI-NNs, whose logarithm is taken
FPR, CONFIDENCE = 0.01, 0.95
DRAWS, COUNTS = 200, {"member": 200, "holdout": 400, "auxiliary": 400}  # of the simulation
CASES = [(20, 0.0), (60, 0.0), (60, 0.5), (60, 2.0)]  # columns, and the distance of members from others


def main() -> None:
    """Simulate, measure, write."""
    parser = parser_of(main)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("audits", type=Path, nargs="+", metavar="AUDIT")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    simulated = [simulate(*case) for case in CASES]
    measured = {name: one for audit in options.audits for name, one in _measured(audit.resolve())}
    results = {"draws": DRAWS, "simulated": simulated, "measured": measured}
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "results.json", results)
    (options.out / "results.md").write_text(as_markdown(results), encoding="utf-8")
    print(as_markdown(results))


def simulate(columns: int, distance: float) -> dict[str, Any]:
    """Independent columns N(0, 1); members are nearer to one corner by `distance` altogether."""
    held: dict[str, list[bool]] = {"alone": [], "wider": []}
    areas, rates, ends = [], [], []
    for seed in tqdm(range(DRAWS), desc=f"{columns} columns, distance {distance:g}", disable=None):
        rng, features = np.random.default_rng(seed), Features(usable=np.ones(COUNTS["auxiliary"], dtype=bool))
        rows = {role: rng.normal(size=(count, columns)) for role, count in COUNTS.items()}
        rows["member"] -= distance / np.sqrt(columns)
        for column in range(columns):
            features.add_scores(f"{column}", {role: np.exp(of[:, column]) for role, of in rows.items()})
        names = {role: [f"{seed} {role} {number}" for number in range(count)] for role, count in COUNTS.items()}
        figures = summarise(_judged(features, names, logistic).result, [0.1, 0.01], CONFIDENCE)
        areas.append(figures["auc"])
        rates.append([figures[f"realised_fpr_at_alpha_{level}"] for level in ("1e-1", "1e-2")])
        ends.append(
            [
                (one["auc_ci_low"], one["auc_ci_high"])
                for one in (figures, widened(figures, WIDER, false_positives=False))
            ]
        )
    true = float(np.mean(areas)) if distance else 0.5
    for low_high in ends:
        for name, (low, high) in zip(held, low_high, strict=True):
            held[name].append(low <= true <= high)
    shares = {name: float(np.mean(of)) for name, of in held.items()}
    rates_of = dict(zip(("fpr_1e-1", "fpr_1e-2"), np.mean(rates, axis=0).tolist(), strict=True))
    return {"columns": columns, "distance": distance, "auc": float(np.mean(areas)), **shares, **rates_of}


def _measured(audit: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The judges of every target of an audit, by name."""
    before = Path.cwd()
    os.chdir(audit)
    try:
        params = YAML(typ="safe", pure=True).load(Path("params.yaml").read_text(encoding="utf-8"))
        for target in params["targets"]:
            yield target, _of_target(target, list(params["learners"]))
    finally:
        os.chdir(before)


def _of_target(target: str, learners: list[str]) -> dict[str, Any]:
    verdicts = read_table(Path(f"data/verdicts/{target}.parquet")).to_pandas()
    headline = read_metadata(Path(f"data/verdicts/{target}.parquet"))["headline"]["judge"]
    of_headline = verdicts[verdicts["learner"] == headline]
    known = {role: of_headline[of_headline["role"] == role]["membership_score"].to_numpy() for role in MEASURED}
    tables = {role: read_table(Path(f"data/scores/{target}/{role}.parquet")) for role in ROLES}
    ids = {role: table.column("image_id").to_pylist() for role, table in tables.items()}
    units = {role: unit_names(Path(f"data/roles/{target}/{role}.parquet")) for role in ROLES}
    names = {role: [units[role][image] for image in ids[role]] for role in ROLES}
    features = Features()
    for learner in learners:
        table = ZTable.open(Path(f"data/z/{target}/{learner}.parquet"))
        for column in table.bag["scores"]:
            features.add_votes(learner, column, table.read(column), table)
    for column in tables["member"].column_names[1:]:
        features.add_scores(column, {role: table.column(column).to_numpy() for role, table in tables.items()})
    found = {"headline": {**_power(known), "headline": headline}}
    judges: dict[str, tuple[Features, Fit]] = {"supervised": (features, logistic), "boosted": (features, boosted)}
    for name, (of, fit) in (judges | _rivals(target, ids)).items():
        result = _judged(of, names, fit).result
        figures = {**_power(result.membership_score), "fpr": float((result.p_value["holdout"] <= FPR).mean())}
        pairs = {role: (result.membership_score[role], known[role]) for role in MEASURED}
        tpr, area = paired_difference(pairs["member"], pairs["holdout"], FPR, CONFIDENCE)
        for key, difference in (("tpr_gain", tpr), ("auc_gain", area)):
            ends = (None,) * 3 if difference is None else (difference.value, difference.low, difference.high)
            figures |= dict(zip((key, f"{key}_ci_low", f"{key}_ci_high"), ends, strict=True))
        found[name] = widened(figures, WIDER, false_positives=False)
    return found


def _rivals(target: str, ids: dict[str, list[str]]) -> dict[str, tuple[Features, Fit]]:
    """GSA and SecMI-NNs, where the model is there."""
    folder = Path(f"models/target/{target}")
    if not (folder / "model_index.json").exists():
        return {}
    denoiser = Denoiser.from_pipeline(folder)
    tables = {role: read_table(Path(f"data/roles/{target}/{role}.parquet")) for role in ROLES}
    images = {role: decode_images(table) for role, table in tables.items()}
    assert all(tables[role].column("image_id").to_pylist() == ids[role] for role in ROLES)
    x0 = {role: denoiser.encode(images[role]) for role in ROLES}
    norms = {role: gradient_norms(denoiser, x0[role], ids[role], TIMESTEPS, 0)["gsa1"] for role in ROLES}
    maps = {role: step_differences(denoiser, x0[role], T, INTERVAL).double().numpy() + FLOOR for role in ROLES}
    shape = maps["member"].shape[1:]

    def convolutional(member: np.ndarray, holdout: np.ndarray, units: list[str]) -> tuple[Any, float]:
        return Convolutional(member, holdout, shape), 0.0

    flat = {role: of.reshape(len(of), -1) for role, of in maps.items()}
    return {
        "GSA": (_features({role: of + FLOOR for role, of in norms.items()}), boosted),
        "SecMI-NNs": (_features(flat), convolutional),
    }


def _features(values: dict[str, np.ndarray]) -> Features:
    features = Features(usable=np.ones(len(values["auxiliary"]), dtype=bool))
    for column in range(values["member"].shape[1]):
        features.add_scores(f"{column}", {role: of[:, column] for role, of in values.items()})
    return features


def _judged(features: Features, names: dict[str, list[str]], fit: Fit) -> Supervised:
    found = supervised(features, names, fit)
    assert found is not None, "there are enough members"
    return found


def _power(scores: dict[str, np.ndarray]) -> Figures:
    """AUC, and TPR at `FPR`, with intervals."""
    area = auc(scores["member"], scores["holdout"], CONFIDENCE)
    rate = tpr_at_fpr(scores["member"], scores["holdout"], FPR, CONFIDENCE)
    found = dict(zip(("auc", "auc_ci_low", "auc_ci_high"), area, strict=True))
    tpr = (rate.value, rate.low, rate.high) if rate else (None,) * 3
    return {**found, **dict(zip(("tpr", "tpr_ci_low", "tpr_ci_high"), tpr, strict=True))}


def as_markdown(results: dict[str, Any]) -> str:
    """The page."""
    lines = [
        "# An attacker that knows half of the members",
        "",
        "Made by `benchmarks/supervised/run.py`; "
        "[how it judges](../../docs/method/guarantees.md#an-attacker-that-knows-half-of-the-members).",
        "",
        "## Do its rates hold?",
        "",
        f"{results['draws']} simulated audits each, of {COUNTS['member']} members, {COUNTS['holdout']} holdout and "
        f"{COUNTS['auxiliary']} auxiliary images with independent columns; members differ by a distance in all of them "
        "together (0: nothing leaks). Shares of audits in which the AUC's interval holds the truth: as that of as many "
        "independent images (alone), and wider by the root of two, as it is told. Last, mean realised false-positive "
        "rates.",
        "",
        "| columns | distance | mean AUC | holds, alone | holds, wider | FPR at 10 % | FPR at 1 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results["simulated"]:
        shares = " | ".join(f"{100 * one[key]:.1f} %" for key in ("alone", "wider", "fpr_1e-1"))
        lines.append(
            f"| {one['columns']} | {one['distance']:g} | {one['auc']:.3f} | {shares} | {100 * one['fpr_1e-2']:.2f} % |"
        )
    lines += [
        "",
        "## What does it gain?",
        "",
        "Beside the headline judge, which knows no member, on the same images; paired 95 % intervals, wider by the "
        "root of two. `boosted`: trees on the same columns. GSA and SecMI-NNs: published attacks, fitted on "
        "the same members, cross-fitted alike. FPR: realised on the holdout at 1 %. "
        "`digits_ddpm` is the default target; others are named by training steps and seed (`w400_21`).",
        "",
        "| target | judge | AUC | gain | TPR at 1 % FPR | gain, points | FPR |",
        "|---|---|---|---|---|---|---|",
    ]
    for target, judges in results["measured"].items():
        for name, one in judges.items():
            if name == "headline":
                lines.append(
                    f"| {target} | {one['headline']} (headline) | {one['auc']:.3f} | | {_percent(one, 'tpr')} | | |"
                )
                continue
            gain = "{auc_gain:+.3f} ({auc_gain_ci_low:+.3f} to {auc_gain_ci_high:+.3f})".format(**one)
            points = "" if one["tpr_gain"] is None else _percent(one, "tpr_gain", "{:+.1f}")
            rate = f"{100 * one['fpr']:.1f} %"
            lines.append(
                f"| {target} | {name} | {one['auc']:.3f} | {gain} | {_percent(one, 'tpr')} | {points} | {rate} |"
            )
    return "\n".join([*lines, ""])


def _percent(figures: Figures, key: str, form: str = "{:.1f}") -> str:
    if figures[key] is None:
        return "not resolved"
    value, low, high = (form.format(100 * figures[f"{key}{end}"]) for end in ("", "_ci_low", "_ci_high"))
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()
