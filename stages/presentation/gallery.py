"""Who is exposed: the members a bag is surest of, each beside a holdout image with the same score."""

import io

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from stages.presentation.look import to_png

COLUMNS = 6


def exposed_pairs(verdicts: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` members of the largest margin among those whose score is at least the lowest holdout score, each
    with the holdout image nearest to it in score; every holdout image at most once.

    verdicts : one learner's rows.  Returns image_id, score, p_value and holdout_id, holdout_score, holdout_p_value;
    no rows where all members score below all holdout images.
    """
    columns = ["image_id", "score", "p_value"]
    holdout = verdicts.loc[verdicts["role"] == "holdout", columns].reset_index(drop=True)
    shared = (verdicts["role"] == "member") & (verdicts["score"] >= holdout["score"].min())
    members = verdicts[shared].nlargest(count, "margin")[columns].reset_index(drop=True)
    distance = np.abs(np.log(holdout["score"].to_numpy()) - np.log(members["score"].to_numpy())[:, None])
    twins = []
    for row in range(min(len(members), len(holdout))):
        twins.append(int(distance[row].argmin()))
        distance[:, twins[-1]] = np.inf  # taken
    pairs = holdout.iloc[twins].reset_index(drop=True)
    pairs.columns = ["holdout_id", "holdout_score", "holdout_p_value"]
    return pd.concat([members[: len(twins)], pairs], axis=1)


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
