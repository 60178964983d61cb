"""What every attacker of a bag predicts of some images, side by side."""

import numpy as np

from stages.command import InputError
from stages.parallel import spread
from stages.quantile.bag import Bag
from stages.quantile.inputs import Inputs


def predict_all(bag: Bag, inputs: Inputs, of: str) -> dict[str, np.ndarray]:
    """Column of a table of predictions -> (N, L), the attackers' values one after the other.  of : whose images.

    Raises InputError where a value is NaN or inf.
    """
    size, scores = bag.description["bag_size"], bag.description["scores"]
    predicted = spread(_columns, [(bag, number, inputs) for number in range(size)], f"predict {of}")
    columns = {
        f"{scores[score]}.{what}": np.concatenate([attacker[score, what] for attacker in predicted], axis=1)
        for score, what in predicted[0]
    }
    if not all(np.isfinite(values).all() for values in columns.values()):
        raise InputError(f"{bag.folder}: predicts NaN or inf for {of} images: a lower learning_rate helps")
    return columns


def _columns(bag: Bag, number: int, inputs: Inputs) -> dict[tuple[int, str], np.ndarray]:
    """What one attacker predicts, each (N, L), by score and column."""
    prediction = bag.attacker(number).predict(inputs)
    scores = range(len(bag.description["scores"]))
    return {(score, what): values for score in scores for what, values in prediction.columns(score).items()}
