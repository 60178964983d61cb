"""Power, loss and calibration against the number of auxiliary images."""

import pandas as pd

from leakgauge.report.style import GREY, to_png
from studies.common.figures import against
from studies.common.settings import Measure


def draw(rows: pd.DataFrame, asked: Measure) -> bytes:
    """PNG.  rows : metrics/auxiliary_size.csv."""
    labels = {
        "tpr": f"TPR at {100 * asked.fpr:g} % FPR",
        "auc": "AUC",
        "out_of_bag_loss": "Pinball loss out of bag",
        "realised_fpr": f"Realised FPR, {100 * asked.fpr:g} % asked for",
    }
    figure, panels = against(rows, "auxiliary", "Auxiliary images", ["learner", "auxiliary"], labels)
    panels[-1].axhline(asked.fpr, color=GREY, linestyle=":")
    return to_png(figure)
