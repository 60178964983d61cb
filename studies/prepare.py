"""prepare: the images that the studies share, read and described as the main pipeline does it.

../params.yaml (datasets.<dataset>) -> data/{images,features}/<dataset>.parquet
"""

from contextlib import chdir

from leakgauge.cli import run
from stages.images import read_dataset, write_dataset
from studies.population import Source
from studies.settings import section


def prepare() -> None:
    """Write the images of the data set that section `population` names, and their features."""
    dataset = section("population", Source).dataset
    with chdir(".."):  # where the entry stands, and where the paths in it begin
        table, facts = read_dataset(dataset)
    write_dataset(dataset, table, facts)


if __name__ == "__main__":
    run(prepare)
