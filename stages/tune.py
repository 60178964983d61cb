"""tune: which shortcuts the target bears.  Each makes scoring faster and moves scores a little.

The first auxiliary images are scored in plain float32, and with each shortcut that is asked for on top of those that
were kept before it; one that moves any score by more than the tolerance, or fails, is dropped with a warning.  This is
decided once for a target: were it decided role by role, members could be scored otherwise than non-members, and the
difference would look like leakage.

models/target/<target>/, data/roles/<target>/auxiliary.parquet -> data/tuning/<target>.json (what was decided, nothing
else: the scores are computed again when that changes), metrics/tuning/<target>.json (how far each moves a score)
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import PositiveFloat

from leakgauge.attacks.registry import Score
from leakgauge.cli import run
from leakgauge.compute import best_device
from leakgauge.config import Options, section, target_entry
from leakgauge.diffusion.denoiser import PLAIN, Shortcuts
from leakgauge.errors import warn
from leakgauge.files import write_json
from leakgauge.scoring import Job, Scorer

TRIED_ON = 32  # images


class Tune(Options):
    """Section `tune`."""

    channels_last: bool
    precision: Literal["float32", "tf32", "bfloat16"]
    compile: bool
    tolerance: PositiveFloat  # relative, of any score of any image


def tune(target: str) -> None:
    """Write the shortcuts that are kept, and how far each that was asked for moves a score."""
    options = section("tune", Tune, target)
    asked = _asked(options) if target_entry(target).source != "scores" else {}
    plain = _scores(target, PLAIN) if asked else np.empty(0)
    kept, moved = PLAIN, {}
    for name, value in asked.items():
        tried = kept.model_copy(update={name: value})
        moved[name] = _moved_by(target, name, tried, plain)
        if moved[name] <= options.tolerance:
            kept = tried
        elif np.isfinite(moved[name]):
            warn(
                f"{target}: {name} moves a score by {moved[name]:.2g} of itself, more than tune.tolerance "
                f"{options.tolerance:g}: dropped"
            )
    write_json(Path(f"data/tuning/{target}.json"), kept.model_dump())
    figures = {
        name: {"kept": getattr(kept, name) == asked[name], "moves_scores_by": by if np.isfinite(by) else None}
        for name, by in moved.items()
    }
    device = {"device": best_device().type}  # another kind has other shortcuts, and moves scores otherwise
    write_json(Path(f"metrics/tuning/{target}.json"), {**device, "tolerance": options.tolerance, **figures})


def _asked(options: Tune) -> dict[str, Any]:
    """The shortcuts that are asked for, those first that every machine has."""
    asked = options.model_dump(exclude={"tolerance"})
    if options.precision == "tf32" and best_device().type == "cpu":
        warn("tune.precision: tf32 does nothing on a CPU, and what it does elsewhere cannot be tried here: dropped")
        asked.pop("precision")
    return {name: value for name, value in asked.items() if value != getattr(PLAIN, name)}


def _moved_by(target: str, name: str, tried: Shortcuts, plain: np.ndarray) -> float:
    """The largest relative difference that a shortcut makes; infinite, with a warning, where it does not work here."""
    try:
        scores = _scores(target, tried)
    except (RuntimeError, MemoryError) as error:  # no compiler, an operation without that precision, too little memory
        why = str(error).partition("\n")[0]
        warn(f"{target}: {name} does not work here: dropped: {type(error).__name__}: {why}")
        return np.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.where(scores == plain, 0.0, np.abs(scores - plain) / np.abs(plain))
    return float(np.nan_to_num(moved, nan=np.inf).max())


def _scores(target: str, shortcuts: Shortcuts) -> np.ndarray:
    """The scores of the first auxiliary images, (N, columns)."""
    options = section("score", Score, target)
    model, images = Path(f"models/target/{target}"), Path(f"data/roles/{target}/auxiliary.parquet")
    scorer = Scorer(Job(target, model, images, options, shortcuts), best_device())
    return scorer.score(scorer.read(0, TRIED_ON))


if __name__ == "__main__":
    run(tune, target="a name in the `targets` registry of params.yaml")
