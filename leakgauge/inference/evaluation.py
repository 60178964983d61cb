"""Every judge of one target, measured: each learner by one score and by all that it learnt, and the stack.

A score column is read once, for all learners: at any time there is one column of z-scores in memory, and one running
fusion, of each.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from leakgauge.errors import InputError
from leakgauge.inference.comparisons import gain, higher_for_members, said
from leakgauge.inference.conformal import AttackResult, bag_vote
from leakgauge.inference.exposure import worst_case
from leakgauge.inference.fusion import fit_stack
from leakgauge.inference.metrics import (
    POWER,
    Figures,
    alpha_curve,
    bag_size_curve,
    conditional_fpr,
    membership_metrics,
    power,
    roc_points,
    summarise,
    unit_factor,
    widened,
    worst_decile,
)
from leakgauge.inference.supervised import SUPERVISED, WIDER, Features, Supervised, supervised
from leakgauge.inference.units import unit_codes
from leakgauge.inference.z_scores import MEASURED, Roles, ZTable
from leakgauge.options import Evaluate

STACK = "stack"
ONE_FOR_ALL = "one threshold for all"
T_ERROR = re.compile(r"t_error_t(\d+)")


@dataclass(frozen=True)
class Measured:
    """A bag's result by one score, or by all of them fused; what it rests on, and what it comes to."""

    learner: str
    bag: dict[str, Any]
    score: str
    fusion: list[str] | None  # its columns, where it is a fusion
    result: AttackResult  # without its z-scores
    figures: Figures
    curves: dict[str, pd.DataFrame]


@dataclass
class Evaluation:
    """What the judges of one target are measured on."""

    options: Evaluate
    tables: dict[str, ZTable]  # learner -> its z-scores
    score: str  # the learnt column that learners are judged by
    kept: Mapping[str, np.ndarray]  # role -> (N,) bool, the images that count
    groups: dict[str, pd.Series]  # what alike images of the holdout are grouped by -> the group of each
    units: Mapping[str, list[str]]  # role -> the unit of each image that counts, and of the auxiliary ones
    judged: dict[str, Measured] = field(default_factory=dict)
    # of the stack: score -> learner -> location and scale
    weights: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    timesteps: list[dict[str, Any]] = field(default_factory=list)  # rows of `timestep_curve`
    features: Features = field(default_factory=Features)  # of the supervised judge
    knowing: Supervised | None = None  # the supervised judge, where there are enough members

    def run(self) -> None:
        """Judge and measure; raises InputError where tables do not go together."""
        columns = next(iter(self.tables.values())).bag["scores"]
        for path, bag in ((table.path, table.bag) for table in self.tables.values()):
            if bag["scores"] != columns:
                raise InputError(f"{path}: its bag learnt other scores than another learner's: run `dvc repro`")
        alone: dict[str, Measured] = {}
        running: dict[str, Roles] = {}  # log sum exp(-z) over the columns so far
        for column in columns:
            for name, z in self._of_column(column):
                if column == self.score:
                    alone[name] = self._measured(name, z, None)
                if name in self.tables:
                    self.features.add_votes(name, column, z, self.tables[name])
                if found := T_ERROR.fullmatch(column):
                    self._add_timestep(name, int(found[1]), z)
                before = running.get(name)
                running[name] = {
                    role: -values if before is None else np.logaddexp(before[role], -values)
                    for role, values in z.items()
                }
        for name, one in alone.items():
            self.judged[name] = one
            if len(columns) > 1:
                fused = {role: np.log(len(columns)) - values for role, values in running.pop(name).items()}
                self.judged[f"{name}_fusion"] = self._measured(name, fused, columns)

    def _of_column(self, column: str) -> Iterator[tuple[str, Roles]]:
        """Learner after learner its z-scores of one score, then those of the stack."""
        stacked: list[Roles] = []
        for name, table in self.tables.items():
            z = table.read(column)
            if name in self.options.stack:
                stacked.append(z)
            yield name, self._kept(z)
        if stacked:
            yield STACK, self._kept(self._stack(column, stacked))

    def _kept(self, z: Roles) -> Roles:
        return {role: values[self.kept[role]] if role in self.kept else values for role, values in z.items()}

    def _stack(self, column: str, z: list[Roles]) -> Roles:
        """One of several learners.  Attacker b of it combines the attackers b of its learners, who share a resample.

        The weights are learnt on auxiliary images, out of bag, without those of a calibration split.
        """
        tables = [table for name, table in self.tables.items() if name in self.options.stack]
        first = tables[0]
        for table in tables[1:]:
            if not (np.array_equal(table.out_of_bag, first.out_of_bag) and table.ids == first.ids):
                raise InputError(f"{table.path}: another bag's images than {first.path}: run `dvc repro`")
        scales = [table.read(column, "log_scale") for table in tables]
        both = {role: [np.stack([one[role] for one in many]) for many in (z, scales)] for role in z[0]}
        out_of_bag = first.out_of_bag
        if not first.calibrates.all():  # the calibration split must not be learnt from
            out_of_bag = out_of_bag & ~first.calibrates[:, None]
        fitted = fit_stack(*(values[:, out_of_bag] for values in both["auxiliary"]))
        learners = [name for name in self.tables if name in self.options.stack]
        pairs = zip(learners, fitted.location, fitted.scale, strict=True)
        self.weights[column] = {learner: {"location": float(w), "scale": float(v)} for learner, w, v in pairs}
        return {role: fitted.z_scores(*values) for role, values in both.items()}

    def _measured(self, name: str, z: Roles, fusion: list[str] | None) -> Measured:
        """Judge by one number an attacker, and take the figures and curves."""
        table = self.tables[self.options.stack[0] if name == STACK else name]
        result, options = table.judge(z, self._codes["auxiliary"]), self.options
        alphas, fpr, confidence = options.alphas, options.curve_fpr, options.confidence
        decile = self.groups["complexity"].to_numpy()
        figures = summarise(result, alphas, confidence) | worst_decile(result, decile, alphas, confidence)
        figures = widened(figures, self.wider(result))
        curves = {
            "roc": roc_points(result),
            "alpha": alpha_curve(result, alphas, confidence),
            "conditional_fpr": conditional_fpr(result, self.groups, sorted({*alphas, fpr}), confidence),
            "bag_size": bag_size_curve(result, fpr),
        }
        kind = {"learner": STACK, "options": {"kind": STACK, "of": options.stack}} if name == STACK else {}
        return Measured(name, table.bag | kind, self.score, fusion, replace(result, z={}), figures, curves)

    @cached_property
    def _codes(self) -> dict[str, np.ndarray | None]:
        """Role -> (N,) units; None where each image is its own."""
        return {role: unit_codes(np.array(names, dtype=object)) for role, names in self.units.items()}

    def wider(self, result: AttackResult) -> float:
        """By which intervals are wider for the images' units."""
        return unit_factor(result, {role: self._codes[role] for role in MEASURED})

    def _add_timestep(self, learner: str, timestep: int, z: Roles) -> None:
        if not len(z["member"]):
            return
        reached = power(bag_vote(z["member"]), bag_vote(z["holdout"]), self.options.curve_fpr, self.options.confidence)
        self.timesteps.append({"learner": learner, "timestep": timestep, **reached})

    def timestep_curve(self, scores: Mapping[str, Mapping[str, np.ndarray]]) -> pd.DataFrame:
        """What one threshold for all images reaches on each t-error, and every learner on those that were learnt.

        scores : role -> column -> (N,), lower is more member-like.  Columns: learner, timestep and those of `power`.
        """
        rows = []
        found = (T_ERROR.fullmatch(column) for column in scores["member"])
        for timestep in sorted(int(match[1]) for match in found if match):
            member, holdout = (-scores[role][f"t_error_t{timestep}"] for role in ("member", "holdout"))
            if len(member):
                reached = power(member, holdout, self.options.curve_fpr, self.options.confidence)
                rows.append({"learner": ONE_FOR_ALL, "timestep": timestep, **reached})
        learnt = sorted(self.timesteps, key=lambda row: [*self.judged].index(row["learner"]))
        return pd.DataFrame(rows + learnt, columns=["learner", "timestep", *POWER])

    def gains(self, name: str) -> Figures:
        """What a fusion gains over its learner's one score, and a learner over one threshold for all: same images."""
        one, alone = self.judged[name], {other: that for other, that in self.judged.items() if that.fusion is None}
        if one.fusion is None:
            over = self.baseline
        else:
            over = next(other for other, that in alone.items() if that.learner == one.learner)
        over = None if over == name else over
        result = None if over is None else self.judged[over].result
        found = gain(one.result, result, over, self.options.curve_fpr, self.options.confidence)
        return widened(found, self.wider(one.result))

    def supervise(self, scores: Mapping[str, Mapping[str, np.ndarray]]) -> Figures | None:
        """The figures of an attacker that knows half of the members, and its gain over the headline judge; None where
        there are too few.

        scores : role -> column -> (N,), auxiliary too.
        """
        for column in scores["holdout"]:
            self.features.add_scores(column, {role: of_role[column] for role, of_role in scores.items()})
        self.knowing = supervised(self.features, self.units)
        if self.knowing is None:
            return None
        result, options = self.knowing.result, self.options
        figures = summarise(result, options.alphas, options.confidence)
        over = self.judged[self.headline].result
        for alpha in sorted({*options.alphas, options.curve_fpr}):
            figures |= gain(result, over, self.headline, alpha, options.confidence)
        figures = {name: value for name, value in figures.items() if not name.startswith("raw_")}  # it has no raw level
        by_units = widened(figures, self.wider(result))
        return widened(by_units, WIDER, false_positives=False) | {
            "features": self.features.names,
            "strengths": list(self.knowing.strengths),
            "fitted_on": self.knowing.fitted_on,
        }

    def worst_case(self) -> Figures | None:
        """The judge of the largest TPR at `curve_fpr`, the supervised one among them."""
        results = {name: one.result for name, one in self.judged.items()}
        if self.knowing:
            results[SUPERVISED] = self.knowing.result
        scores = {name: result.membership_score for name, result in results.items()}
        wider = {name: self.wider(result) for name, result in results.items()}
        if self.knowing:
            wider[SUPERVISED] *= WIDER
        return worst_case(scores, self.options.curve_fpr, self.options.confidence, wider)

    @property
    def baseline(self) -> str | None:
        """One threshold for all images; None where no such learner was fitted."""
        kinds = {name: one.bag["options"]["kind"] for name, one in self.judged.items() if one.fusion is None}
        return next((name for name, kind in kinds.items() if kind == "marginal"), None)

    @property
    def headline(self) -> str:
        """The judge of suspects and of the short answer: the learner beside the baseline that foretells auxiliary
        images best, out of bag.

        By all its scores, where it learnt several.  Neither members nor holdout sway the choice.
        """
        losses = {name: table.bag["out_of_bag_loss"] for name, table in self.tables.items() if name != self.baseline}
        best = min(losses, key=losses.__getitem__) if losses else next(iter(self.tables))
        return f"{best}_fusion" if f"{best}_fusion" in self.judged else best

    def summary(self) -> Figures:
        """The short answer: the headline judge, its TPR at 1 % and 0.1 % FPR and what it realises of 1 %, beside the
        TPR of one threshold for all.  None: not known, or not resolved."""
        roles = self.judged[self.headline].result
        member, holdout = (roles.membership_score[role] for role in ("member", "holdout"))
        found = membership_metrics(member, holdout, (0.01, 0.001), self.options.confidence)
        figures: Figures = {"judge": self.headline, "auc": found["auc"]}
        figures |= {f"tpr_{level}": found[f"tpr_at_fpr_{level}"] for level in ("1e-2", "1e-3")}
        reached = (roles.calibration_size + 1) * 0.01 >= 1 - 1e-9  # else no p-value can
        figures["fpr_1e-2"] = float((roles.p_value["holdout"] <= 0.01).mean()) if reached else None
        if self.baseline:
            baseline = self.judged[self.baseline].result.membership_score
            alone = membership_metrics(baseline["member"], baseline["holdout"], (0.01,), self.options.confidence)
            figures["baseline_1e-2"] = alone["tpr_at_fpr_1e-2"]
        return figures

    def wrong_way_round(self, of_scores: str | None) -> list[str]:
        """A sentence for the score, and each result, that is higher for members; marks their figures.

        of_scores : the sentence on the score itself, if it is.
        """
        sentences = [of_scores] if of_scores else []
        for name, one in self.judged.items():
            found = higher_for_members(*(-one.result.membership_score[role] for role in ("member", "holdout")))
            if found and not of_scores:
                sentences.append(f"result {name} ranks members below others, AUC {said(found)}")
            one.figures["wrong_way_round"] = bool(found) or bool(of_scores)
        return sentences
