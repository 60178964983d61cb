"""A model is taken by one piece of code, of the stage and of the test of canaries."""

import pytest

from leakgauge.diffusion.taking import take_model
from leakgauge.errors import InputError
from leakgauge.options import TargetOptions


@pytest.mark.parametrize("option", [{"variant": "fp16"}, {"leave_out": ["vae/*"]}, {"pickle": "weights.bin"}])
def test_an_option_of_pipelines_is_refused_of_an_adapter_not_ignored(option, tmp_path):
    (name,) = option
    with pytest.raises(InputError, match=f"--{name}: is of a pipeline, and .*a.safetensors is an adapter"):
        take_model(
            *("adapter", tmp_path / "a.safetensors", TargetOptions(**option)),
            *(tmp_path, tmp_path / "made", lambda key: f"--{key}"),
        )
    assert not (tmp_path / "made").exists()


def test_an_adapter_without_its_base_and_a_hub_without_its_commit_name_the_option(tmp_path):
    for kind, text in (("adapter", "--base: null, but .* needs its base"), ("hub", "--hub: null, but `source: hub`")):
        with pytest.raises(InputError, match=text):
            take_model(kind, tmp_path / "a", TargetOptions(), tmp_path, tmp_path / "made", lambda key: f"--{key}")
