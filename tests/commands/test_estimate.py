"""What an audit takes: network calls counted by hand, and a time left for every run that costs any."""

import shutil

import pytest
from conftest import REPOSITORY
from pipeline import TARGET

from leakgauge.commands.estimate import _measure, sentences
from leakgauge.commands.pipeline import runs


@pytest.fixture
def found(audit) -> dict:
    shutil.copy(REPOSITORY / "dvc.yaml", audit)
    return _measure(TARGET)


def test_network_calls_are_those_of_the_attacks_and_of_the_null_check(found):
    """An image takes 1 call at t = 0, 3 of the walk, and 1 each of PIA, PIAN, the loss and SimA; under each of three
    untrained networks 1 and 2 of the walk."""
    images = 60 + 120 + 150
    assert found["images"] == images
    assert found["network_calls"] == images * (1 + 3 + 4) + 3 * images * 3


def test_every_costly_run_has_its_seconds_and_the_estimate_says_where_they_come_from(found):
    costly = {run for run in runs() if run.partition("@")[0] in ("score", "fit", "predict", "evaluate", "report")}
    assert set(found["seconds"]) == costly
    assert all(seconds > 0 for seconds in found["seconds"].values())
    text = "\n".join(sentences(found))
    assert f"{found['network_calls']:,} network calls" in text
    assert "measured on 32 images" in text
    assert "rule of thumb" in text
    assert found["memory"] > 50 * 2**20
