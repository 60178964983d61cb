"""What an audit takes: network calls counted as the attacks make them, and a time for every run that costs any."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from pipeline import TARGET

from leakgauge.attacks import scorer as scoring
from leakgauge.attacks.registry import score_batch
from leakgauge.attacks.scorer import NETWORKS, TRIED_ON
from leakgauge.commands import estimate as estimating
from leakgauge.commands.estimate import Estimate, calls_of, estimate, measure, network_calls, null_calls
from leakgauge.commands.graph import graph
from leakgauge.config import section
from leakgauge.errors import InputError
from leakgauge.options import Attacks, Score
from leakgauge.scoring import NULL_IMAGES

IMAGES = {f"score@{TARGET}-member": 60, f"score@{TARGET}-auxiliary": 120, f"score@{TARGET}-holdout": 150}
COSTLY = ("score", "fit", "predict", "evaluate", "report")
ATTACKS = [
    Attacks(),
    Attacks(t_error={"interval": 10, "last": 0}, pia=[], pian=[20], naive_loss=[], sima=[0, 5]),
    Attacks(rediffuse={"timesteps": [100, 200], "stride": 50, "draws": 3}),
]


@pytest.fixture
def audited(audit) -> Path:
    """The finished audit, with the pipeline's graph."""
    shutil.copy(REPOSITORY / "dvc.yaml", audit)
    return audit


@pytest.mark.parametrize("attacks", ATTACKS)
def test_calls_are_as_many_as_the_attacks_make_of_a_network(attacks, gaussian_target):
    score_batch(gaussian_target, torch.zeros(2, 1, 4, 4), ["a", "b"], attacks)
    assert network_calls(attacks) == gaussian_target.calls


@pytest.mark.parametrize("attacks", ATTACKS)
def test_calls_of_the_null_check_are_as_many_as_it_makes_of_a_network(attacks, gaussian_target):
    score_batch(gaussian_target, torch.zeros(2, 1, 4, 4), ["a", "b"], scoring._cheap(attacks))
    assert null_calls(attacks) == gaussian_target.calls


def test_a_table_is_scored_once_a_part_under_untrained_networks_and_a_part_to_try_the_precision():
    attacks = Attacks()
    assert (estimating.NETWORKS, estimating.NULL_IMAGES) == (NETWORKS, NULL_IMAGES)
    assert calls_of(1000, attacks) == 1000 * network_calls(attacks) + 3 * 300 * 3
    assert calls_of(20, attacks, TRIED_ON) == 3 * 20 * network_calls(attacks) + 3 * 20 * 3


@pytest.mark.parametrize(
    ("options", "base", "on_gpu", "on_cpu"),  # in bytes a weight
    [
        ({}, False, 4, 4),
        ({}, True, 4 + 4, 4 + 4),
        ({"offload": True}, True, 0, 4 + 4),
        ({"precision": "bfloat16"}, True, 4 + 4, 4 + 4),
        ({"precision": "bfloat16", "low_weights": True}, False, 0, 4),
        ({"precision": "float16", "low_weights": True}, True, 2, 4 + 2),
    ],
)
def test_the_weights_of_the_null_check_and_of_a_base_are_counted_where_they_lie(audit, options, base, on_gpu, on_cpu):
    model, images = Path(f"models/target/{TARGET}"), Path(f"data/roles/{TARGET}/holdout.parquet")
    asked = section("score", Score, TARGET).model_copy(update=options)
    one = scoring.Scorer(scoring.Job(TARGET, model, images, asked, model if base else None), torch.device("cpu"))
    weights = sum(weight.numel() for weight in one.denoiser.network.parameters())
    assert estimating._memory_of_others(one, cuda=True) == on_gpu * weights
    assert estimating._memory_of_others(one, cuda=False) == on_cpu * weights


def test_every_costly_run_that_is_stale_has_its_seconds_and_no_other(audited):
    found = estimate(TARGET, graph().reads)
    assert set(found.seconds) == {run for run in graph().reads if run.partition("@")[0] in COSTLY}
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert found.images == IMAGES
    attacks = section("score", Score, TARGET).attacks
    assert found.calls == sum(calls_of(count, attacks, TRIED_ON) for count in IMAGES.values())
    text = " ".join(found.sentences())
    assert "330 images to score (60 member, 120 auxiliary, 150 holdout)" in text
    assert f"{found.calls:,} network calls" in text
    assert "rule of thumb" in text
    assert found.measured
    assert found.measured.memory > 50 * 2**20
    fitting = found.seconds[f"fit@{TARGET}-resnet"] - estimating.START
    assert fitting == pytest.approx(5 * 120 * 3.5e-3 * (4 / 8) / 20 / estimating._processes(5)), "the rule of thumb"
    some = estimate(TARGET, {"report", f"score@{TARGET}-member"})
    assert set(some.seconds) == {"report", f"score@{TARGET}-member"}
    assert some.scoring < found.scoring


def test_where_nothing_is_to_be_scored_the_model_is_not_opened(audited):
    shutil.rmtree(f"models/target/{TARGET}")
    found = estimate(TARGET, {f"fit@{TARGET}-gbm", "report"})
    assert found.measured is None
    assert "all scores are there" in found.sentences()[0]
    assert estimate(TARGET, set()).sentences() == ["Estimate: everything is up to date."]


def test_a_model_that_cannot_be_scored_is_refused_in_one_line_before_anything_costly(audited):
    (audited / f"models/target/{TARGET}/unet/config.json").write_text("{}")
    with pytest.raises(InputError, match="not a diffusers pipeline folder"):
        estimate(TARGET, IMAGES)


def test_on_a_cluster_only_the_calls_are_known():
    found = Estimate({f"score@{TARGET}-member": 60}, 480, {"report": 10.0}, None)
    assert "as long as the cluster does" in found.sentences()[1]
    assert found.scoring == 0


def test_a_batch_that_does_not_fit_is_halved_as_scoring_does(audited, monkeypatch):
    taken = []
    time_batch = estimating._time

    def short_of_memory(scorer: object, batch: int) -> tuple[float, float, int]:
        taken.append(batch)
        if batch > 25:
            raise MemoryError
        return time_batch(scorer, batch)

    monkeypatch.setattr(estimating, "_time", short_of_memory)
    found = measure(TARGET)
    assert taken == [50, 25]
    assert found.batch == 25
