"""How large an attacker should be: the residual network at several widths."""

import numpy as np
import pandas as pd

from leakgauge.bags import BagRunner, Named
from leakgauge.inference.metrics import POWER, Evaluate, power
from leakgauge.quantile.inputs import Inputs
from leakgauge.quantile.networks import ResNetAttacker, ResNetOptions

COLUMNS = ["learner", "width", "parameters", *POWER, "out_of_bag_loss"]


def measure(
    runner: BagRunner, resnet: Named, size: int, score: str, widths: list[int], asked: Evaluate
) -> pd.DataFrame:
    """Parameters, AUC, TPR at the curves' FPR and pinball loss out of bag, by width.  Columns: `COLUMNS`."""
    auxiliary = runner.roles["auxiliary"]
    rows = []
    for width in sorted(set(widths)):
        options = ResNetOptions.model_validate(resnet.options.model_dump() | {"width": width})
        bag = runner.fit(Named(resnet.name, options), size, [score], np.arange(len(auxiliary)), f"sweep width {width}")
        membership_score = bag.judge().membership_score
        row = {"learner": resnet.name, "width": width, "parameters": _parameters(auxiliary.inputs, options)}
        reached = power(membership_score["member"], membership_score["holdout"], asked.curve_fpr, asked.confidence)
        rows.append(row | reached | {"out_of_bag_loss": bag.out_of_bag_loss})
    return pd.DataFrame(rows, columns=COLUMNS)


def _parameters(inputs: Inputs, options: ResNetOptions) -> int:
    """What one attacker has to learn."""
    network = ResNetAttacker.build(inputs.images.shape[1], inputs.features.shape[1], 1, options)
    return sum(weights.numel() for weights in network.parameters())
