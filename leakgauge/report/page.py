"""The page: metrics/report.html, with its pictures inside."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from leakgauge.options import HubPipeline, Source
from leakgauge.report.style import to_png
from leakgauge.report.verdict import Verdict

TEMPLATES = Path(__file__).parent


@dataclass(frozen=True)
class TargetPage:
    """What the page says of one target."""

    target: str
    verdict: Verdict
    source: Source  # where it comes from
    hub: HubPipeline | None  # the repository on the Hub that it was taken from
    roles: dict[str, dict]  # role -> how its images were drawn, and how many
    facts: dict[str, Any]  # figures, results, bags and options as `evaluate` left them
    checks: dict[str, Any]  # check -> what it found, as `check` left it; the null check as `null_check_<role>`
    fails: int  # how many of them fail
    headline: str  # the judge behind the short answer and the gallery
    figures: dict[str, bytes]  # name -> PNG of a curve
    exposed: bytes | None  # PNG of the most exposed members; None where no holdout image has such a score
    samples: bytes  # PNG of what the target generates
    taken: dict[str, Any]  # files of the target that were not taken, and values that diffusers filled in
    sets: list[dict[str, Any]]  # of suspects: name, figures, checks, options, plot (PNG), and suspects of low p-value
    left_out: list[str]  # what the readers of the images and the suspects did not take, a sentence each


def render(pages: list[TargetPage], params: str) -> str:
    """The report as HTML.  params : the text of params.yaml."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"percent": _percent, "probability": _probability, "data_uri": _data_uri}
    return environment.get_template("page.html.jinja").render(pages=pages, params=params)


def _percent(rate: float) -> str:
    """0.01234 -> '1.2', 0.1 -> '10', in percent; rates below 1 % keep two digits."""
    value = round(100 * rate, 1 if rate >= 0.01 else 9)
    return f"{value:g}" if value >= 1 else f"{value:.2g}"


def _probability(value: float) -> str:
    """0.01234 -> '0.012'; below a billionth only that."""
    return f"{value:.2g}" if value >= 1e-9 else "less than 1e-9"


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


COLUMNS = 6


def exposed_pairs(verdicts: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` members of the largest membership score among those whose score is at least the lowest holdout
    score, each with the holdout image nearest to it in score; every holdout image at most once.

    verdicts : one learner's rows.  Returns image_id, score, p_value and holdout_id, holdout_score, holdout_p_value;
    no rows where all members score below all holdout images.
    """
    columns = ["image_id", "score", "p_value"]
    holdout = verdicts.loc[verdicts["role"] == "holdout", columns].reset_index(drop=True)
    shared = (verdicts["role"] == "member") & (verdicts["score"] >= holdout["score"].min())
    members = verdicts[shared].nlargest(count, "membership_score")[columns].reset_index(drop=True)
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
