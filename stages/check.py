"""check: what could make the audit's figures wrong, looked for before anything is scored, without the target.

1. Near-duplicates: have members more of them among auxiliary or holdout images than other non-members have?  Where a
   reference is trained, has any role more or fewer of them among its images than the others have?
2. Blind check: do features alone distinguish members from non-members, or auxiliary from holdout images?
3. Labels and captions, where there are any: are they independent of the role?  If not, a target that is
   conditioned on them gives the role away, trained or not: `score` then refuses to score.

All have exact p-values (but for what counts as near, which is measured on the holdout).  Roles drawn at random fail any
of them, or the null check of `evaluate`, with probability `check.false_alarm` at most (Bonferroni).

data/roles/<target>/*.parquet, data/features/<target>/*.parquet -> data/checks/<target>.json (what the target must not
be conditioned on: `score` waits for it), data/near_duplicates/<target>.parquet (pairs of a member and a
non-member, or of an image and one of the reference), metrics/checks/<target>.json
"""

from pathlib import Path

from leakgauge.checks.plan import REFERENCE, Plan
from leakgauge.checks.roles import RoleChecks, RoleImages, condition_sentences, p_values
from leakgauge.cli import run
from leakgauge.config import section
from leakgauge.errors import warn
from leakgauge.files import write_json
from leakgauge.options import Check, RoleLeaks
from leakgauge.tables import ROLES, read_described, write_table


def check(target: str) -> None:
    """Write what each check found, and the near-duplicates across roles."""
    options = section("check", Check, target)
    roles = {}
    for role in (*ROLES, REFERENCE):
        table, features = read_described(
            *(Path(f"data/{kind}/{target}/{role}.parquet") for kind in ("roles", "features"))
        )
        if table.num_rows:  # perhaps no member is known, or no reference is trained
            roles[role] = RoleImages.of(table, features)
    captions = any("caption" in images.table.column_names for images in roles.values())
    compared = [role for role in ("member", "auxiliary") if role in roles]
    plan = Plan.of(options, compared, captions, REFERENCE in roles)
    checks = RoleChecks(roles, options, plan)
    findings, pairs = checks.findings(), checks.pairs()
    fails = sum(found["fails"] for found in findings.values())
    role_leaks = RoleLeaks(seed=plan.seed, leaks=condition_sentences(findings))
    write_json(Path(f"data/checks/{target}.json"), role_leaks.model_dump())
    write_table(
        Path(f"data/near_duplicates/{target}.parquet"), pairs, {"target": target, "near_rmse": checks.near_rmse}
    )
    figures = {"checks": len(findings), "fails": fails, "near_duplicates": pairs.num_rows, "level": plan.level}
    write_json(Path(f"metrics/checks/{target}.json"), {**figures, **findings, "p_values": p_values(findings)})
    for name, found in findings.items():
        if found["fails"]:
            warn(f"{target}: check {name} fails: the report says what that means")
    print(f"{target}: {fails} of {len(findings)} checks fail; {pairs.num_rows} near-duplicates across roles")


if __name__ == "__main__":
    run(check, target="a name in the `targets` registry of params.yaml")
