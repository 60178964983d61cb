"""What a defended model is still good for, and what its defence promises."""

from pathlib import Path

import numpy as np
import pandas as pd

from leakgauge.errors import InputError
from studies.common.audits import denoising_loss, read_audits
from studies.common.population import Population, draw_roles, read_population
from studies.common.settings import section
from studies.common.views import read_view, recipe_of
from studies.defences.bound import largest_tpr
from studies.defences.quality import frechet_distance
from studies.defences.settings import Defences, Setting


def utility(setting: Setting, population: Population) -> dict[str, float]:
    """The denoising loss on the holdout, and the Frechet distance between samples and the holdout's images."""
    holdout = setting.audit.roles["holdout"]
    return {
        "holdout_loss": denoising_loss(holdout),
        "frechet": frechet_distance(_samples(setting, population), holdout.inputs.images[:]),
    }


def _samples(setting: Setting, population: Population) -> np.ndarray:
    """What the model drew, (S, H, W, C) uint8.  Raises InputError where it drew nothing."""
    path = Path(f"data/samples/{setting.view}.npy")
    models = [(audit.seed, audit.step) for audit in read_audits(setting.view, population)]
    drawn = np.load(path, allow_pickle=False)[models.index((setting.audit.seed, setting.audit.step))]
    if not len(drawn):
        raise InputError(f"{path}: holds no samples: set views.{setting.view}.samples")
    return drawn.transpose(0, 3, 1, 2)


def floor() -> float:
    """The Frechet distance of real images: auxiliary from holdout, on average over seeds."""
    own, population = section("defences", Defences), read_population()
    shares = recipe_of(own.reference).shares
    drawn = [draw_roles(population.hashes, shares, seed) for seed in own.seeds]
    images = [[population.pixels[roles[role]] for role in ("auxiliary", "holdout")] for roles in drawn]
    return float(np.mean([frechet_distance(*pair) for pair in images]))


def promise(setting: Setting, fpr: float) -> dict[str, float]:
    """The epsilon that the accountant tells, and the largest TPR at an FPR that it allows; NaN without a promise."""
    privacy = recipe_of(setting.view).privacy
    if privacy is None or privacy.epsilon is None:
        return {"epsilon": np.nan, "largest_tpr": np.nan}
    facts = pd.read_csv(f"data/training/{read_view(setting.view).of}.csv")
    spent = facts[(facts["seed"] == setting.audit.seed) & (facts["step"] == setting.audit.step)]["epsilon"].item()
    return {"epsilon": spent, "largest_tpr": float(largest_tpr(spent, privacy.delta, fpr))}
