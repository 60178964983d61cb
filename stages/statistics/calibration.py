"""Error rates that hold whatever the learner got wrong: conformal p-values from out-of-bag margins.

Every auxiliary image was left out of some attackers' resamples.  The margin that those attackers give it is an honest
draw of a non-member's margin; a new image is as suspicious as it is rare among them.

Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005, for the p-value; Kim, Xu & Barber,
NeurIPS 2020, for out-of-bag calibration: not the exact guarantee of a set kept apart, since a margin that fewer
attackers vote on is a little noisier, but it costs no auxiliary image, and the noise tends to the safe side.
"""

import numpy as np


def conformal_p_values(margin: np.ndarray, non_members: np.ndarray) -> np.ndarray:
    """p-value of each image for "not a member": (1 + #{non-members at least as member-like}) / (n + 1).

    margin : (N,) of the images asked about.  non_members : (n,) honest margins of non-members.  Returns (N,).
    """
    below = np.searchsorted(np.sort(non_members), margin, side="left")
    return (1 + len(non_members) - below) / (len(non_members) + 1)
