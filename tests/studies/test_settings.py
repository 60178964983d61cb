"""What all studies share is the main pipeline's, but for what stands in their own params.yaml."""

import copy

import pytest
from conftest import REPOSITORY, dump_params
from ruamel.yaml import YAML

from leakgauge.errors import InputError
from studies.common.settings import Shared, shared, write_shared

YAML_12 = YAML(typ="safe", pure=True)
MAIN, OWN = (YAML_12.load((REPOSITORY / place / "params.yaml").read_text()) for place in ("", "studies"))


@pytest.fixture
def resolved(tmp_path, monkeypatch):
    """What comes out of both files, with some sections changed."""
    (tmp_path / "studies").mkdir()
    monkeypatch.chdir(tmp_path / "studies")

    def resolve(main: dict | None = None, **own: dict) -> Shared:
        dump_params({**copy.deepcopy(MAIN), **(main or {})}, tmp_path)
        dump_params({**copy.deepcopy(OWN), **own}, tmp_path / "studies")
        write_shared()
        return shared()

    return resolve


def test_what_is_left_out_is_the_main_pipelines(resolved):
    found = resolved({"evaluate": {"curve_fpr": 0.02, "alphas": [0.3]}, "fit": {"bag_size": 7}})
    assert (found.measure.fpr, found.measure.alphas, found.bag.size) == (0.02, [0.3], 7)
    assert (found.measure.confidence, found.bag.seed) == (0.95, 0), "left out there too: the library's default"
    assert list(found.learners) == list(MAIN["learners"])
    for name, options in MAIN["learners"].items():
        assert found.learners[name].model_dump() == options


def test_what_stands_here_is_laid_over_it_option_by_option(resolved):
    own = {"gbm": {"trees": 3}, "wide": {"kind": "mlp", "width": 99}}
    found = resolved(learners=own, bag={"learner": "wide", "size": 2}, measure={"score": "pia_t20", "fpr": 0.1})
    assert found.learners["gbm"].model_dump() == MAIN["learners"]["gbm"] | {"trees": 3}
    assert found.learners["wide"].root.width == 99
    assert (found.bag.learner, found.bag.size, found.measure.score, found.measure.fpr) == ("wide", 2, "pia_t20", 0.1)


@pytest.mark.parametrize(
    ("main", "own", "said"),
    [
        ({"evaluate": {"alpha": [0.1]}}, {}, r"\.\./params\.yaml: evaluate\.alpha: unknown key"),
        ({}, {"learners": {"gbm": {"tree": 1}}}, r"^params\.yaml: learners\.gbm\.tree: unknown key"),
        ({}, {"learners": {"gbm": None}}, r"^params\.yaml: learners\.gbm: holds no options"),
        ({}, {"bag": {"learner": "mlp", "size": 0}}, r"^params\.yaml: bag\.size: "),
        ({}, {"measure": {}}, r"^params\.yaml: measure\.score: missing"),
    ],
)
def test_a_fault_is_named_with_the_file_it_is_in(main, own, said, resolved):
    with pytest.raises(InputError, match=said):
        resolved(main, **own)
