"""params.yaml: strict, with defaults, overrides by target, errors that name the key, and one reference of it all."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from conftest import REPOSITORY, dump_params, tiny_params
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from ruamel.yaml import YAML

from leakgauge.config import CONFIG, asked, section, source_of
from leakgauge.errors import InputError
from leakgauge.options import SECTIONS, Evaluate, Fit, Learner, Levels, Score, Split, Suspects, Target
from leakgauge.reference import KINDS, PAGES, SCHEMA, commented, pages, schema
from stages.config import config

TARGET = "digits_ddpm"


@pytest.fixture
def params(tmp_path, monkeypatch) -> dict:
    monkeypatch.chdir(tmp_path)
    return tiny_params()


def changed(params: dict, *way: str, to: object) -> dict:
    """The same params, with the value at the end of a way of keys."""
    *way, last = way
    place = params
    for key in way:
        place = place.setdefault(key, {})
    place[last] = to
    return params


# What is valid


def test_the_committed_file_is_valid(params):
    shutil.copy(REPOSITORY / "params.yaml", "params.yaml")
    for target in YAML(typ="safe").load(Path("params.yaml"))["targets"]:
        config(target)


def test_an_option_that_is_left_out_has_its_default(params):
    params["targets"][TARGET]["members"] = None
    dump_params({key: value for key, value in params.items() if key not in SECTIONS})
    for name, model in SECTIONS.items():
        assert asked(name, model, None if name == "report" else TARGET) == model()


def test_an_entry_of_three_lines_is_a_target(params):
    Path("mine").mkdir()
    Path("mine/model_index.json").touch()
    params["targets"]["mine"] = {"images": "digits", "model": "mine", "members": "members/*"}
    dump_params(params)
    config("mine")
    assert source_of("mine").model_dump() == {"images": "digits", "model": "mine", "source": "path"}
    assert section("split", Split, "mine") == asked("split", Split).model_copy(update={"member": "members/*"})


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ("leakgauge/diffusion/training.py", "train"),
        ("leakgauge/diffusion/pipelines.py", "hub"),
        ("scores.csv", "scores"),
        ("scores.parquet", "scores"),
        ("with/model_index.json", "path"),
        ("with/flagfile.txt", "pytorch_ddpm"),
    ],
)
def test_the_source_of_a_target_is_told_by_what_its_model_looks_like(model, source, params):
    path = Path(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    params["targets"][TARGET]["model"] = str(path.parent) if path.parent.name == "with" else model
    dump_params(params)
    config(TARGET)
    assert source_of(TARGET).source == source


def test_a_model_that_looks_like_nothing_is_refused_unless_its_source_is_said(params, refusal):
    Path("mine").mkdir()
    dump_params(changed(params, "targets", TARGET, "model", to="mine"))
    line = refusal(config, target=TARGET)
    assert f"params.yaml: targets.{TARGET}.model: mine: neither a diffusers pipeline (model_index.json)" in line
    dump_params(changed(params, "targets", TARGET, "source", to="pytorch_ddpm"))
    config(TARGET)
    assert source_of(TARGET).source == "pytorch_ddpm"


def test_a_folder_of_models_is_refused_as_one_target_with_what_to_do(params, refusal):
    for step in (250, 500):
        Path(f"mine/checkpoint-{step}").mkdir(parents=True)
        Path(f"mine/checkpoint-{step}/pytorch_lora_weights.safetensors").touch()
    dump_params(changed(params, "targets", TARGET, "model", to="mine"))
    line = refusal(config, target=TARGET)
    assert (
        f"params.yaml: targets.{TARGET}.model: mine: is none itself, but holds 2 (checkpoint-250, checkpoint-500): "
        in line
    )
    assert "name one of them, or have `leakgauge audit mine IMAGES` audit each of them, as a curve" in line


@pytest.mark.parametrize("model", ["ema.pt", "last.ckpt", "snapshot.pkl", "weights.pth"])
def test_a_checkpoint_that_is_a_pickle_is_refused_with_the_way_out(model, params, refusal):
    Path(model).write_bytes(b"")
    dump_params(changed(params, "targets", TARGET, "model", to=model))
    line = refusal(config, target=TARGET)
    assert f"params.yaml: targets.{TARGET}.model: {model}: is a pickle, which is not opened" in line
    assert "docs/guides/models.md" in line


@pytest.mark.parametrize(
    ("ceilings", "line"),
    [
        ("tpr=5%", "fail_above: no ceiling like 'tpr@1%=5%' or 'auc=0.6', found 'tpr=5%'"),
        (["auc=0.6", "auc=1.2"], "fail_above.1: a rate lies between 0 and 1 (0 % and 100 %), found 'auc=1.2'"),
        (0.6, "fail_above: Input should be a valid string, found 0.6"),
        ("tpr@3%=5%", "fail_above: tpr@3%=5%: evaluate.alphas has no rate of 3 % (it has 10 %, 5 %, 1 %): add it"),
    ],
)
def test_a_ceiling_that_is_none_is_refused_with_its_key(ceilings, line, params, refusal):
    dump_params(changed(params, "targets", TARGET, "fail_above", to=ceilings))
    assert f"params.yaml: targets.{TARGET}.{line}" in refusal(config, target=TARGET)


def test_every_section_and_learner_is_written_in_full_but_for_the_backend(params):
    params["targets"][TARGET]["score"] = {"backend": "ray", "shard": 7}
    dump_params(params)
    config(TARGET)
    for name, model in SECTIONS.items():
        if name != "report":
            written = json.loads((CONFIG / TARGET / f"{name}.json").read_text())
            assert written == json.loads(
                asked(name, model, TARGET).model_dump_json(exclude={"backend"} if name == "score" else None)
            )
    assert section("score", Score, TARGET).shard == 7
    for name, values in params["learners"].items():
        assert section(f"learners/{name}", Learner, TARGET) == Learner.model_validate(values)
    evaluate = params["evaluate"]
    levels = Levels(alphas=evaluate["alphas"], curve_fpr=evaluate["curve_fpr"], calibration=0)
    assert section("levels", Levels, TARGET) == levels


def test_numbers_are_read_as_dvc_reads_them(params):
    dump_params(params)
    text = Path("params.yaml").read_text().replace("confidence: 0.95", "confidence: 9e-1")
    Path("params.yaml").write_text(text)
    assert asked("evaluate", Evaluate, TARGET).confidence == 0.9


# A target's overrides


def test_a_targets_override_wins_and_leaves_the_other_options(params):
    dump_params(changed(params, "targets", TARGET, "fit", to={"bag_size": 77}))
    assert asked("fit", Fit, TARGET) == Fit(**params["fit"] | {"bag_size": 77})
    assert asked("fit", Fit) == Fit(**params["fit"])


def test_overrides_are_merged_at_every_depth_and_a_list_is_replaced(params):
    dump_params(changed(params, "targets", TARGET, "score", to={"attacks": {"t_error": {"last": 40}, "pia": [30]}}))
    expected = params["score"]["attacks"] | {"t_error": {"interval": 10, "last": 40}, "pia": [30]}
    assert asked("score", Score, TARGET) == Score(**params["score"] | {"attacks": expected})


def test_members_is_short_for_an_option_of_split_which_wins_where_both_stand(params):
    dump_params(changed(params, "targets", TARGET, "members", to=7))
    assert asked("split", Split, TARGET).member == 7
    dump_params(changed(params, "targets", TARGET, "split", to={"member": 8}))
    assert asked("split", Split, TARGET).member == 8


# Names


RULE = "a name is letters, digits and '_' and begins with a letter"


@pytest.mark.parametrize("registry", ["datasets", "targets", "suspects", "learners"])
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
    entries["gbm"] = entries[name] = next(iter(entries.values()), {"target": TARGET, "images": "digits"})
    dump_params(params)
    with pytest.raises(InputError) as error:
        config(TARGET)
    assert str(error.value).replace("\n", "").startswith(f"params.yaml: {registry}.")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [("gbm_fusion", "the fused scores of a learner are called so"), ("stack", "the stack of learners is called so")],
)
def test_a_learner_called_like_another_judge_is_refused(name, said, params, refusal):
    dump_params(changed(params, "learners", name, to=params["learners"]["gbm"]))
    assert f"params.yaml: learners.{name}: {said}: rename it" in refusal(config, target=TARGET)


SET = {"target": TARGET, "images": "found"}


@pytest.mark.parametrize(
    ("way", "value", "said"),
    [
        (("targets", TARGET, "images"), "photos", f"targets.{TARGET}.images: no dataset 'photos'; there are digits"),
        (("suspects", "asked"), SET | {"target": "x"}, f"suspects.asked.target: no target 'x'; there are {TARGET}"),
        (("suspects", "asked"), SET, "suspects.asked.images: no dataset 'found'; there are digits"),
        (
            ("suspects", "asked"),
            SET | {"images": "digits"},
            "asked.images: digits is the dataset of target digits_ddpm",
        ),
        (
            ("evaluate", "stack"),
            ["oracle"],
            "evaluate.stack: no learner 'oracle'; there are marginal, gbm, mlp, resnet",
        ),
        (("fit", "scores"), ["pia_t20", "pia_t21"], "fit.scores: no score column 'pia_t21'; there are t_error_t0, "),
        (("targets", TARGET, "fit"), {"scores": ["x*"]}, f"targets.{TARGET}.fit.scores: no score column 'x*'; there a"),
    ],
)
def test_a_name_that_is_not_there_is_refused_with_those_that_are(way, value, said, params, refusal):
    dump_params(changed(params, *way, to=value))
    assert said in refusal(config, target=TARGET)


INDEX = {"path": "roles.npz", "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (
            {"members": 7, "split": {"index": INDEX}},
            f"{TARGET}.members: targets.{TARGET}.split.index gives the members",
        ),
        ({"split": {"member": "m/*", "index": INDEX}}, f"{TARGET}.split.member: targets.{TARGET}.split.index gives"),
        (
            {"members": "m/*", "source": "scores", "model": "scores.csv"},
            f"{TARGET}.members: scores.csv gives the members",
        ),
    ],
)
def test_members_that_are_told_twice_are_refused(own, said, params, refusal):
    dump_params(changed(params, "targets", TARGET, to=params["targets"][TARGET] | own))
    assert f"params.yaml: targets.{said}" in refusal(config, target=TARGET)


def test_a_target_that_is_not_there_is_refused_with_those_that_are(params, refusal):
    dump_params(params)
    assert f"params.yaml: targets.nobody is not there (there is {TARGET})" in refusal(config, target="nobody")


# What is refused


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("split", "member"), -1, "split.member: "),
        (("split", "holdout"), "all", "split.holdout: "),
        (("split", "index"), {"path": "x"}, "split.index.sha256: missing"),
        (("split", "seed"), "zero", "split.seed: Input should be a valid integer, found 'zero'"),
        (("split", "auxilliary"), 5, "split.auxilliary: unknown key (did you mean 'auxiliary'?)"),
        (("evalaute",), {}, "unknown section 'evalaute' (did you mean 'evaluate'?)"),
        (("evaluate", "alphas"), [0.1, 2.0], "evaluate.alphas.1: Input should be less than 1, found 2.0"),
        (("fit", "bag_size"), True, "fit.bag_size: Input should be a valid integer, found True"),
        (("fit", "calibration"), -1, "fit.calibration: Input should be greater than or equal to 0, found -1"),
        (("fit", "patience"), -1, "fit.patience: Input should be greater than or equal to 0, found -1"),
        (("evaluate", "fusion"), "covariance", "evaluate.fusion: unknown key"),
        (("score", "attacks", "piaa"), [1], "score.attacks.piaa: unknown key"),
        (("learners", "resnet", "width"), 0, "learners.resnet.width: Input should be greater than 0"),
        (("learners", "gbm", "kind"), "forest", "learners.gbm"),
        (("targets", TARGET, "members"), -1, f"targets.{TARGET}.members: Input should be greater than or equal to 0"),
        (("targets", TARGET, "modell"), "x", f"targets.{TARGET}.modell: unknown key (did you mean 'model'?)"),
        (("targets", TARGET, "fit"), {"bagsize": 3}, f"targets.{TARGET}.fit.bagsize: unknown key (did you mean 'bag_s"),
        (("targets", TARGET), {"model": "x"}, f"targets.{TARGET}.images: missing"),
    ],
)
def test_errors_name_the_key_as_the_file_has_it(where, value, message, params, refusal):
    dump_params(changed(params, *where, to=value))
    assert f"params.yaml: {message}" in refusal(config, target=TARGET)


def test_a_broken_yaml_file_and_one_that_is_not_there_are_named(params, refusal):
    assert "params.yaml: not found: run from the repository's root" in refusal(config, target=TARGET)
    Path("params.yaml").write_text("split: [1, 2\n")
    assert "params.yaml: not valid YAML" in refusal(config, target=TARGET)


def test_what_was_written_stays_until_all_is_valid(params, refusal):
    dump_params(params)
    config(TARGET)
    before = {path: path.read_bytes() for path in CONFIG.rglob("*.json")}
    dump_params(changed(changed(params, "fit", "bag_size", to=77), "learners", "resnet", "width", to=0))
    refusal(config, target=TARGET)
    assert {path: path.read_bytes() for path in CONFIG.rglob("*.json")} == before


@pytest.mark.parametrize("content", [None, "", "{}", '{"bag_size": 0}', "not JSON"])
def test_a_stage_refuses_what_config_did_not_write(content, params):
    dump_params(params)
    config(TARGET)
    path = CONFIG / TARGET / "levels.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=f"{path}: not .*: run `dvc repro` to make it"):
        section("levels", Levels, TARGET)


@pytest.mark.parametrize(
    ("options", "calibration", "said"),
    [
        ({"alphas": [0.1, 0.008]}, 0, "alphas: 0.008 asked for, but 120 auxiliary images calibrate: the smallest"),
        ({"curve_fpr": 0.002}, 0, "curve_fpr: 0.002 asked for, but 120 auxiliary images calibrate: the smallest"),
        ({"alphas": [0.1]}, 40, "curve_fpr: 0.01 asked for, but 40 auxiliary images calibrate: the smallest"),
    ],
)
def test_an_alpha_that_a_count_of_auxiliary_images_cannot_support_is_refused_before_there_are_any(
    options, calibration, said, params, refusal
):
    params["evaluate"] |= options
    dump_params(changed(params, "fit", "calibration", to=calibration))
    line = refusal(config, target=TARGET)
    assert f"params.yaml: evaluate.{said} alpha they support is " in line
    assert not Path("data").exists()
    named = float(line.split()[-1])
    params["evaluate"] |= {"alphas": [named], "curve_fpr": named}
    dump_params(params)
    config(TARGET)


# The reference


def options_of(model: type[BaseModel]) -> Iterator[tuple[str, str | None]]:
    """Each option of a class, and of those within it, and its sentence."""
    for key, field in model.model_fields.items():
        yield f"{model.__name__}.{key}", field.description
        for inner in models_in(field.annotation):
            yield from options_of(inner)


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def test_every_option_has_a_sentence_but_for_the_kind_of_a_learner():
    models = (Target, Suspects, *KINDS.values(), *SECTIONS.values())
    found = {name: sentence for model in models for name, sentence in options_of(model)}
    assert len(found) > 100
    without = {name for name, sentence in found.items() if not sentence}
    assert without == {f"{model.__name__}.kind" for model in KINDS.values()}


def test_comments_of_the_params_file_the_page_and_the_schema_are_those_of_the_options():
    text = (REPOSITORY / "params.yaml").read_text()
    assert commented(text) == text
    for name, text in pages().items():
        assert (REPOSITORY / PAGES / f"{name}.md").read_text() == text.rstrip() + "\n", name
    assert schema() == json.loads((REPOSITORY / SCHEMA).read_text())


@pytest.fixture
def checked() -> Draft202012Validator:
    """The schema that editors read."""
    written = json.loads((REPOSITORY / SCHEMA).read_text())
    Draft202012Validator.check_schema(written)
    return Draft202012Validator(written)


def test_the_schema_takes_the_params_file(checked):
    checked.validate(YAML(typ="safe", pure=True).load((REPOSITORY / "params.yaml").read_text()))


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("evalaute",), {}),
        (("split", "auxilliary"), 5),
        (("score", "attacks", "piaa"), [1]),
        (("targets", TARGET, "modell"), "x"),
        (("learners", "gbm", "tree"), 5),
        (("datasets", "digits", "colur"), "grey"),
        (("suspects", "asked"), SET | {"image": "found"}),
        (("fit", "bag_size"), 0),
        (("targets", TARGET, "images"), 5),
    ],
)
def test_the_schema_refuses_what_config_refuses(way, value, checked, params):
    assert checked.is_valid(params)
    assert not checked.is_valid(changed(params, *way, to=value))


def test_a_pinned_criterion_and_index_are_valid_for_both(checked, params):
    np.savez("roles.npz", mia_train_idxs=np.array([1]), mia_eval_idxs=np.array([2]))
    params["evaluate"] |= {"criterion": {"tpr_at_fpr": 0.1}}
    params["split"] |= {"index": {"path": "roles.npz", "sha256": "0" * 64}}
    checked.validate(params)
    dump_params(params)
    config(TARGET)
