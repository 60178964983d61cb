"""Agreement with what the attacks' own authors' code returns (tests/reference)."""

import pandas as pd
import pytest
import torch
from conftest import REFERENCE
from safetensors.torch import load_file

from leakgauge.attacks.naive_loss import naive_loss
from leakgauge.attacks.pia import pia, pian
from leakgauge.attacks.sima import sima
from leakgauge.attacks.t_error import t_errors
from leakgauge.diffusion.denoiser import Denoiser

EXPECTED = pd.read_csv(REFERENCE / "scores.csv", float_precision="round_trip")
TOLERANCE = 2e-4  # relative


def our_score(column: str, target: Denoiser, x0: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    attack, _, rest = column.rpartition("_t")
    e0 = target.epsilon(x0, 0)
    if attack == "t_error":
        t, interval = (int(number) for number in rest.split("_k"))
        return t_errors(target, x0, interval, t // interval + 1, e0)[:, -1]
    t = int(rest)
    if attack == "naive_loss":
        return naive_loss(target, x0, noise, t)
    if attack == "sima":
        return sima(target, x0, t)
    return {"pia": pia, "pian": pian}[attack](target, x0, e0, t)


@pytest.mark.parametrize("batch_size", [32, 7, 1])
@pytest.mark.parametrize("column", EXPECTED.columns)
def test_scores_agree_with_the_authors_code(column, batch_size, reference_target):
    inputs = load_file(REFERENCE / "inputs.safetensors")
    batches = zip(inputs["images"].split(batch_size), inputs["noise"].split(batch_size), strict=True)
    with torch.inference_mode():
        found = torch.cat([our_score(column, reference_target, x0, noise) for x0, noise in batches])
    torch.testing.assert_close(found, torch.tensor(EXPECTED[column].to_numpy()), rtol=TOLERANCE, atol=0)


def test_all_published_entries_are_compared():
    assert EXPECTED.shape == (32, 17)
