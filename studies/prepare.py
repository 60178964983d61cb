"""prepare: what the studies take from the main pipeline: a dataset, read and described as it does, and its options.

../params.yaml (datasets.<dataset>, learners, fit, evaluate), params.yaml (measure, bag, learners: laid over these) ->
data/{images,features}/<dataset>.parquet, data/config/studies/shared.json
"""

from contextlib import chdir

from leakgauge.cli import run
from stages.images import read_dataset, write_dataset
from studies.common.population import Source
from studies.common.settings import section, write_shared


def prepare() -> None:
    """Write the images of the dataset that section `population` names, their features, and what all studies share."""
    write_shared()
    dataset = section("population", Source).dataset
    with chdir(".."):  # where the entry stands, and where the paths in it begin
        table, facts = read_dataset(dataset)
    write_dataset(dataset, table, facts)


if __name__ == "__main__":
    run(prepare)
