"""What the page shows of the suspects: their p-values, and those of them that the bag is surest of."""

from typing import Any

import numpy as np
import pandas as pd

from stages.presentation.look import COLOURS, GREY, new_axes, to_png

SHOWN = 24  # suspects on the page, from the lowest p-value


def draw_p_values(verdicts: pd.DataFrame, resolution: float) -> bytes:
    """PNG: the share of distinct suspects with a p-value up to each level.  resolution : the lowest there can be."""
    p_values = np.sort(verdicts.loc[verdicts["distinct"], "p_value"])
    figure, axes = new_axes("p-value", "Share of the suspects with at most this p-value")
    levels = np.geomspace(resolution, 1, 200)
    axes.plot(levels, levels, color=GREY, linestyle=":", label="if none was used")
    shares = np.searchsorted(p_values, levels, side="right") / len(p_values)
    axes.plot(levels, shares, color=COLOURS[0], drawstyle="steps-post", label="suspects")
    axes.set(xscale="log", xlim=(resolution, 1), ylim=(0, 1.02))
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    return to_png(figure)


def surest(verdicts: pd.DataFrame, images: dict[str, bytes]) -> list[dict[str, Any]]:
    """The suspects of the lowest p-values: their verdicts, and `png`.  images : image_id -> PNG."""
    rows = verdicts.sort_values(["p_value", "image_id"]).head(SHOWN).to_dict(orient="records")
    return [{**row, "png": images[row["image_id"]]} for row in rows]
