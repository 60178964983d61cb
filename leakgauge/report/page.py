"""The page: metrics/report.html, with its pictures inside.  It needs no network, no script and no other file.

First the verdict on each target, then the evidence, then an appendix; the last two are folded, and open in print.
"""

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from leakgauge.options import HubPipeline, Source
from leakgauge.report.copies import CopiesShown
from leakgauge.report.verdict import (
    IDENTIFIES,
    SET_TITLES,
    TITLES,
    Verdict,
    ceiling_sentences,
    checks_sentence,
    epsilon_sentence,
    false_alarms,
    gain_sentence,
    lower_bound_alone,
    p_text,
    percent,
    supervised_sentence,
    worst_sentence,
)
from leakgauge.report.words import GLOSSARY, CheckRow

TEMPLATES = Path(__file__).parent
THUMBNAIL, SHEET = 96, 640  # pixels, of the longer side


@dataclass(frozen=True)
class TargetPage:
    """What the page says of one target."""

    target: str
    verdict: Verdict
    source: Source  # where it comes from
    hub: HubPipeline | None  # the repository on the Hub that it was taken from
    base: str | None  # what its scores are judged beside, in words
    roles: dict[str, dict]  # role -> how its images were drawn, and how many
    facts: dict[str, Any]  # figures, results, bags and options as `evaluate` left them
    checks: list[CheckRow]
    figures: dict[str, str]  # name -> SVG
    exposed: list[dict[str, Any]]  # rows of `exposed_members`, with `png` and `holdout_png`
    samples: bytes  # PNG of what the target generates
    taken: dict[str, Any]  # files of the target that were not taken, and values that diffusers filled in
    sets: list[dict[str, Any]]  # of suspects: name, figures, checks, options, plot (SVG), and suspects of low p-value
    left_out: list[str]  # what the readers of the images and the suspects did not take, a sentence each
    copies: CopiesShown | None  # among what it generates, where samples were asked for

    @property
    def headline(self) -> str:
        """The judge behind the verdict."""
        return self.verdict["judge"]


@dataclass(frozen=True)
class Made:
    """When the page was made, and of what."""

    date: str
    version: str  # of leakgauge
    commit: str | None  # the last one that changed parameters or code
    changed: list[str]  # what differs from the commit, of parameters and code


def render(pages: list[TargetPage], params: str, made: Made) -> str:
    """The report as HTML.  params : the text of params.yaml."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    filters: dict[str, Any] = {
        "percent": percent,
        "probability": _probability,
        "p_text": p_text,
        "data_uri": _data_uri,
        "svg_uri": _svg_uri,
        "anchor": _anchor,
    }
    environment.filters |= filters
    environment.globals |= {
        "glossary": GLOSSARY,
        "titles": TITLES,
        "set_titles": SET_TITLES,
        "identifies": IDENTIFIES,
        "gain_sentence": gain_sentence,
        "false_alarms": false_alarms,
        "ceiling_sentences": ceiling_sentences,
        "checks_sentence": checks_sentence,
        "epsilon_sentence": epsilon_sentence,
        "supervised_sentence": supervised_sentence,
        "worst_sentence": worst_sentence,
        "lower_bound_alone": lower_bound_alone,
    }
    return environment.get_template("page.html.jinja").render(pages=pages, params=params, made=made)


def _probability(value: float) -> str:
    """0.01234 -> '0.012'; below a billionth only that."""
    return f"{value:.2g}" if value >= 1e-9 else "less than 1e-9"


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _svg_uri(svg: str) -> str:
    """A figure as a picture: nothing in it can run, whatever a name in it says."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _anchor(word: str) -> str:
    return "word-" + re.sub(r"\W+", "-", word.lower())


def shrunk(png: bytes, side: int) -> bytes:
    """PNG of at most so many pixels a side: the page stays small."""
    with Image.open(io.BytesIO(png)) as picture:
        if max(picture.size) <= side:
            return png
        picture.thumbnail((side, side))
        stream = io.BytesIO()
        picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def exposed_members(verdicts: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` members of the largest membership score, each with the holdout image nearest to it in score.

    verdicts : one judge's rows.  Returns its columns, and `holdout_id`, `holdout_score` and `holdout_p_value`: every
    holdout image at most once, and NaN where a member's score is lower than all of theirs.
    """
    holdout = verdicts[verdicts["role"] == "holdout"].reset_index(drop=True)
    ranked = verdicts[verdicts["role"] == "member"].sort_values(
        ["p_value", "membership_score", "image_id"], ascending=[True, False, True]
    )
    members = ranked.head(count).reset_index(drop=True)
    twins = pd.DataFrame(index=members.index, columns=["holdout_id", "holdout_score", "holdout_p_value"], dtype=object)
    if not len(holdout):
        return members.join(twins)
    left = holdout[["image_id", "score", "p_value"]]
    for row in members.index[members["score"] >= holdout["score"].min()]:
        if not len(left):
            break
        distance = np.abs(np.log(left["score"].to_numpy()) - np.log(members["score"][row]))
        nearest = left.index[int(distance.argmin())]
        twins.loc[row] = left.loc[nearest].to_list()
        left = left.drop(nearest)
    return members.join(twins)


SHOWN = 24  # suspects on the page, from the lowest p-value


def most_confident(verdicts: pd.DataFrame, images: dict[str, bytes]) -> list[dict[str, Any]]:
    """The suspects of the lowest p-values: their verdicts, and `png`.  images : image_id -> PNG."""
    rows = verdicts.sort_values(["p_value", "image_id"]).head(SHOWN).to_dict(orient="records")
    return [{**row, "png": shrunk(images[row["image_id"]], THUMBNAIL)} for row in rows]
