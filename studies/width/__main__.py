"""width: how large an attacker should be: the residual network at several widths.

data/scores/<view>.parquet -> metrics/width.csv, metrics/figures/width.png
"""

from collections.abc import Iterator

from pydantic import Field, NonNegativeInt, PositiveInt

from leakgauge.bags import Named
from leakgauge.cli import run
from leakgauge.config import PARAMS
from leakgauge.errors import InputError
from leakgauge.options import Options, ResNetOptions
from leakgauge.quantile.inputs import Inputs
from leakgauge.quantile.networks import ResNetAttacker
from studies.common.measurement import reached
from studies.common.runner import Row, Study, run_study
from studies.width.figure import draw


class Width(Options):
    """Section `width`."""

    view: str
    seeds: list[NonNegativeInt]
    learner: str  # a resnet in the registry `learners`
    bag_size: PositiveInt
    widths: list[PositiveInt] = Field(min_length=1)  # in the learner's stead


def width() -> None:
    """Write metrics/width.csv and its figure."""
    run_study("width", Width, rows, {"width": draw}, by=["learner", "width", "parameters"])


def rows(study: Study[Width]) -> Iterator[Row]:
    """Every target and width: parameters, power and loss out of bag.  Raises InputError for another kind of learner."""
    own, resnet = study.own, study.learner(study.own.learner)
    if not isinstance(resnet.options, ResNetOptions):
        raise InputError(f"{PARAMS}: width.learner: learner '{own.learner}' is a {resnet.options.kind}, not a resnet")
    for audit in study.audits(own.view, own.seeds):
        for channels in sorted(set(own.widths)):
            options = resnet.options.model_copy(update={"width": channels})
            learner = Named(own.learner, options)
            fitted = study.fit(audit.roles, [study.asked.score], f"seed {audit.seed}", learner, own.bag_size)
            of = {
                "learner": own.learner,
                "width": channels,
                "parameters": parameters(audit.roles["auxiliary"].inputs, options),
            }
            found = reached(fitted.judge().membership_score, study.asked)
            yield of | {"seed": audit.seed} | found | {"out_of_bag_loss": fitted.out_of_bag_loss}


def parameters(inputs: Inputs, options: ResNetOptions) -> int:
    """What one attacker has to learn."""
    network = ResNetAttacker.build(inputs.images.shape[1], inputs.features.shape[1], 1, options)
    return sum(weights.numel() for weights in network.parameters())


if __name__ == "__main__":
    run(width)
