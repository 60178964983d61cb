"""select: choose the score whose thresholds are learnt, on members and holdout images that are reported nowhere.

A share of both is set apart, by seed and image_id.  Each candidate column is measured on them by one threshold for all
images; the best is what `fit.score: selected` takes.  `evaluate` leaves the images set apart out of every figure.
With `select.share: 0` none is, and nothing is chosen.

data/scores/<target>/{member,holdout}.parquet -> data/selection/<target>.json (the choice, which is all that `fit` is
told), data/selection/<target>.parquet (the images set apart), metrics/selection/<target>.json (what each candidate
reached there)
"""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import pyarrow as pa
from pydantic import Discriminator, Field, NonNegativeInt, Tag

from leakgauge.cli import run
from leakgauge.config import PARAMS, Options, key_name, section
from leakgauge.errors import InputError, warn
from leakgauge.files import write_json
from leakgauge.inference.comparisons import wrong_way_round
from leakgauge.inference.metrics import rank_candidates, selection_split
from leakgauge.tables import check_computed_on, check_target, read_metadata, read_table, write_table

MEASURED = ("member", "holdout")
FEWEST = 20  # images of each role that a choice can rest on
CONFIDENCE = 0.95  # of the intervals of what each candidate reached
SELECTION_SPLIT = pa.schema([("image_id", pa.string()), ("role", pa.string())])


class TPRAtFPR(Options):
    """A criterion: the share of members caught at this false-positive rate."""

    tpr_at_fpr: float = Field(gt=0, lt=1)


# A mapping is the one and anything else the other, so that a fault is told of the one that was meant.
Criterion = Annotated[
    Annotated[Literal["auc"], Tag("auc")] | Annotated[TPRAtFPR, Tag("tpr")],
    Discriminator(lambda value: "tpr" if isinstance(value, dict) else "auc"),
]


class Select(Options):
    """Section `select`."""

    share: float = Field(ge=0, lt=1)  # of members and of holdout that the choice is made on; 0: nothing is chosen
    seed: NonNegativeInt
    criterion: Criterion
    candidates: list[str]  # score columns, or patterns of them like "t_error_*"; []: all


def select(target: str) -> None:
    """Write the choice, the images set apart for it, and what each candidate reached on them."""
    options = section("select", Select, target)
    paths = {role: Path(f"data/scores/{target}/{role}.parquet") for role in MEASURED}
    check_target(paths["holdout"], read_metadata(paths["member"])["target_sha256"], paths["member"])
    check_computed_on(paths["holdout"], read_metadata(paths["member"]), paths["member"])
    columns = _candidates(target, options.candidates, list(read_metadata(paths["member"])["columns"]))
    apart = {role: _selection_split(target, read_table(path), role, options) for role, path in paths.items()}
    figures: dict[str, Any] = {"score": None, "candidates": 0, "members": 0, "holdout": 0}
    if options.share:
        criterion = _criterion(target, options.criterion, apart["holdout"].num_rows)
        frames = {role: table.select(columns).to_pandas() for role, table in apart.items()}
        ranked = rank_candidates(frames["member"], frames["holdout"], criterion, CONFIDENCE)
        figures = _figures(ranked, criterion, apart["member"].num_rows, apart["holdout"].num_rows)
        for name in columns:
            sentence = wrong_way_round(name, *(frames[role][name].to_numpy() for role in MEASURED))
            figures["by_score"][name]["wrong_way_round"] = bool(sentence)
            if sentence:
                warn(f"{target}: {sentence}")
    write_json(Path(f"data/selection/{target}.json"), {"score": figures["score"]})
    write_json(Path(f"metrics/selection/{target}.json"), figures)
    rows = [(name, role) for role in MEASURED for name in apart[role].column("image_id").to_pylist()]
    table = pa.table([[name for name, _ in rows], [role for _, role in rows]], schema=SELECTION_SPLIT)
    write_table(Path(f"data/selection/{target}.parquet"), table, {"target": target})


def _candidates(target: str, patterns: list[str], columns: list[str]) -> list[str]:
    """The columns that any pattern names, in the table's order.  Raises InputError for a pattern that names none."""
    for pattern in patterns:
        if not any(fnmatchcase(column, pattern) for column in columns):
            key = key_name("select", "candidates", target)
            raise InputError(f"{PARAMS}: {key}: no score column is named '{pattern}'; there are {', '.join(columns)}")
    return [column for column in columns if not patterns or any(fnmatchcase(column, p) for p in patterns)]


def _selection_split(target: str, scores: pa.Table, role: str, options: Select) -> pa.Table:
    """The rows that the choice is made on.  Raises InputError if they are too few for one."""
    apart = selection_split(scores.column("image_id").to_pylist(), options.share, options.seed)
    if options.share and not FEWEST <= apart.sum() < len(apart):
        raise InputError(
            f"{PARAMS}: {key_name('select', 'share', target)}: {options.share:g} sets {apart.sum()} of {len(apart)} "
            f"{role} images apart; a choice needs at least {FEWEST}, and some must be left"
        )
    return scores.filter(pa.array(apart))


def _criterion(target: str, criterion: Literal["auc"] | TPRAtFPR, holdout: int) -> float | Literal["auc"]:
    """The criterion as the features have it.  Raises InputError for an FPR that the holdout cannot resolve."""
    if not isinstance(criterion, TPRAtFPR):
        return criterion
    if holdout * criterion.tpr_at_fpr < 1 - 1e-9:
        raise InputError(
            f"{PARAMS}: {key_name('select', 'criterion', target)}.tpr_at_fpr: {criterion.tpr_at_fpr:g} is below what "
            f"{holdout} holdout images set apart resolve, {1 / holdout:.2g}: a larger select.share helps"
        )
    return criterion.tpr_at_fpr


def _figures(ranked: pd.DataFrame, criterion: float | Literal["auc"], members: int, holdout: int) -> dict[str, Any]:
    """What was chosen among how many on how many images, and the figure of each candidate."""
    by_score = ranked.set_index("score").to_dict(orient="index")
    best = str(ranked["score"][0])
    return {
        "score": best,
        "candidates": len(ranked),
        "members": members,
        "holdout": holdout,
        "criterion": criterion if criterion == "auc" else f"tpr_at_fpr_{criterion:g}",
        **by_score[best],
        "by_score": by_score,
    }


if __name__ == "__main__":
    run(select, target="a name in the `targets` registry of params.yaml")
