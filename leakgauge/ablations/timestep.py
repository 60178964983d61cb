"""Which timestep tells members: one threshold for all, and one for each image, on the t-error of every step."""

import numpy as np
import pandas as pd

from leakgauge.bags import BagRunner, Named
from leakgauge.inference.metrics import POWER, Evaluate, power

ONE_FOR_ALL = "one threshold for all"
COLUMNS = ["learner", "timestep", *POWER]


def t_error(timestep: int) -> str:
    """The score column of the t-error at a timestep."""
    return f"t_error_t{timestep}"


def measure(runner: BagRunner, learner: Named, size: int, timesteps: list[int], asked: Evaluate) -> pd.DataFrame:
    """AUC, and TPR at the curves' FPR, by timestep.  One bag learns them all at once.  Columns: `COLUMNS`."""
    timesteps = sorted(set(timesteps))
    columns = [t_error(timestep) for timestep in timesteps]
    all_rows = np.arange(len(runner.roles["auxiliary"]))
    bag = runner.fit(learner, size, columns, all_rows, "sweep timesteps")
    rows = []
    for number, timestep in enumerate(timesteps):
        scores = {role: runner.roles[role].log_scores[columns[number]] for role in ("member", "holdout")}
        one_for_all = power(-scores["member"], -scores["holdout"], asked.curve_fpr, asked.confidence)
        rows.append({"learner": ONE_FOR_ALL, "timestep": timestep, **one_for_all})
        membership_score = bag.judge(number).membership_score
        conditional = power(membership_score["member"], membership_score["holdout"], asked.curve_fpr, asked.confidence)
        rows.append({"learner": learner.name, "timestep": timestep, **conditional})
    return pd.DataFrame(rows, columns=COLUMNS)
