"""All checks that need no target, of the roles of one target or of a set of suspects."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa

from leakgauge.checks.blind import Blind, blind_check
from leakgauge.checks.conditions import caption_roles, label_roles
from leakgauge.checks.near_duplicates import Images, difference_p_value, excess_p_value, hashed, nearest
from leakgauge.checks.plan import COMPARISONS, CONFIDENCE, NEAR, REFERENCE, Plan
from leakgauge.inference.metrics import named_rate
from leakgauge.inference.roc import exact_rate
from leakgauge.options import Check
from leakgauge.tables import captions_of, decode_images

PAIRS = pa.schema(
    [
        *((name, pa.string()) for name in ("image_id_a", "role_a", "image_id_b", "role_b")),
        ("hash_distance", pa.int64()),
        ("pixel_rmse", pa.float64()),
    ]
)
Finding = dict[str, Any]  # figures by name, and whether the check `fails`


@dataclass(frozen=True)
class RoleImages:
    """The images of one role, in the order of the hashes of their pixels: neither name nor order decides on folds, or
    between equally near images."""

    table: pa.Table  # by the `IMAGES` contract
    features: np.ndarray  # (N, F) float32
    hashed: Images

    @classmethod
    def of(cls, table: pa.Table, features: np.ndarray) -> Self:
        """Their hashes are computed."""
        order = np.argsort(table.column("sha256").to_numpy())
        table = table.take(pa.array(order))
        return cls(table, features[order], hashed(decode_images(table)))

    def __getitem__(self, rows: np.ndarray) -> Self:
        """Some of them, in their order."""
        return type(self)(self.table.take(pa.array(rows)), self.features[rows], self.hashed[rows])


@dataclass(frozen=True)
class RoleChecks:
    """Checks of some roles against others."""

    roles: Mapping[str, RoleImages]  # those compared, those they must look like, and `REFERENCE` where there is one
    options: Check
    plan: Plan

    @cached_property
    def near_rmse(self) -> float:
        """Up to this far, in grey levels, pixels are those of near-duplicates."""
        typical = nearest(self.roles["holdout"].hashed, self.roles["auxiliary"].hashed).pixel_rmse
        return self.options.pixel_rmse * float(np.median(typical))

    def findings(self) -> dict[str, Finding]:
        """Check -> what it found."""
        return {**self._near_duplicates(), **self._near_reference(), **self._blind(), **self._conditions()}

    def pairs(self) -> pa.Table:
        """Members or suspects (a) and non-members (b) that are near-duplicates, closest pairs first.

        Of each image with a near-duplicate in the other role, the pair with the nearest there.  Where a reference was
        trained, also images of any role (a) and those it was trained on (b).
        """
        parts = [PAIRS.empty_table().to_pandas()]
        of_reference = [(role, REFERENCE) for role in (*self._asked_about, *NEAR) if REFERENCE in self.roles]
        for first, role in [*itertools.product(self._asked_about, NEAR), *of_reference]:
            a, b = self.roles[first], self.roles[role]
            parts += [self._pairs(a, b, ("a", first), ("b", role)), self._pairs(b, a, ("b", role), ("a", first))]
        pairs = pd.concat(parts).drop_duplicates(["image_id_a", "role_a", "image_id_b", "role_b"])
        pairs = pairs.sort_values(["hash_distance", "pixel_rmse", "image_id_b", "image_id_a"])
        return pa.Table.from_pandas(pairs, schema=PAIRS, preserve_index=False)

    def _pairs(
        self, images: RoleImages, among: RoleImages, own: tuple[str, str], other: tuple[str, str]
    ) -> pd.DataFrame:
        """Images whose nearest of `among` is a near-duplicate, and that one.  own, other : side and role of either."""
        found = nearest(images.hashed, among.hashed)
        near = found.near(self.options.hash_distance, self.near_rmse)
        columns = {"hash_distance": found.hash_distance[near], "pixel_rmse": found.pixel_rmse[near]}
        for (side, role), table, rows in ((own, images.table, near), (other, among.table, found.place[near])):
            columns[f"image_id_{side}"] = table.column("image_id").to_pandas()[rows].to_numpy()
            columns[f"role_{side}"] = role
        return pd.DataFrame(columns)

    @property
    def _asked_about(self) -> list[str]:
        return [role for role in ("member", "suspect") if role in self.plan.roles]

    def _near_duplicates(self) -> dict[str, Finding]:
        """In auxiliary and in holdout images: the share of members that have a near-duplicate there, and of others."""
        findings = {}
        for first, (among, control) in itertools.product(self._asked_about, (NEAR, NEAR[::-1])):
            near = self._near((first, control), among)
            p_value = excess_p_value(near[first], near[control])
            findings[f"{first}_near_{among}"] = self._near_finding(near, p_value)
        return findings

    def _near_reference(self) -> dict[str, Finding]:
        """Among the images of a reference, if there is one: each role's share, and those of what it must look like."""
        findings = {}
        for role in self.plan.roles if REFERENCE in self.roles else ():
            near = self._near((role, *COMPARISONS[role]), REFERENCE)
            p_value = difference_p_value(near[role], np.concatenate([near[other] for other in COMPARISONS[role]]))
            findings[f"{role}_near_{REFERENCE}"] = self._near_finding(near, p_value)
        return findings

    def _near(self, roles: Iterable[str], among: str) -> dict[str, np.ndarray]:
        """Role -> (N,) bool: which of its images have a near-duplicate in the role `among`."""
        there = self.roles[among].hashed
        return {
            role: nearest(self.roles[role].hashed, there).near(self.options.hash_distance, self.near_rmse)
            for role in roles
        }

    def _near_finding(self, near: Mapping[str, np.ndarray], p_value: float) -> Finding:
        shares: Finding = {}
        for role, of_role in near.items():
            shares |= named_rate(role, exact_rate(int(of_role.sum()), len(of_role), CONFIDENCE))
        return {**shares, "p_value": p_value, "fails": p_value <= self.plan.level}

    def _blind(self) -> dict[str, Finding]:
        """Each comparison's AUC by image features; None where a set is too small to tell."""
        findings = {}
        plan = self.plan
        for role, own, others in plan.comparisons({role: images.features for role, images in self.roles.items()}):
            found = blind_check(own, np.stack(others), CONFIDENCE, plan.permutations, plan.seed)
            if found is None:
                empty = dict.fromkeys(("auc", "auc_ci_low", "auc_ci_high", "p_value"))
                findings[f"blind_{role}"] = {**empty, "fails": False}
                continue
            fails = found.p_value <= plan.level and found.low > self.options.blind_auc
            findings[f"blind_{role}"] = {**_of_blind(found), "fails": fails}
        return findings

    def _conditions(self) -> dict[str, Finding]:
        """Each comparison's labels and captions, where both sides have some."""
        tables = {role: images.table for role, images in self.roles.items()}
        labels = label_roles({role: table.column("label").to_pylist() for role, table in tables.items()}, self.plan)
        captions = caption_roles({role: captions_of(table) for role, table in tables.items()}, self.plan)
        findings = {f"label_role_{role}": vars(found) for role, found in labels.items()}
        findings |= {f"caption_role_{role}": _of_blind(found) for role, found in captions.items()}
        return {name: {**found, "fails": found["p_value"] <= self.plan.level} for name, found in findings.items()}


def p_values(findings: Mapping[str, Finding]) -> list[dict[str, Any]]:
    """What `dvc plots` draws of findings: `check` and `p_value`, of those that have one."""
    return [{"check": name, "p_value": found["p_value"]} for name, found in findings.items() if "p_value" in found]


def condition_sentences(findings: Mapping[str, Finding]) -> dict[str, dict[str, str]]:
    """label or caption -> role -> how it gives the role away, of those tests that fail."""
    sentences: dict[str, dict[str, str]] = {"label": {}, "caption": {}}
    for name, found in findings.items():
        column, _, role = name.partition("_role_")
        if column not in sentences or not found["fails"]:
            continue
        label = "without a label" if found.get("label", 0) is None else f"of label {found.get('label')}"
        called = f"{role}s" if role in ("member", "suspect") else f"{role} images"
        sentences[column][role] = (
            f"{found['of_first']} of the {found['images']} images {label} are {called}, expected "
            f"were {found['expected']:.3g} (p = {found['p_value']:.2g})"
            if column == "label"
            else f"words and lengths of captions tell {called} from others, AUC {found['auc']:.3f} "
            f"(p = {found['p_value']:.2g})"
        )
    return sentences


def _of_blind(found: Blind) -> Finding:
    return {"auc": found.auc, "auc_ci_low": found.low, "auc_ci_high": found.high, "p_value": found.p_value}
