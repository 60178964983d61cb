"""An audit whose auxiliary images are shifted: scored and described anew, judged with and without weights."""

from typing import Any

import numpy as np

from leakgauge.bags import Fitted, Scored
from leakgauge.checks.blind import Blind, blind_check
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.features import named_features
from leakgauge.inference.conformal import effective_size, weighted_p_values
from leakgauge.inference.metrics import named_rate
from leakgauge.inference.roc import exact_rate
from leakgauge.options import TErrorGrid
from leakgauge.quantile.inputs import Inputs
from leakgauge.tables import pixel_hash
from studies.common.population import Population
from studies.common.scoring import score_images
from studies.common.settings import Measure
from studies.common.views import View
from studies.mismatch.density_ratio import density_ratio
from studies.mismatch.shifts import SHIFTS

ASKED = ("member", "holdout")  # those asked about: nobody knows which is which


def shift_auxiliary(
    roles: dict[str, Scored], shift: str, strength: float, seed: int, target: Denoiser, view: View, of: Population
) -> dict[str, Scored]:
    """The same roles, the auxiliary images shifted, with the t-errors that the target gives them.

    of : the images; only their classes are looked at.
    """
    before = roles["auxiliary"]
    classes = dict(zip(of.hashes.tolist(), of.labels.tolist(), strict=True))
    labels = np.array([classes[digest] for digest in before.hashes.tolist()])
    rng = np.random.default_rng([seed, list(SHIFTS).index(shift)])
    pixels, left = SHIFTS[shift](before.inputs.images[:], labels, strength, rng)
    pixels, ids = pixels[left], of.ids[[of.hashes.tolist().index(digest) for digest in before.hashes[left].tolist()]]
    features = np.stack(list(named_features(pixels).values()), axis=1)
    hashes = np.array([pixel_hash(image) for image in pixels.transpose(0, 2, 3, 1)])
    shifted = Population(ids, pixels, labels[left], hashes, features, of.names)
    scores = score_images(target, shifted, np.arange(len(pixels)), view, f"{shift} {strength:g}")
    log_scores = {name: np.log(values) for name, values in scores.items()}
    distinct = np.sort(np.unique(hashes, return_index=True)[1])  # two patches of a photograph may be copies
    return roles | {"auxiliary": Scored(Inputs(pixels, features), hashes, log_scores)[distinct]}


def only_t_error(view: View, last: int) -> View:
    """The view without any score but the t-errors up to `last`."""
    grid = TErrorGrid(interval=view.t_error.interval, last=last)
    none = view.rediffuse.model_copy(update={"timesteps": []})
    empty = {"pia": [], "pian": [], "naive_loss": [], "sima": [], "rediffuse": none}
    return view.model_copy(update={"t_error": grid, **empty})


def blind(roles: dict[str, Scored], confidence: float, permutations: int, seed: int) -> Blind:
    """Are auxiliary images told from those asked about, without the target?"""
    asked = np.concatenate([roles[role].inputs.features[:] for role in ASKED])
    found = blind_check(roles["auxiliary"].inputs.features[:], asked, confidence, permutations, seed)
    assert found is not None, "a bag needs more images than the check"
    return found


def judged(fitted: Fitted, roles: dict[str, Scored], seed: int, measure: Measure) -> list[dict[str, Any]]:
    """Realised FPR and TPR of calibrated verdicts at each alpha, plain and weighted: a row each."""
    result, out_of_bag = fitted.judge(), fitted.out_of_bag.any(axis=1)
    asked = np.concatenate([roles[role].inputs.features[:] for role in ASKED])
    theirs, weight = density_ratio(roles["auxiliary"].inputs.features[:], asked, seed)
    weights = dict(zip(ASKED, np.split(weight, [len(roles["member"])]), strict=True))
    p_values = {"plain": result.p_value, "weighted": {}}
    for role in ASKED:
        honest = result.non_members, theirs[out_of_bag]
        p_values["weighted"][role] = weighted_p_values(result.matched[role], weights[role], *honest)
    sizes = {"plain": float(out_of_bag.sum()), "weighted": effective_size(theirs[out_of_bag])}
    rows = []
    for calibration, p_value in p_values.items():
        for alpha in measure.alphas:
            row: dict[str, Any] = {"calibration": calibration, "alpha": alpha, "effective_size": sizes[calibration]}
            for name, role in {"realised_fpr": "holdout", "tpr": "member"}.items():
                flagged = p_value[role] <= alpha
                row |= named_rate(name, exact_rate(int(flagged.sum()), len(flagged), measure.confidence))
            rows.append(row)
    return rows
