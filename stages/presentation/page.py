"""The page: one HTML file, images inside, nothing fetched from anywhere."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent


@dataclass(frozen=True)
class TargetPage:
    """What the page says of one target."""

    target: str
    entry: Any  # its entry in the registry
    roles: dict[str, dict]  # role -> how its images were drawn, and how many
    facts: dict[str, Any]  # figures, judgements, bags and options as `evaluate` left them
    guards: dict[str, Any]  # what each guard found, as `guard` left it
    check: dict[str, Any]  # what the target is told, and the null check, as `check` left them
    selection: dict[str, Any]  # the score chosen, among how many, on how many images, as `select` left it
    surest: str  # the judgement behind the gallery
    figures: dict[str, bytes]  # name -> PNG of a curve
    exposed: bytes | None  # PNG of the most exposed members; None where no holdout image has such a score
    samples: bytes  # PNG of what the target generates
    taken: dict[str, Any]  # files of the target that were not taken, and values that diffusers filled in
    inference: dict[str, Any]  # what `infer` found of the suspects as a set, and how it was asked
    suspects: list[dict[str, Any]]  # verdicts of the surest, each with its `png`
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
