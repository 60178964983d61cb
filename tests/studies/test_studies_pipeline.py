"""The real pipeline of the studies: `dvc repro` in a clone, twice, and after a change of one study."""

import pytest
from conftest import REPOSITORY, TINY_LEARNERS
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow
MAIN = ["../dvc.yaml:prepare@digits", "../dvc.yaml:describe@digits"]
STUDIES = ["cost", "exposure", "mismatch", "uplift"]  # those that need no more than two models
TINY = {
    "model": {"steps": 12, "width": 4, "warmup_steps": 2},
    "view": {"t_error": {"interval": 10, "last": 20}, "naive_loss": [20]},
    "bag": {"size": 3},
}


def tiny_studies() -> dict:
    """studies/params.yaml, small."""
    params = YAML(typ="safe", pure=True).load((REPOSITORY / "studies/params.yaml").read_text())
    for section, values in TINY.items():
        params[section] |= values
    params["learners"] = {name: params["learners"][name] | values for name, values in TINY_LEARNERS.items()}
    params["views"]["ddpm"] |= {"samples": 4, "pia": [20], "pian": [20], "sima": [0]}
    params["views"]["ddpm"]["rediffuse"] = {"timesteps": [50], "stride": 50, "draws": 2}
    params["exposure"] |= {}
    return params
