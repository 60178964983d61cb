"""Power and loss against the size of an attacker."""

import pandas as pd

from leakgauge.report.style import to_png
from studies.common.figures import against
from studies.common.settings import Measure


def draw(rows: pd.DataFrame, asked: Measure) -> bytes:
    """PNG.  rows : metrics/width.csv."""
    labels = {"tpr": f"TPR at {100 * asked.fpr:g} % FPR", "auc": "AUC", "out_of_bag_loss": "Pinball loss out of bag"}
    figure, _ = against(rows, "parameters", "Parameters of an attacker", ["learner", "width", "parameters"], labels)
    return to_png(figure)
