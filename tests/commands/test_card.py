"""The section for a model card and the evidence: the committed figures, without images and without names of any."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pipeline import TARGET, environment, run

from leakgauge.commands.card import card, evidence
from leakgauge.files import file_hash, write_json
from leakgauge.report.verdict import percent

LOCK = """schema: '2.0'
stages:
  split@digits_ddpm:
    outs:
    - {path: data/roles/digits_ddpm, hash: md5, md5: 1f.dir}
    - {path: data/features/digits_ddpm, hash: md5, md5: 2f.dir}
  split@digits_ddpm_2:
    outs:
    - {path: data/roles/digits_ddpm_2, hash: md5, md5: 3f.dir}
  target@digits_ddpm:
    outs:
    - {path: models/target/digits_ddpm, hash: md5, md5: 4f.dir}
"""


@pytest.fixture
def reported(audit) -> Path:
    """The finished audit, with a lock of DVC's."""
    Path("dvc.lock").write_text(LOCK)
    return audit


def change_verdict(**values: object) -> dict:
    """Other words in metrics/summary.json."""
    summary = json.loads(Path("metrics/summary.json").read_text())
    summary[TARGET] |= values
    write_json(Path("metrics/summary.json"), summary)
    return summary[TARGET]


def test_the_section_has_the_answer_and_the_judge_s_figures(reported):
    verdict = change_verdict(state="leaks", failed=0, failing=[])
    judge = json.loads(Path(f"metrics/details/{TARGET}.json").read_text())["judges"][verdict["judge"]]
    said = card(TARGET)
    assert f"**The model reveals which images it was trained on.** {verdict['sentence']}" in said
    rates = dict(re.findall(r"identified at (\S+) % false alarms \| (\S+) %", said))
    assert rates["10"] == percent(judge["tpr_at_fpr_1e-1"])
    assert f"| AUC (0.5 is chance) | {verdict['auc']:.3f} (" in said
    assert "60 member, 120 auxiliary, 150 holdout" in said
    assert "An attacker that already knows half of the training images identifies" in said
    assert f"Of {verdict['worst_case']['judges']} judges the strongest" in said
    for name in (one["image_id"] for one in verdict["exposed"]):
        assert name not in said


@pytest.mark.parametrize("state", ["no_verdict", "members_unknown"])
def test_without_a_verdict_the_section_has_no_figures(reported, state):
    change_verdict(state=state, failed=int(state == "no_verdict"), failing=["blind_member"], sentence="None.")
    said = card(TARGET)
    assert "AUC" not in said
    assert "false alarms" not in said


def test_the_evidence_has_figures_checks_and_hashes_and_names_no_image(reported):
    verdict = json.loads(Path("metrics/summary.json").read_text())[TARGET]
    text = evidence([TARGET])
    found = json.loads(text)
    assert found["made_with"]["params_sha256"] == file_hash(Path("params.yaml"))
    of_target = found["targets"][TARGET]
    assert of_target["md5"] == {"data/roles/digits_ddpm": "1f.dir", "models/target/digits_ddpm": "4f.dir"}
    assert of_target["judges"] == json.loads(Path(f"metrics/details/{TARGET}.json").read_text())["judges"]
    assert of_target["verdict"]["tpr"] == verdict["tpr"]
    assert of_target["supervised"]["auc"] == verdict["supervised"]["auc"]
    assert of_target["worst_case"] == verdict["worst_case"]
    assert {row["name"] for row in of_target["checks"]} >= {"blind_member", "null_check_member"}
    assert "digits-" not in text, "the names of images"
    assert not {"exposed", "suspects"} & set(of_target["verdict"])


@pytest.mark.slow
def test_the_command_prints_both_forms_and_refuses_what_is_not_up_to_date(finished_clone, tmp_path):
    assert run(finished_clone, "leakgauge", "card").startswith(f"## Leakage of training images: {TARGET}")
    found = json.loads(run(finished_clone, "leakgauge", "card", "--json"))["targets"][TARGET]
    assert set(found["md5"]) >= {f"data/roles/{TARGET}", f"models/target/{TARGET}"}
    changed = shutil.copytree(finished_clone, tmp_path / "changed", symlinks=True)
    params = (changed / "params.yaml").read_text()
    (changed / "params.yaml").write_text(params.replace("exposed: 4", "exposed: 5"))
    done = subprocess.run(["leakgauge", "card"], cwd=changed, env=environment(), capture_output=True, text=True)
    assert done.returncode == 1
    assert "metrics/summary.json: not up to date (1 stages are not): run `leakgauge report`" in done.stderr
    assert not done.stdout
