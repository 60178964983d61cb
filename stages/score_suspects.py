"""score_suspects: every attack's score of a set of images in question, as `score` has them of a role.

data/images/<dataset>.parquet, models/target/<target>/, data/checks/<target>.json
-> data/suspects/<set>/scores.parquet, data/suspects/<set>/null.parquet
"""

from pathlib import Path

from leakgauge.attacks.scorer import Job
from leakgauge.cli import run
from leakgauge.config import condition_of, source_of, suspects_entry
from leakgauge.scoring import Outputs, score_table, take_scores
from leakgauge.tables import read_ids
from stages.score import score_options


def score_suspects(suspects: str) -> None:
    """Write the scores of a set.  In a file of scores its images are called `<set>/<image_id>`."""
    entry = suspects_entry(suspects)
    model, images = Path(f"models/target/{entry.target}"), Path(f"data/images/{entry.images}.parquet")
    scores, null = (Path(f"data/suspects/{suspects}/{name}.parquet") for name in ("scores", "null"))
    out = Outputs(scores, null, {"target": entry.target, "role": "suspect", "suspects": suspects})
    if source_of(entry.target).source == "scores":
        named = [f"{suspects}/{image_id}" for image_id in read_ids(images).to_pylist()]
        take_scores(model / "suspects.parquet", images, named, out)
        return
    condition = condition_of(entry.target).model_copy(update={"tells": {}})  # of the suspects: `suspects` looks at it
    job = Job(entry.target, model, images, score_options(entry.target))
    score_table(f"score_suspects@{suspects}", job, out, condition)


if __name__ == "__main__":
    run(score_suspects, suspects="a name in the `suspects` registry of params.yaml")
