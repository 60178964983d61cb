"""Who is exposed: the members a bag is surest of, each beside a holdout image with the same score."""

import io

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from stages.presentation.figures import to_png

COLUMNS = 6


def exposed_pairs(verdicts: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` members of the largest margin, each with the holdout image nearest to it in score.

    verdicts : one learner's rows.  Returns image_id, score, p_value and holdout_id, holdout_score, holdout_p_value.
    """
    members = verdicts[verdicts["role"] == "member"].nlargest(count, "margin")
    holdout = verdicts[verdicts["role"] == "holdout"].sort_values("score").reset_index(drop=True)
    distance = np.abs(np.log(holdout["score"].to_numpy()) - np.log(members["score"].to_numpy())[:, None])
    twins = holdout.iloc[distance.argmin(axis=1)]
    pairs = members[["image_id", "score", "p_value"]].reset_index(drop=True)
    for column in ("image_id", "score", "p_value"):
        pairs[f"holdout_{column.removeprefix('image_')}"] = twins[column].to_numpy()
    return pairs


def draw_gallery(pairs: pd.DataFrame, images: dict[str, bytes]) -> bytes:
    """Member above, holdout twin below, `COLUMNS` pairs a row, as PNG.  images : image_id -> PNG."""
    rows = -(-len(pairs) // COLUMNS)
    figure = Figure(figsize=(1.7 * COLUMNS, 4.3 * rows), layout="constrained")
    axes = figure.subplots(2 * rows, COLUMNS, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    for number, pair in enumerate(pairs.itertuples()):
        row, column = divmod(number, COLUMNS)
        _show(axes[2 * row, column], images[pair.image_id], "member", pair.score, pair.p_value, "#D55E00")
        below = axes[2 * row + 1, column]
        _show(below, images[pair.holdout_id], "holdout", pair.holdout_score, pair.holdout_p_value, "#0072B2")
    return to_png(figure)


def _show(axes: Axes, png: bytes, role: str, score: float, p_value: float, colour: str) -> None:
    with Image.open(io.BytesIO(png)) as picture:
        pixels = np.asarray(picture)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(f"{role}\nscore {score:.2g}\np = {p_value:.2g}", fontsize=8, color=colour)
