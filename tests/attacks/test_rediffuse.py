"""ReDiffuse: closed form for a Gaussian target, any variation API, and what it must not depend on."""

from pathlib import Path

import pytest
import torch
from conftest import change_attacks, tiny_params, write_params
from pipeline import TARGET
from test_scores import ATTACKS, batch, levels, move

from leakgauge.attacks.columns import score_columns
from leakgauge.attacks.naive_loss import image_noise
from leakgauge.attacks.rediffuse import ddim_variation, rediffuse
from leakgauge.attacks.registry import score_batch
from leakgauge.options import ReDiffuse
from leakgauge.tables import read_metadata, read_table
from stages.config import config
from stages.score import score

IDS = list("abcde")


def test_it_is_the_squared_distance_to_the_mean_of_the_variations_of_any_api():
    def api(x0: torch.Tensor, draw: int) -> torch.Tensor:
        return x0 + torch.tensor([1.0, 3.0, -1.0])[draw]  # their mean is x0 + 1

    found = rediffuse(api, torch.zeros(2, 3, 2, 2), draws=3)
    assert found.tolist() == [12.0, 12.0]
    assert found.dtype == torch.float64


def test_variations_of_a_gaussian_target_follow_the_closed_form(gaussian_target):
    x0, t, stride, draws, mu = batch(), 60, 20, 4, gaussian_target.mu
    found = rediffuse(ddim_variation(gaussian_target, IDS, t, stride, seed=0), x0, draws)
    alpha_0, alpha_t, sigma_t = (*levels(gaussian_target, 0)[:1], *levels(gaussian_target, t)[:2])
    back = move(gaussian_target, 60, 40) * move(gaussian_target, 40, 20) * move(gaussian_target, 20, 0)
    noise = sum(image_noise(IDS, (1, 4, 4), t, 0, draw).double() for draw in range(draws)) / draws
    mean = alpha_0 * mu + back * (alpha_t * (x0 - mu) + sigma_t * noise)
    torch.testing.assert_close(found, (x0 - mean).square().sum((1, 2, 3)), rtol=1e-6, atol=0)  # float32 noise


def test_it_costs_draws_times_t_by_stride_calls_as_its_column_says(gaussian_target):
    attacks = ATTACKS.model_copy(update={"rediffuse": ReDiffuse(timesteps=[40, 100], stride=20, draws=3)})
    score_batch(gaussian_target, batch().float(), IDS, ATTACKS)
    others, gaussian_target.calls = gaussian_target.calls, 0
    scores = score_batch(gaussian_target, batch().float(), IDS, attacks)
    columns = score_columns(attacks)
    assert list(columns)[-2:] == ["rediffuse_t40", "rediffuse_t100"]
    assert [columns[name]["network_calls"] for name in list(columns)[-2:]] == [6, 15]
    assert gaussian_target.calls == others + 6 + 15
    assert scores.shape == (5, len(columns))
    expected = rediffuse(ddim_variation(gaussian_target, IDS, 100, 20, seed=0), batch().float(), 3)
    assert torch.equal(scores[:, -1], expected)


def test_it_does_not_depend_on_batch_size_or_order(gaussian_target):
    x0 = batch()

    def scores(rows: list[int]) -> torch.Tensor:
        variation = ddim_variation(gaussian_target, [IDS[row] for row in rows], 40, 20, seed=0)
        return rediffuse(variation, x0[rows], draws=3)

    whole = scores([0, 1, 2, 3, 4])
    torch.testing.assert_close(torch.cat([scores([row]) for row in range(5)]), whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(scores([3, 1, 4]), whole[[3, 1, 4]], rtol=1e-12, atol=0)


def test_every_draw_has_noise_of_its_own_and_the_naive_loss_another():
    draws = [image_noise(["a"], (1, 4, 4), 20, 0, draw) for draw in (None, 0, 1)]
    assert not any(torch.equal(draws[i], draws[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert torch.equal(draws[2], image_noise(["b", "a"], (1, 4, 4), 20, 0, 1)[1:])


def test_it_is_off_by_default_and_a_column_where_it_is_asked_for(audit):
    path = Path(f"data/scores/{TARGET}/holdout.parquet")
    before = read_table(path)
    assert not [name for name in before.column_names if name.startswith("rediffuse")]
    params = tiny_params()
    params["score"]["attacks"]["rediffuse"] = {"timesteps": [100], "stride": 50, "draws": 2}
    write_params(params)
    score(TARGET, "holdout")
    after = read_table(path)
    assert after.column_names == [*before.column_names, "rediffuse_t100"]
    assert after.drop_columns("rediffuse_t100").equals(before), "the other scores stay as they were"
    assert read_metadata(path)["columns"]["rediffuse_t100"]["network_calls"] == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timesteps": [1000], "stride": 50, "draws": 2}, "timesteps: timestep 1000 is beyond the target's last, 999"),
        ({"timesteps": [120], "stride": 50, "draws": 2}, "timesteps: 120 is no multiple of the stride, 50"),
        ({"timesteps": [50, 50], "stride": 50, "draws": 2}, "timesteps: duplicate timestep in [50, 50]"),
        ({"timesteps": [0], "stride": 50, "draws": 2}, "timesteps.0: Input should be greater than 0"),
        ({"timesteps": [50], "stride": 50, "draws": 0}, "draws: Input should be greater than 0"),
    ],
)
def test_options_that_cannot_be_are_refused(options, said, audit, refusal):
    change_attacks(rediffuse=options)
    of_target = "last, 999" in said  # it alone tells how many timesteps it has
    refused = refusal(score, target=TARGET, role="holdout") if of_target else refusal(config, target=TARGET)
    assert f"params.yaml: score.attacks.rediffuse.{said}" in refused
