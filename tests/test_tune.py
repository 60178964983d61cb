"""Shortcuts are kept where no score moves by more than the tolerance, and all roles are scored with the same ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_params, write_params

from leakgauge.diffusion.denoiser import PLAIN, Denoiser
from leakgauge.tables import read_table
from stages.score import score
from stages.tune import tune

TARGET = "digits_ddpm"


def tuned(**options: object) -> tuple[dict, dict]:
    """What is kept, and the figures, of the target of `audit` with these options."""
    params = tiny_params()
    params["tune"] |= options
    write_params(params)
    tune(TARGET)
    kept, figures = (json.loads(Path(f"{folder}/tuning/{TARGET}.json").read_text()) for folder in ("data", "metrics"))
    return kept, figures


def test_a_shortcut_that_changes_only_the_order_of_sums_is_kept(audit):
    kept, figures = tuned()
    assert kept == {"channels_last": True, "precision": "float32", "compile": False}
    assert figures["channels_last"]["kept"] is True
    assert figures["channels_last"]["moves_scores_by"] < 1e-3


def test_a_shortcut_that_moves_scores_is_dropped_with_a_warning_and_the_others_stay(audit, capsys):
    kept, figures = tuned(precision="bfloat16")
    assert kept == {"channels_last": True, "precision": "float32", "compile": False}
    assert figures["precision"]["kept"] is False
    assert figures["precision"]["moves_scores_by"] > figures["tolerance"]
    assert "precision moves a score by" in capsys.readouterr().err


def test_the_tolerance_decides(audit):
    _, figures = tuned(precision="bfloat16")
    moved = figures["precision"]["moves_scores_by"]
    assert tuned(precision="bfloat16", tolerance=moved * 1.01)[0]["precision"] == "bfloat16"
    assert tuned(precision="bfloat16", tolerance=moved * 0.99)[0]["precision"] == "float32"


def test_a_shortcut_that_does_not_work_here_is_dropped_with_a_warning(audit, monkeypatch, capsys):
    monkeypatch.setattr(torch, "compile", lambda *args, **options: broken)
    kept, figures = tuned(compile=True)
    assert kept["compile"] is False
    assert figures["compile"] == {"kept": False, "moves_scores_by": None}
    said = capsys.readouterr().err
    assert "compile does not work here: dropped: RuntimeError: no compiler" in said
    assert said.count("warning") == 1


def test_tf32_is_not_called_harmless_where_it_does_nothing(audit, capsys):
    kept, figures = tuned(precision="tf32")
    assert kept["precision"] == "float32"
    assert "precision" not in figures
    assert "tf32 does nothing on a CPU" in capsys.readouterr().err


def broken(*args: object, **options: object) -> None:
    raise RuntimeError("no compiler\nand a long story")


def test_where_nothing_is_asked_for_nothing_is_tried(audit):
    kept, figures = tuned(channels_last=False)
    assert kept == PLAIN.model_dump()
    assert figures == {"device": "cpu", "tolerance": 0.001}


def test_scores_are_computed_with_what_was_kept(audit):
    path = Path(f"data/scores/{TARGET}/holdout.parquet")

    def scores() -> np.ndarray:
        score(TARGET, "holdout")
        return read_table(path).drop_columns("image_id").to_pandas().to_numpy()

    tuned(channels_last=False)
    plain = scores()
    tuned(precision="bfloat16", tolerance=1e6)
    moved = np.abs(scores() / plain - 1).max()
    assert 1e-3 < moved < 1e6


def test_one_decision_holds_for_members_and_non_members(audit):
    """It reads no member: another set of them cannot change how they are scored."""
    tuned()
    before = Path(f"data/tuning/{TARGET}.json").read_bytes()
    for role in ("member", "holdout"):
        Path(f"data/roles/{TARGET}/{role}.parquet").unlink()
    tuned()
    assert Path(f"data/tuning/{TARGET}.json").read_bytes() == before


@pytest.mark.parametrize("name", ["epsilon", "v", "latent_kl", "by_class", "dit", "text"])
def test_channels_last_changes_no_score_of_any_family(name, family):
    x = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    epsilon = []
    for channels_last in (False, True):
        shortcuts = PLAIN.model_copy(update={"channels_last": channels_last})
        target = Denoiser.from_pipeline(family(name), torch.device("cpu"), shortcuts)
        bound = target.with_condition(target.conditioning_of([0, 1, 2], ["a", "b", "c"], "given"))
        epsilon.append(bound.epsilon(bound.encode(x), 100))
    torch.testing.assert_close(epsilon[1].contiguous(), epsilon[0], rtol=1e-4, atol=1e-5)


def test_the_network_is_laid_out_as_asked(family):
    shortcuts = PLAIN.model_copy(update={"channels_last": True})
    target = Denoiser.from_pipeline(family("epsilon"), torch.device("cpu"), shortcuts)
    assert target.network.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert target.encode(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_scores(audit):
    kept, figures = tuned(compile=True)
    assert kept["compile"] is True, figures
    assert figures["compile"]["moves_scores_by"] < 1e-3
    before = read_table(Path(f"data/scores/{TARGET}/holdout.parquet")).drop_columns("image_id").to_pandas().to_numpy()
    score(TARGET, "holdout")
    after = read_table(Path(f"data/scores/{TARGET}/holdout.parquet")).drop_columns("image_id").to_pandas().to_numpy()
    np.testing.assert_allclose(after, before, rtol=2e-3)
