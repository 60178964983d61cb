"""score: every attack's score of every image of one role, under the target.  Lower means more member-like.

The images are read shard by shard, and each shard is on disk as soon as it is scored; a run that was killed goes on
after its last one.  Where a target is no more than scores from elsewhere, these are taken as they are.

For the null check some images are also scored under networks of the target's make that have learnt nothing.  Nothing is
scored where the target answers by labels or captions and these tell the role.

Where the target has a base, each score stands there under the base too, and as the ratio of both.

models/target/<target>/, models/base/<target>/, data/checks/<target>.json, data/roles/<target>/<role>.parquet
-> data/scores/<target>/<role>.parquet, data/null/<target>/<role>.parquet
"""

from pathlib import Path

from leakgauge.attacks.given import Outputs, take_scores
from leakgauge.cli import run
from leakgauge.config import role_leaks, source_of
from leakgauge.tables import read_ids


def score(target: str, role: str) -> None:
    """Write the tables of a role."""
    model, images = Path(f"models/target/{target}"), Path(f"data/roles/{target}/{role}.parquet")
    scores, null = (Path(f"data/{folder}/{target}/{role}.parquet") for folder in ("scores", "null"))
    out = Outputs(scores, null, {"target": target, "role": role})
    if source_of(target).source == "scores":
        take_scores(model / "scores.parquet", images, read_ids(images).to_pylist(), out)
        return
    from leakgauge.attacks.scorer import Job  # which takes seconds, and given scores do not need it
    from leakgauge.scoring import base_of, runs_code, score_options, score_table

    job = Job(target, model, images, score_options(target), base_of(target), runs_code(target))
    score_table(f"score@{target}-{role}", job, out, role_leaks(target))


if __name__ == "__main__":
    run(score, target="a name in the `targets` registry of params.yaml", role="member, auxiliary or holdout")
