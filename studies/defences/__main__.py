"""defences: what each takes from the attacker, and from the users of the model.

Utility is told twice: by the denoising loss on images that were not trained on, and by the Frechet distance between
samples and such images.  Attackers are told thrice: one threshold for all images, one for each, and one for each by
several scores at once; a defence is as good as it is against the strongest.  DP-SGD is held against its promise.

data/scores/<view>.parquet, data/samples/<view>.npy, data/training/<model>.csv -> metrics/defences.csv,
metrics/figures/{defences,private}.png
"""

from collections.abc import Iterator

from leakgauge.cli import run
from studies.common.measurement import ONE_FOR_ALL, PER_IMAGE, Scores, as_they_are, reached
from studies.common.runner import Row, Study, run_study
from studies.defences.figure import draw, draw_private
from studies.defences.settings import Defences, Setting, settings
from studies.defences.utility import floor, promise, utility

SEVERAL = "one for each image, several scores"


def defences() -> None:
    """Write metrics/defences.csv and its figures."""
    figures = {"defences": lambda table, asked: draw(table, asked.fpr, floor()), "private": draw_private}
    run_study("defences", Defences, rows, figures, by=["defence", "strength", "rule"])


def rows(study: Study[Defences]) -> Iterator[Row]:
    """Of every defended model what each attacker reaches, what it is good for, and what it promises."""
    for setting in settings(study):
        of = {"defence": setting.defence, "strength": setting.strength}
        worth = utility(setting, study.population) | promise(setting, study.asked.fpr)
        for rule, scores in attackers(study, setting).items():
            counted = scores | {"member": scores["member"][setting.members]}
            yield of | {"rule": rule, "seed": setting.audit.seed} | reached(counted, study.asked) | worth


def attackers(study: Study[Defences], setting: Setting) -> dict[str, Scores]:
    """Rule -> membership scores of the three attackers."""
    score, audit = study.asked.score, setting.audit
    columns = list(dict.fromkeys([score, *study.own.fusion]))
    fitted = study.fit(audit.roles, columns, f"{setting.view}, seed {audit.seed}, step {audit.step}")
    return {
        ONE_FOR_ALL: as_they_are(audit.roles, score),
        PER_IMAGE: fitted.judge().membership_score,
        SEVERAL: fitted.fused().membership_score,
    }


if __name__ == "__main__":
    run(defences)
