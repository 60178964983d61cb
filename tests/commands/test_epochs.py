"""Leakage against epochs: which models of a folder are the epochs, and what is said of the curve."""

from pathlib import Path

import pandas as pd
import pytest

from leakgauge.commands.audit import wanted_entries
from leakgauge.commands.epochs import curve, first_leak, holdout_loss
from leakgauge.config import models_in
from leakgauge.errors import InputError
from leakgauge.tables import read_table
from stages.report import report

NOTHING: dict[str, object] = dict.fromkeys(("size", "crop", "colour", "classes"))


@pytest.fixture
def epochs(tmp_path, monkeypatch) -> Path:
    """A folder of adapters as training scripts leave them, beside other files."""
    monkeypatch.chdir(tmp_path)
    for number in (2, 10, 1):
        file = tmp_path / f"epochs/checkpoint-{number}/pytorch_lora_weights.safetensors"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
    (tmp_path / "epochs/logs").mkdir()
    (tmp_path / "epochs/.hidden.safetensors").write_bytes(b"")
    for folder, name in (("base", "model_index.json"), ("photos", "a.png")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"")
    return Path("epochs")


def test_the_models_of_a_folder_are_taken_in_the_order_of_their_numbers(epochs):
    assert [path.name for path in models_in(epochs)] == ["checkpoint-1", "checkpoint-2", "checkpoint-10"]
    assert models_in(epochs / "checkpoint-1") == [], "is a model itself"
    assert models_in(Path("photos")) == []


def test_each_epoch_becomes_a_target_of_the_same_images_and_base(epochs):
    entries = wanted_entries("mine", "epochs", "photos", "members/*", None, "base", dict(NOTHING))
    assert list(entries["datasets"]) == ["mine"]
    assert list(entries["targets"]) == ["mine_checkpoint_1", "mine_checkpoint_2", "mine_checkpoint_10"]
    assert {target["images"] for target in entries["targets"].values()} == {"mine"}
    assert len({str(target["target"]["base"]) for target in entries["targets"].values()}) == 1
    assert entries["targets"]["mine_checkpoint_10"]["model"] == "epochs/checkpoint-10"


def test_what_lies_beside_the_epochs_is_listed_as_not_taken(epochs, capsys):
    wanted_entries("mine", "epochs", "photos", None, None, "base", dict(NOTHING))
    assert capsys.readouterr().out == "epochs: no models, not taken: .hidden.safetensors, logs\n"


def test_epochs_of_an_adapter_need_a_base_no_suspects_and_names_of_their_own(epochs):
    with pytest.raises(InputError, match=r"epochs/checkpoint-1: is an adapter: --base names the model"):
        wanted_entries("mine", "epochs", "photos", None, None, None, dict(NOTHING))
    with pytest.raises(InputError, match=r"epochs: holds 3 models: --suspects asks one of them"):
        wanted_entries("mine", "epochs", "photos", None, "photos", "base", dict(NOTHING))
    (epochs / "checkpoint_1.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"epochs: two of its models would have one name as targets: rename one"):
        wanted_entries("mine", "epochs", "photos", None, None, "base", dict(NOTHING))


@pytest.mark.parametrize(
    ("lows", "said"),
    [
        ([0.4, 0.49, 0.45], "The last epoch's AUC cannot be told from chance"),
        ([0.4, 0.55, 0.45], "The last epoch's AUC cannot be told from chance"),
        ([0.51, 0.45, 0.6], "From c on, the interval of the AUC lies"),
        ([0.45, 0.6, 0.7], "From b on, the interval of the AUC lies"),
        ([0.6, 0.7, 0.8], "From a on, the interval of the AUC lies above chance in every epoch, the first included"),
    ],
)
def test_leakage_begins_where_every_later_interval_lies_above_chance(lows, said):
    sentences = first_leak(
        pd.DataFrame({"target": list("abc"), "auc_ci_low": lows, "tpr_ci_low": [0.0, 0.02, 0.03]}), 0.01
    )
    assert said in sentences
    assert "From b on, the interval of the TPR at 1 % FPR lies above chance in every epoch." in sentences


def test_a_curve_has_the_figures_of_each_target_and_the_loss_of_its_holdout(audit, capsys):
    name = "digits_ddpm"
    report()
    curve("mine", [name, name])
    said = capsys.readouterr().out
    table = pd.read_csv("metrics/epochs/mine.csv")
    losses = read_table(Path(f"data/scores/{name}/holdout.parquet")).to_pandas().filter(regex=r"^loss_t\d+$")
    expected = None if losses.empty else losses.mean(axis=None)
    assert holdout_loss(name) == (expected if expected is None else pytest.approx(expected))
    assert table["target"].tolist() == [name] * 2
    assert (table["tpr_ci_low"] <= table["tpr"]).all()
    assert Path("metrics/epochs/mine.svg").read_text().startswith("<svg")
    assert said.count(f"\n{name}  ") == 2
    with pytest.raises(InputError, match="missing: has no figures against epochs: members must be known"):
        curve("mine", ["missing"])
