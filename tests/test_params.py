"""params.yaml: strict, with overrides by target, and errors that name the key as the file has it."""

from pathlib import Path

import pytest
from conftest import REPOSITORY, tiny_params, write_params

from leakgauge.attacks.registry import Score
from leakgauge.config import SECTIONS, entry, section
from leakgauge.errors import InputError
from leakgauge.quantile.bag import Learner
from stages.evaluate import Evaluate
from stages.fit import Fit
from stages.guard import Guard
from stages.infer import Infer
from stages.report import Report
from stages.select import Select
from stages.split import Split
from stages.stack import StackOptions
from stages.sweep import Sweep

TARGET = "digits_ddpm"


@pytest.fixture
def params(tmp_path, monkeypatch) -> dict:
    monkeypatch.chdir(tmp_path)
    return tiny_params()


def test_the_committed_file_is_valid(monkeypatch):
    from stages.target import TrainTarget
    from stages.tune import Tune

    monkeypatch.chdir(REPOSITORY)
    models = (Split, TrainTarget, Tune, Score, Select, Fit, StackOptions, Evaluate, Infer, Sweep, Guard, Report)
    for name, model in zip(SECTIONS, models, strict=True):
        assert section(name, model, None if name == "report" else TARGET)


def test_a_targets_override_wins_and_leaves_the_other_options(params):
    params["targets"][TARGET]["fit"] = {"bag_size": 77}
    write_params(params)
    assert section("fit", Fit, TARGET) == Fit(**params["fit"] | {"bag_size": 77})


def test_numbers_are_read_as_dvc_reads_them(params):
    write_params(params)
    text = Path("params.yaml").read_text().replace("confidence: 0.95", "confidence: 9e-1")
    Path("params.yaml").write_text(text)
    assert section("evaluate", Evaluate, TARGET).confidence == 0.9


RULE = "a name is letters, digits and '_' and begins with a letter"


@pytest.mark.parametrize("registry", ["datasets", "targets", "learners"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a-b", f"a-b: {RULE}"),
        ("-x", f"-x: {RULE}"),
        ("../../x", f"../../x: {RULE}"),
        ("x; touch PWNED #", f"x; touch PWNED #: {RULE}"),
        ("two words", f"two words: {RULE}"),
        ("x\n", RULE),
        ("été", f"été: {RULE}"),
        ("1e3x", f"1e3x: {RULE}"),
        (2024, f"2024: YAML reads this name as int, not as text: {RULE}"),
        (None, f"null: YAML reads this name as NoneType, not as text: {RULE}"),
        (True, f"true: YAML reads this name as bool, not as text: {RULE}"),
        ("GBM", "GBM: only capitals tell it from another name"),
    ],
)
def test_a_name_that_dvc_or_a_shell_could_take_for_another_is_refused_wherever_it_stands(
    registry, name, message, params
):
    entries = params[registry]
    entries["gbm"] = entries[name] = next(iter(entries.values()))
    write_params(params)
    with pytest.raises(InputError) as error:
        section("split", Split, TARGET)
    assert str(error.value).replace("\n", "").startswith(f"params.yaml: {registry}.")
    assert message in str(error.value)


def test_a_learner_called_like_the_fusion_of_another_is_refused(params):
    params["learners"]["gbm_fusion"] = params["learners"]["gbm"]
    write_params(params)
    with pytest.raises(InputError, match=r"learners\.gbm_fusion: the fused scores of a learner are called so"):
        section("split", Split, TARGET)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("split", "member"), -1, "params.yaml: split.member: "),
        (("split", "holdout"), "all", "params.yaml: split.holdout: "),
        (("split", "index"), {"path": "x"}, "params.yaml: split.index.sha256: missing"),
        (("evaluate", "alphas"), [0.1, 2.0], "params.yaml: evaluate.alphas.1: Input should be less than 1, found 2.0"),
        (("fit", "bag_size"), True, "params.yaml: fit.bag_size: Input should be a valid integer, found True"),
        (("score", "attacks", "piaa"), [1], "params.yaml: score.attacks.piaa: unknown key"),
        (("learners", "resnet", "width"), 0, "params.yaml: learners.resnet.width: Input should be greater than 0"),
        (("learners", "gbm", "kind"), "forest", "params.yaml: learners.gbm"),
    ],
)
def test_errors_name_the_key_as_the_file_has_it(params, where, value, message):
    *way, last = where
    place = params
    for key in way:
        place = place[key]
    place[last] = value
    write_params(params)
    models = {"split": Split, "evaluate": Evaluate, "fit": Fit, "score": Score}
    with pytest.raises(InputError) as error:
        if where[0] == "learners":
            entry("learners", where[1], Learner)
        else:
            section(where[0], models[where[0]], TARGET)
    assert message in str(error.value)
