"""What a bag makes of the images it is asked about: margins and p-values."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stages.statistics.calibration import conformal_p_values
from stages.statistics.vote import bag_margin, drawn_voters


@dataclass(frozen=True)
class Judgement:
    """One bag on one target.  Dictionaries go by role, `member`, `holdout` or `suspect`."""

    z: dict[str, np.ndarray]  # (N, B) normal scores
    margin: dict[str, np.ndarray]  # (N,) of all attackers; higher is more member-like
    matched: dict[str, np.ndarray]  # (N,) of as many attackers as vote on a calibrating image: behind the p-values
    p_value: dict[str, np.ndarray]  # (N,) of "not a member"
    non_members: np.ndarray  # (n,) margins of the auxiliary images behind the p-values
    calibration_by: str  # "kept apart": nothing was learnt from these images; "out of bag": see `calibration`

    @property
    def calibration_size(self) -> int:
        """n: no p-value is below 1 / (n + 1)."""
        return len(self.non_members)


def judge(
    z: dict[str, np.ndarray], auxiliary: Iterable[np.ndarray], unseen: np.ndarray, calibrates: np.ndarray
) -> Judgement:
    """Margins and p-values of the images of each role, as `calibration` says.

    z : role -> (N, B) normal scores.  auxiliary : pieces of (n, B) normal scores.  unseen : (n, B) out-of-bag mask.
    calibrates : (n,) bool, the auxiliary images whose margins the p-values come from; of these an image that every
    attacker saw says nothing and is left out.
    """
    margin = {role: bag_margin(scores) for role, scores in z.items()}
    honest = calibrates & unseen.any(axis=1)
    non_members = honest_margins(auxiliary, unseen, honest)
    matched = {role: bag_margin(scores, drawn_voters(scores, unseen[honest])) for role, scores in z.items()}
    p_value = {role: conformal_p_values(values, non_members) for role, values in matched.items()}
    apart = not calibrates.all() and unseen[calibrates].all()
    return Judgement(z, margin, matched, p_value, non_members, "kept apart" if apart else "out of bag")


def honest_margins(pieces: Iterable[np.ndarray], unseen: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The margins of auxiliary images by those attackers that never saw them, (n',) or (n', K).

    pieces : of (n, B) normal scores, or (n, B, K).  unseen : (n, B) bool.  wanted : (n,) bool, n' of the images.
    """
    margins, end = [], 0
    for z in pieces:
        here = slice(end, end := end + len(z))
        margins.append(bag_margin(z[wanted[here]], unseen[here][wanted[here]]))
    return np.concatenate(margins)
