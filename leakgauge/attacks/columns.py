"""The score columns that the attacks make, without torch: their names, definitions and network calls."""

from fnmatch import fnmatchcase

import numpy as np

from leakgauge.config import PARAMS, key_name
from leakgauge.errors import InputError
from leakgauge.options import Attacks
from leakgauge.tables import BASE, RATIO, base_columns

Columns = dict[str, dict[str, str | int]]  # name -> definition and network calls an image, as if computed alone
NETWORKS = 3  # that have learnt nothing: what one of them cannot tell, another may
NETWORK_COLUMNS = [f"network_{number}" for number in range(NETWORKS)]


def score_columns(attacks: Attacks) -> Columns:
    """The columns of a table of scores, in its order."""
    k = attacks.t_error.interval
    columns: Columns = {}
    for t in attacks.t_error.timesteps:
        walk = f"sum (x_t - back)^2 after one DDIM move {t} -> {t + k} -> {t}, walked from 0 by {k}"
        columns[f"t_error_t{t}"] = {"definition": walk, "network_calls": t // k + 2}
    for t in attacks.pia:
        columns[f"pia_t{t}"] = {"definition": "sum |e0 - epsilon(x_t, t)|^4, x_t from e0", "network_calls": 2}
    for t in attacks.pian:
        columns[f"pian_t{t}"] = {"definition": "pia with e0 rescaled to mean |e0|", "network_calls": 2}
    for t in attacks.naive_loss:
        columns[f"loss_t{t}"] = {"definition": "sum (n - epsilon(x_t, t))^2, x_t from n", "network_calls": 1}
    for t in attacks.sima:
        columns[f"sima_t{t}"] = {"definition": "sum epsilon(x_0, t)^4", "network_calls": 1}
    for t in attacks.rediffuse.timesteps:
        draws, stride = attacks.rediffuse.draws, attacks.rediffuse.stride
        mean = f"sum (x_0 - mean)^2 of {draws} variations: noised to {t}, back to 0 by DDIM moves of {stride}"
        columns[f"rediffuse_t{t}"] = {"definition": mean, "network_calls": draws * (t // stride)}
    return columns


def with_base(columns: Columns) -> Columns:
    """The columns of a table of scores whose target has a base: all scores, all under the base, and all ratios."""
    under: Columns = {
        f"{name}{BASE}": {**facts, "definition": f"{name} under the base"} for name, facts in columns.items()
    }
    ratios: Columns = {
        f"{name}{RATIO}": {"definition": f"{name} / {name}{BASE}", "network_calls": 2 * int(facts["network_calls"])}
        for name, facts in columns.items()
    }
    return {**columns, **under, **ratios}


def beside_base(scores: np.ndarray, under_base: np.ndarray) -> np.ndarray:
    """The values of `with_base`'s columns.  scores, under_base : (N, columns) float64.  Returns (N, 3 * columns)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.concatenate([scores, under_base, scores / under_base], axis=1)


def problem(attacks: Attacks, num_train_timesteps: int | None = None) -> str | None:
    """The option that cannot be answered, and why; None if there is none.

    num_train_timesteps : of the target; None: it is not known yet.
    """
    grid, end = attacks.t_error, float("inf") if num_train_timesteps is None else num_train_timesteps - 1
    if grid.last % grid.interval:
        return f"t_error.last: {grid.last} is off the grid of interval {grid.interval}"
    if grid.last + grid.interval > end:
        return f"t_error.last: {grid.last} + interval {grid.interval} is beyond the target's last timestep, {end}"
    single = {name: getattr(attacks, name) for name in ("pia", "pian", "naive_loss", "sima")}
    for name, timesteps in (single | {"rediffuse.timesteps": attacks.rediffuse.timesteps}).items():
        if len(set(timesteps)) < len(timesteps):
            return f"{name}: duplicate timestep in {timesteps}"
        if timesteps and max(timesteps) > end:
            return f"{name}: timestep {max(timesteps)} is beyond the target's last, {end}"
    for t in attacks.rediffuse.timesteps:
        if t % attacks.rediffuse.stride:
            return f"rediffuse.timesteps: {t} is no multiple of the stride, {attacks.rediffuse.stride}"
    return None


def choose(target: str, patterns: list[str], columns: list[str]) -> list[str]:
    """The score columns that `fit.scores` names, in its order.  Raises InputError for a pattern that names none.

    Scores under a base are what learners see, and none of what they learn; a ratio is learnt where a pattern says so.
    """
    found: dict[str, None] = {}
    under = base_columns(columns)
    ratios = [f"{name.removesuffix(BASE)}{RATIO}" for name in under]
    for pattern in patterns:
        learnable = [name for name in columns if name not in under and (name not in ratios or pattern.endswith(RATIO))]
        matching = [column for column in learnable if fnmatchcase(column, pattern)]
        if not matching:
            raise InputError(
                f"{PARAMS}: {key_name('fit', 'scores', target)}: no score column '{pattern}'; there are "
                f"{', '.join(columns)}"
            )
        found |= dict.fromkeys(matching)
    return list(found)
