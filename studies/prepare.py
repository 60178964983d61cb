"""prepare: the images that the studies share, read and described as the main pipeline does it.

../params.yaml (datasets.<dataset>) -> data/{images,features}/<dataset>.parquet
"""

from contextlib import chdir
from pathlib import Path

from leakgauge.cli import run
from leakgauge.tables import write_table
from stages.describe import describe
from stages.prepare import read_dataset
from studies.population import Source
from studies.settings import section


def prepare() -> None:
    """Write the images of the data set that section `population` names, and their features."""
    dataset = section("population", Source).dataset
    with chdir(".."):  # where the entry stands, and where the paths in it begin
        table, facts = read_dataset(dataset)
    write_table(Path(f"data/images/{dataset}.parquet"), table, facts)
    describe(dataset)


if __name__ == "__main__":
    run(prepare)
