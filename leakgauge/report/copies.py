"""What the page says of copies among what a target generates."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakgauge.report.verdict import percent


@dataclass(frozen=True)
class CopiesShown:
    """A sentence, the figures behind it, and the sheet of samples beside members."""

    sentence: str
    figures: dict[str, Any]
    sheet: bytes  # PNG


def copies_shown(target: str) -> CopiesShown | None:
    """What stage `copies` found of a target; None where it generated nothing, or has not run."""
    path = Path(f"metrics/copies/{target}.json")
    figures = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"samples": 0}
    if not figures["samples"]:
        return None
    return CopiesShown(copies_sentence(figures), figures, Path(f"metrics/samples/copies/{target}.png").read_bytes())


def copies_sentence(figures: dict[str, Any]) -> str:
    """The answer in a sentence."""
    samples = f"{figures['samples']} samples"
    if not figures["members_copied"]:
        return f"Among {samples} no copy of a training image is named."
    return (
        f"{figures['copies']} of {samples} ({percent(figures['share'])} %; {percent(figures['share_low'])} to "
        f"{percent(figures['share_high'])} %) are copies, of {figures['members_copied']} training images."
    )
