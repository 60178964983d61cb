"""defences: what each takes from the attacker, and from whoever uses the model.

Utility is told twice: by the denoising loss on images that were not trained on, and by the Frechet distance between
samples and such images.  Attackers are told thrice: one threshold for all images, one for each, and one for each by
several scores at once; a defence is as good as it is against the strongest.  DP-SGD is held against its promise.

data/scores/<view>.parquet, data/samples/<view>.npy, data/training/<model>.csv -> metrics/defences.csv,
metrics/figures/{defences,private}.png
"""

from pathlib import Path

import pandas as pd

from leakgauge.cli import run
from leakgauge.files import resumable, write_bytes
from studies.charts.defences import draw, draw_private
from studies.measurement import POWER, options, with_means, write_csv
from studies.population import read_population
from studies.protection.attacked import attacked
from studies.protection.settings import Defences, settings
from studies.protection.utility import PRIVATE, UTILITY, floor, promise, utility
from studies.settings import section

SETTING = ["defence", "strength", "rule"]


def defences() -> None:
    """Write metrics/defences.csv and its figures."""
    asked, bag = options()
    own, population = section("defences", Defences), read_population()
    inputs = [Path(f"data/scores/{view}.parquet") for view in own.views]
    rows = []
    with resumable("defences", [own.model_dump(), asked.model_dump(), bag.model_dump()], inputs) as folder:
        for setting in settings(own, population):
            of = {"defence": setting.defence, "strength": setting.strength, "seed": setting.audit.seed}
            of |= utility(setting, population) | promise(setting, asked.fpr)
            work = folder / f"{setting.view}-{setting.audit.seed}-{setting.audit.step}"
            rows += [of | row for row in attacked(setting, own.fusion, asked, bag, work)]
        table = pd.DataFrame(rows)[[*SETTING, "seed", *POWER, *UTILITY, *PRIVATE]]
        table = with_means(table, SETTING, asked.confidence)
        write_csv(Path("metrics/defences.csv"), table)
        write_bytes(Path("metrics/figures/defences.png"), draw(table, asked.fpr, floor(own, population)))
        write_bytes(Path("metrics/figures/private.png"), draw_private(table, asked.fpr))


if __name__ == "__main__":
    run(defences)
