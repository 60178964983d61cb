"""The stages on a tiny audit: contracts of what they write, and that nothing leaks between roles."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from conftest import REPOSITORY, TINY_LEARNERS, tiny_params, write_params
from diffusers import DDPMPipeline
from ruamel.yaml import YAML

from leakgauge.attacks.registry import score_batch
from leakgauge.datasets import digits
from leakgauge.inference.supervised import SUPERVISED
from leakgauge.tables import ROLES, decode_images, pixel_hash, read_metadata, read_table, write_table
from stages.check import check
from stages.evaluate import evaluate
from stages.fit import fit
from stages.images import prepare_images
from stages.predict import predict
from stages.report import report
from stages.score import score
from stages.split import split

TARGET = "digits_ddpm"
STAGES = list(YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())["stages"])
JUDGED = [*TINY_LEARNERS, "stack"]


def judges() -> dict[str, dict]:
    return json.loads(Path(f"metrics/details/{TARGET}.json").read_text())["judges"]


def test_images_follow_the_contract_and_survive_the_png(audit):
    table = read_table(Path("data/images/digits.parquet"))
    original = digits.read(digits.DigitsEntry(source="digits", path=""))
    assert table.column_names == ["image_id", "image", "label", "sha256", "height", "width", "channels"]
    assert (decode_images(table) == original.pixels.transpose(0, 3, 1, 2)).all()
    assert table.column("sha256")[5].as_py() == pixel_hash(original.pixels[5])
    assert len(set(table.column("image_id").to_pylist())) == table.num_rows == 1797


def test_roles_are_disjoint_and_carry_their_images(audit):
    paths = {role: Path(f"data/roles/{TARGET}/{role}.parquet") for role in ("member", "auxiliary", "holdout")}
    roles = {role: read_table(path) for role, path in paths.items()}
    ids = [set(table.column("image_id").to_pylist()) for table in roles.values()]
    assert [len(i) for i in ids] == [60, 120, 150]
    assert len(set.union(*ids)) == 330
    assert decode_images(roles["member"]).shape == (60, 1, 8, 8)


def test_a_larger_holdout_moves_no_member_and_no_auxiliary_image(audit):
    before = {role: Path(f"data/roles/{TARGET}/{role}.parquet").read_bytes() for role in ("member", "auxiliary")}
    ids = set(read_table(Path(f"data/roles/{TARGET}/holdout.parquet")).column("image_id").to_pylist())
    params = tiny_params()
    params["split"]["holdout"] = 300
    write_params(params)
    split(TARGET)
    after = read_table(Path(f"data/roles/{TARGET}/holdout.parquet"))
    assert ids < set(after.column("image_id").to_pylist())
    for role, rows in before.items():
        assert Path(f"data/roles/{TARGET}/{role}.parquet").read_bytes() == rows


def test_the_trained_target_opens_with_diffusers_and_holds_no_pickle(audit):
    pipeline = DDPMPipeline.from_pretrained(f"models/target/{TARGET}", low_cpu_mem_usage=False)
    assert pipeline.unet.config.in_channels == 1
    assert all(torch.isfinite(weight).all() for weight in pipeline.unet.parameters())
    assert {path.suffix for path in Path("models").rglob("*") if path.is_file()} <= {
        *(".json", ".safetensors", ".txt", ".parquet", ".csv")
    }


def test_scores_have_a_row_an_image_and_say_what_they_are(audit):
    path = Path(f"data/scores/{TARGET}/holdout.parquet")
    table, facts = read_table(path), read_metadata(path)
    assert table.column("image_id").equals(read_table(Path(f"data/roles/{TARGET}/holdout.parquet")).column("image_id"))
    assert list(facts["columns"]) == table.column_names[1:]
    assert facts["columns"]["t_error_t20"]["network_calls"] == 4
    assert len(facts["target_sha256"]) == 64


def test_scoring_by_other_batches_changes_nothing_that_matters(audit):
    path = Path(f"data/scores/{TARGET}/holdout.parquet")
    before = read_table(path).to_pandas().set_index("image_id")
    params = tiny_params()
    params["score"]["batch_size"], params["score"]["shard"] = 17, 40
    write_params(params)
    score(TARGET, "holdout")
    after = read_table(path).to_pandas().set_index("image_id")
    np.testing.assert_allclose(after.to_numpy(), before.to_numpy(), rtol=2e-4)


def test_scoring_goes_on_after_the_last_finished_shard(audit, monkeypatch):
    path = Path(f"data/scores/{TARGET}/holdout.parquet")
    before, batches = path.read_bytes(), []

    def count(denoiser, x0, ids, attacks):
        if len(ids) == 50 and attacks.pia:  # a whole shard, under the trained network
            batches.append(ids[0])
            if len(batches) == 3:
                raise KeyboardInterrupt
        return score_batch(denoiser, x0, ids, attacks)

    monkeypatch.setattr("leakgauge.attacks.scorer.score_batch", count)
    with pytest.raises(KeyboardInterrupt):
        score(TARGET, "holdout")
    score(TARGET, "holdout")
    assert len(batches) == 2 + 1 + 1, "three batches: two done, the third begun twice"
    assert path.read_bytes() == before


def test_running_a_stage_again_gives_the_same_bytes(audit):
    outputs = [path for place in ("data", "models/quantile", "metrics") for path in Path(place).rglob("*")]
    before = {path: path.read_bytes() for path in outputs if path.is_file()}
    prepare_images("digits")
    write_params(tiny_params())
    split(TARGET)
    check(TARGET)
    score(TARGET, "holdout")
    for learner in TINY_LEARNERS:
        fit(TARGET, learner)
        predict(TARGET, learner)
    evaluate(TARGET)
    report()
    for path, data in before.items():
        assert path.read_bytes() == data, f"{path} changed"


def test_fit_needs_nothing_but_auxiliary_data(audit):
    for path in Path("data").rglob("*.parquet"):
        if path.stem != "auxiliary":
            path.unlink()
    before = Path(f"models/quantile/{TARGET}/gbm/bag.json").read_bytes()
    fit(TARGET, "gbm")
    assert Path(f"models/quantile/{TARGET}/gbm/bag.json").read_bytes() == before


def test_the_marginal_bag_has_exactly_the_roc_of_the_score(audit):
    rows = read_table(Path(f"data/verdicts/{TARGET}.parquet")).to_pandas().query("learner == 'marginal'")
    by_margin, by_score = (-rows["membership_score"]).rank(method="average"), rows["score"].rank(method="average")
    np.testing.assert_array_equal(by_margin, by_score)


def test_verdicts_follow_p_values_and_only_members_and_holdout_get_one(audit):
    rows = read_table(Path(f"data/verdicts/{TARGET}.parquet")).to_pandas()
    assert set(rows["role"]) == {"member", "holdout"}
    assert list(rows["learner"].unique()) == [*JUDGED, SUPERVISED]
    assert len(rows) == (len(JUDGED) + 1) * (60 + 150)
    assert (rows["member_at_1e-1"] == (rows["p_value"] <= 0.1)).all()
    assert rows["p_value"].between(1 / 121, 1).all()


def test_the_short_answer_is_the_headline_judges_and_the_rest_is_in_the_details(audit):
    answer, of_judge = json.loads(Path(f"metrics/{TARGET}.json").read_text()), judges()
    assert list(answer) == ["judge", "auc", "tpr_1e-2", "tpr_1e-3", "fpr_1e-2", "baseline_1e-2", "failed"]
    headline = of_judge[answer["judge"]]
    assert (answer["auc"], answer["tpr_1e-2"]) == (headline["auc"], headline["tpr_at_fpr_1e-2"])
    assert answer["tpr_1e-3"] is None, "150 holdout images do not resolve it"
    assert answer["fpr_1e-2"] == headline["realised_fpr_at_alpha_1e-2"]
    assert answer["baseline_1e-2"] == of_judge["marginal"]["tpr_at_fpr_1e-2"]


def test_metrics_are_flat_and_say_what_they_count(audit):
    metrics = judges()
    assert list(metrics) == JUDGED
    for figures in metrics.values():
        assert all(not isinstance(value, dict | list) for value in figures.values())
        assert figures["holdout"] == 150
        assert figures["calibration_by"] == "out of bag"
        worst = "worst_decile_fpr_at_alpha_1e-1"
        assert figures[worst] == figures[f"{worst}_count"] / figures[f"{worst}_images"]
        assert figures[worst] >= figures["realised_fpr_at_alpha_1e-1"]
    compared = {name: figures["compared_with"] for name, figures in metrics.items()}
    assert set(compared.values()) - {None} <= set(metrics)


def test_the_false_positives_of_alike_images_add_up_to_those_of_all(audit):
    metrics = judges()
    curve = pd.read_csv(f"metrics/plots/{TARGET}/conditional_fpr.csv")
    assert set(curve["group_by"]) == {"complexity", "class"}
    for (_, learner), rows in curve[curve["nominal"] == 0.1].groupby(["group_by", "learner"]):
        assert rows["images"].sum() == 150
        assert rows["false_positives"].sum() == metrics[learner]["realised_fpr_at_alpha_1e-1_count"]


def test_images_without_classes_are_told_apart_by_complexity_alone(audit):
    path = Path(f"data/features/{TARGET}/holdout.parquet")
    table = read_table(path)
    table = table.set_column(1, "label", pa.nulls(table.num_rows, pa.int64()))
    write_table(path, table, read_metadata(path))
    evaluate(TARGET)
    report()
    assert set(pd.read_csv(f"metrics/plots/{TARGET}/conditional_fpr.csv")["group_by"]) == {"complexity"}


def test_scores_from_elsewhere_need_no_timesteps(audit):
    for role in ROLES:
        path = Path(f"data/scores/{TARGET}/{role}.parquet")
        table = read_table(path)
        names = ["other" if name == "t_error_t10" else name for name in table.column_names]
        table = table.rename_columns(names).select(["image_id", "other"])
        write_table(path, table, read_metadata(path))
    for learner in TINY_LEARNERS:
        path = Path(f"data/z/{TARGET}/{learner}.parquet")
        table, facts = read_table(path), read_metadata(path)
        table = table.rename_columns([name.replace("t_error_t10.", "other.") for name in table.column_names])
        facts["bag"]["scores"] = ["other"]
        write_table(path, table, facts)
    evaluate(TARGET)
    report()
    header = "learner,timestep,auc,auc_ci_low,auc_ci_high,tpr,tpr_ci_low,tpr_ci_high\n"
    assert Path(f"metrics/plots/{TARGET}/timestep.csv").read_text() == header
    assert "by timestep of the t-error" not in Path("metrics/report.html").read_text()


def test_a_target_that_learnt_nothing_is_at_chance(audit):
    for learner, figures in judges().items():  # 12 steps of training
        assert figures["auc_ci_low"] - 0.05 < 0.5 < figures["auc_ci_high"] + 0.05, learner


def test_the_page_is_self_contained(audit):
    page = Path("metrics/report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("data:image/svg+xml") >= 9, "each figure that is drawn is shown, and has a name"
    target_sha256 = read_metadata(Path(f"data/scores/{TARGET}/member.parquet"))["target_sha256"]
    for word in ("60 members", "worst decile", "out of bag", "bag_size: 5", target_sha256):
        assert word in page


@pytest.mark.parametrize("stage", ["images", "config", "split", "check", "evaluate", "report"])
def test_stages_that_need_no_network_do_not_import_torch(stage):
    code = f"import sys, stages.{stage}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_help_that_says_what_it_makes(stage):
    command = [sys.executable, "-m", f"stages.{stage}", "--help"]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert "->" in told
    assert "--debug" in told
