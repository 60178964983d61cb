"""Is a score the wrong way round?  Lower must mean more member-like; of a confidence the opposite is true."""

import numpy as np

from stages.statistics.roc import auc

CONFIDENCE = 0.999  # of the AUC's interval: where nothing leaks, one warning in two thousand scores


def higher_for_members(member: np.ndarray, holdout: np.ndarray) -> tuple[float, float, float] | None:
    """The AUC and its interval where that lies below 0.5; else None.

    member, holdout : (M,) and (N,) scores, lower is more member-like.  None as well where either has no image.
    """
    if not min(len(member), len(holdout)):
        return None
    area, low, high = auc(-member, -holdout, CONFIDENCE)
    return (area, low, high) if high < 0.5 else None


def wrong_way_round(name: str, member: np.ndarray, holdout: np.ndarray) -> str | None:
    """What to tell of a score that is higher for members, and what to do; None of any other.  See above."""
    if not (found := higher_for_members(member, holdout)):
        return None
    return (
        f"score {name} is higher for members than for others, AUC {said(found)}: lower must mean more member-like; "
        "of a confidence c hand over exp(-c)"
    )


def said(area: tuple[float, float, float]) -> str:
    """`0.069 (0.050 to 0.090)`."""
    return "{:.3f} ({:.3f} to {:.3f})".format(*area)
