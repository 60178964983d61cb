"""score_suspects: every attack's score of a set of images in question, as `score` has them of a role.

data/images/<dataset>.parquet, models/target/<target>/, models/base/<target>/, data/checks/<target>.json
-> data/suspects/<set>/scores.parquet, data/suspects/<set>/null.parquet
"""

from pathlib import Path

from leakgauge.attacks.given import Outputs, take_scores
from leakgauge.cli import run
from leakgauge.config import role_leaks, source_of, suspects_entry
from leakgauge.errors import InputError
from leakgauge.tables import read_ids


def score_suspects(suspects: str) -> None:
    """Write the scores of a set.  In a file of scores its images are called `<set>/<image_id>`."""
    entry = suspects_entry(suspects)
    model, images = Path(f"models/target/{entry.target}"), Path(f"data/images/{entry.images}.parquet")
    scores, null = (Path(f"data/suspects/{suspects}/{name}.parquet") for name in ("scores", "null"))
    out = Outputs(scores, null, {"target": entry.target, "role": "suspect", "suspects": suspects})
    if source_of(entry.target).source == "scores":
        given, named = model / "suspects.parquet", [f"{suspects}/{name}" for name in read_ids(images).to_pylist()]
        strange = {name for name in read_ids(given).to_pylist() if name.startswith(f"{suspects}/")} - set(named)
        if strange:
            raise InputError(
                f"{given}: {len(strange)} rows of set {suspects} are of no image of {images}, the first is image_id "
                f"'{min(strange)}'"
            )
        take_scores(given, images, named, out)
        return
    from leakgauge.attacks.scorer import Job  # which takes seconds, and given scores do not need it
    from leakgauge.scoring import base_of, runs_code, score_options, score_table

    of_roles = role_leaks(entry.target).model_copy(update={"leaks": {}})  # of the suspects: `suspects` looks at it
    job = Job(entry.target, model, images, score_options(entry.target), base_of(entry.target), runs_code(entry.target))
    score_table(f"score_suspects@{suspects}", job, out, of_roles)


if __name__ == "__main__":
    run(score_suspects, suspects="a name in the `suspects` registry of params.yaml")
