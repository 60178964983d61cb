"""Models and conditions that cannot be scored: one line that says what was found and what to do."""

import json
import re
import resource
import shutil
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from families import WIDTH, put_target, text_unet, unet
from safetensors.torch import load_file, save_file

from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.diffusion.loading import open_pipeline
from leakgauge.errors import InputError
from stages.config import config
from stages.score import score
from stages.target import target as make_target

MODEL = Path("models/target/theirs")


@pytest.fixture
def taken(family, tmp_path, monkeypatch):
    """Put the pipeline of a family where `score` looks for it, changed or not, with images of every role."""
    monkeypatch.chdir(tmp_path)

    def take(name: str, **options: object) -> Path:
        shutil.copytree(family(name), MODEL)
        put_target(Path("theirs"), **options)
        return MODEL

    return take


def edit(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def refused(refusal) -> str:
    line = refusal(score, target="theirs", role="member")
    assert not Path("data/scores").exists()
    return line


def test_an_unknown_prediction_type_is_refused(taken, refusal):
    edit(taken("v") / "scheduler/scheduler_config.json", prediction_type="noise")
    assert f"{MODEL}: prediction_type is 'noise'; supported are epsilon, v_prediction" in refused(refusal)


def test_v_of_a_flow_is_refused(taken, refusal):
    edit(taken("dpm_solver_flow") / "scheduler/scheduler_config.json", prediction_type="v_prediction")
    assert f"{MODEL}: prediction_type is 'v_prediction'; supported are epsilon" in refused(refusal)


def test_a_flow_without_the_sigmas_of_one_is_refused(taken, refusal):
    edit(taken("dpm_solver_flow") / "scheduler/scheduler_config.json", use_flow_sigmas=False)
    assert "flow_prediction'; supported are epsilon" in refused(refusal)


@pytest.mark.parametrize(
    "name",
    [
        *("IPNDMScheduler", "KarrasVeScheduler", "CMStochasticIterativeScheduler", "DDPMWuerstchenScheduler"),
        *("VQDiffusionScheduler", "CogVideoXDDIMScheduler", "SCMScheduler"),
    ],
)
def test_a_scheduler_of_another_process_is_refused(name, family, tmp_path):
    model = shutil.copytree(family("epsilon"), tmp_path / "theirs")
    edit(model / "scheduler/scheduler_config.json", _class_name=name)
    with pytest.raises(InputError, match=f"{model}: scheduler is a {name}; supported are DDPMScheduler, "):
        open_pipeline(model)


def test_an_edm_network_that_predicts_the_sample_is_refused(taken, refusal):
    edit(taken("edm") / "scheduler/scheduler_config.json", prediction_type="sample")
    assert f"{MODEL}: prediction_type is 'sample'; supported are" in refused(refusal)


@pytest.mark.parametrize(
    ("file", "part"), [("scheduler/scheduler_config.json", "scheduler"), ("unet/config.json", "unet")]
)
def test_a_part_of_an_unknown_class_is_refused(file, part, taken, refusal):
    edit(taken("flow") / file, _class_name="AutoPipeline")
    assert f"{MODEL}: {part} is a AutoPipeline; supported are " in refused(refusal)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("flow", "invert_sigmas", True),
        ("euler", "timestep_type", "continuous"),
        ("v", "beta_schedule", "quartic"),
    ],
)
def test_an_option_of_the_scheduler_that_would_be_misread_is_named(name, option, value, taken, refusal):
    edit(taken(name) / "scheduler/scheduler_config.json", **{option: value})
    line = refused(refusal)
    assert f"{MODEL}: scheduler/scheduler_config.json: " in line
    assert str(value) in line


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("epsilon", {"beta_start": -1}, "its noise levels are not finite"),
        ("epsilon", {"beta_start": 0.0}, "its noise levels start at 0, expected a positive one"),
        ("epsilon", {"beta_end": 1.5}, "not finite"),
        ("epsilon", {"beta_start": 1.0, "beta_end": 1.0}, "its signal levels run from 0 to 0"),
        ("epsilon", {"beta_start": float("nan")}, "its noise levels are not finite"),
        ("epsilon", {"trained_betas": []}, "has no timesteps"),
        ("epsilon", {"trained_betas": [0.1, 0.0, 0.1]}, "its noise does not rise from timestep to timestep"),
        ("epsilon", {"num_train_timesteps": 0}, "num_train_timesteps is 0, expected 1 to 100000"),
        ("epsilon", {"num_train_timesteps": 10**9}, "num_train_timesteps is 1000000000, expected 1 to 100000"),
        ("ve", {"sigma_min": 60.0}, "its noise does not rise"),
        ("ve", {"sigma_max": -1.0}, "ValueError"),
        ("edm", {"sigma_min": 100.0}, "its noise does not rise"),
        ("flow", {"shift": -1.0}, "levels"),
    ],
)
def test_noise_levels_that_are_none_of_a_diffusion_are_refused(name, options, said, family, tmp_path):
    model = shutil.copytree(family(name), tmp_path / name)
    edit(model / "scheduler/scheduler_config.json", **options)
    with pytest.raises(InputError, match=f"{model}.*{re.escape(said)}"):
        open_pipeline(model)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"block_out_channels": [10**9, 10**9]}, ""),
        ({"block_out_channels": [80_000, 160_000]}, "weights, there are"),
        ({"layers_per_block": 10**9}, "layers_per_block is 1000000000, more than the"),
        ({"sample_size": 0}, "sample_size is 0, expected one or two sides in pixels"),
        ({"norm_num_groups": 0}, "unet: ZeroDivisionError"),
        ({"block_out_channels": []}, "unet: "),
        ({"act_fn": None}, "unet: "),
        ({"act_fn": "none"}, "unet: ValueError"),
    ],
)
def test_a_network_that_cannot_be_as_it_is_configured_is_refused_before_it_takes_memory(
    options, said, family, tmp_path
):
    model = shutil.copytree(family("epsilon"), tmp_path / "theirs")
    edit(model / "unet/config.json", **options)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=f"{model}.*{re.escape(said)}"):
        open_pipeline(model)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19, "half a GiB, in KiB"


def test_a_network_that_says_no_number_is_refused(family, tmp_path):
    model = shutil.copytree(family("epsilon"), tmp_path / "theirs")
    edit(model / "unet/config.json", norm_eps=-1e9)
    with pytest.raises(InputError, match=f"{model}: what the network says is not finite"):
        Denoiser.from_pipeline(model, torch.device("cpu")).check_runs(model, 8, 8)


def test_a_folder_without_a_scheduler_is_refused(taken, refusal):
    shutil.rmtree(taken("flow") / "scheduler")
    assert f"{MODEL}: not a diffusers pipeline folder with unet/ and scheduler/" in refused(refusal)


def test_a_learned_variance_that_the_scheduler_does_not_tell_of_is_refused(taken, refusal):
    edit(taken("learned_variance") / "scheduler/scheduler_config.json", variance_type="fixed_small")
    line = refused(refusal)
    assert (
        "the network returns 2 channels for 1: a learned variance? Then the scheduler's variance_type must be" in line
    )


@pytest.mark.parametrize("name", ["by_class", "dit"])
def test_images_without_labels_are_refused_where_the_target_has_classes(name, taken, refusal):
    taken(name, label=None)
    line = refused(refusal)
    assert "params.yaml: score.condition: the target is conditional on classes, and images have no label" in line
    assert "name a folder's classes by `classes` in the dataset's entry, or set it to none" in line


def test_a_label_that_the_target_does_not_know_is_named(taken, refusal):
    taken("by_class", label=11)
    assert "score.condition: the target knows classes 0 to 10, an image has label 11" in refused(refusal)


def test_no_class_is_refused_where_the_last_is_a_label(taken, refusal):
    taken("by_class", label=10, condition="none")
    line = refused(refusal)
    assert "targets.theirs.score.condition: unconditional scoring needs a null class, but class 10 is a label" in line


def test_another_word_for_a_condition_is_refused(taken, refusal):
    taken("by_class", condition="null")
    assert "params.yaml: targets.theirs.score.condition: Input should be 'given' or 'none'" in refusal(
        config, target="theirs"
    )


def test_a_kind_of_class_embedding_that_is_not_supported_is_refused(taken, refusal):
    model = taken("by_class")
    shutil.rmtree(model / "unet")
    unet(class_embed_type="timestep").save_pretrained(model / "unet")
    assert f"{MODEL}: the network has class_embed_type 'timestep', which is not supported" in refused(refusal)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (7, "takes images whose sides divide by 2, the dataset has 7x7 1-channel"),
        (12, "takes 8x8 1-channel images, the dataset has 12x12 1-channel"),
    ],
)
def test_images_of_a_size_that_a_latent_model_does_not_take_are_refused(size, said, taken, refusal):
    taken("latent_kl", size=size)
    assert f"{MODEL}: {said}" in refused(refusal)


@pytest.mark.parametrize(
    ("enters", "purpose"),
    [(9, "inpainting"), (5, "depth to image"), (7, "upscaling"), (8, "instruct-pix2pix"), (6, "super-resolution")],
)
def test_a_network_that_takes_another_image_is_refused(enters, purpose, taken, refusal):
    model = taken("text", condition="none")
    shutil.rmtree(model / "unet")
    write_conditional(model, in_channels=enters, out_channels=4, cross_attention_dim=8)
    line = refused(refusal)
    assert f"{MODEL}: the network takes {enters} channels, {enters - 4} more than the latents have" in line
    assert purpose in line
    assert "conditional on another image is not supported" in line


def test_a_latent_consistency_model_is_refused(taken, refusal):
    model = taken("text", condition="none")
    shutil.rmtree(model / "unet")
    write_conditional(model, in_channels=4, out_channels=4, cross_attention_dim=8, time_cond_proj_dim=4)
    assert f"{MODEL}: the network is conditional on a guidance scale (time_cond_proj_dim" in refused(refusal)


def test_a_sana_network_with_a_guidance_scale_is_refused(family, tmp_path):
    model = shutil.copytree(family("sana"), tmp_path / "theirs")
    network = open_pipeline(model).network
    shutil.rmtree(model / "transformer")
    type(network).from_config({**network.config, "guidance_embeds": True}).save_pretrained(model / "transformer")
    with pytest.raises(InputError, match=f"{model}: the network is conditional on a guidance scale"):
        open_pipeline(model)


def test_latents_of_other_channels_than_the_network_takes_are_refused(taken, refusal):
    model = taken("latent_kl")
    shutil.rmtree(model / "unet")
    unet(4, 3).save_pretrained(model / "unet")
    assert f"{MODEL}: the network takes 3 channels, the latents have 4" in refused(refusal)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_an_autoencoder_that_are_not_finite_are_refused(value, taken, refusal):
    path = taken("latent_vq") / "vqvae/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["encoder.conv_in.weight"][0] = value
    save_file(weights, path, metadata={"format": "pt"})
    assert "vqvae weights are not finite (NaN or inf in 'encoder.conv_in.weight')" in refused(refusal)


def test_a_walk_to_noise_alone_is_refused_where_epsilon_is_predicted(taken, refusal):
    off = {attack: [] for attack in ("pia", "pian", "naive_loss", "sima")}
    attacks = {"t_error": {"interval": 333, "last": 666}, **off}
    model = taken("zero_snr", attacks=attacks)
    score("theirs", "auxiliary")  # v tells x_0 at the last timestep too
    shutil.rmtree("data/scores")
    edit(model / "scheduler/scheduler_config.json", prediction_type="epsilon")
    line = refused(refusal)
    assert "t_error.last: 666 + interval 333 is beyond the target's last timestep, 998" in line


def write_conditional(folder: Path, **options: object) -> None:
    """A network that is conditional on text, with no text encoder."""
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    shape = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "cross_attention_dim": 8, "attention_head_dim": 2}
    UNet2DConditionModel(**blocks, **WIDTH, **(shape | options)).save_pretrained(folder / "unet")
    DDIMScheduler().save_pretrained(folder / "scheduler")


def test_a_target_conditional_on_text_says_what_to_install(tmp_path, monkeypatch, refusal):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)  # as where it is not installed
    write_conditional(MODEL)
    put_target(Path("theirs"))
    assert f"{MODEL}: is conditional on text: needs `pip install -e '.[text]'`" in refused(refusal)


def test_a_missing_text_encoder_is_refused(tmp_path, monkeypatch, refusal):
    pytest.importorskip("transformers", reason="the text extra is not installed")
    monkeypatch.chdir(tmp_path)
    write_conditional(MODEL)
    put_target(Path("theirs"))
    assert f"{MODEL}: has no tokenizer that can be read: tokenizer/tokenizer.json is missing" in refused(refusal)


def test_a_text_encoder_of_another_width_is_refused(taken, refusal):
    model = taken("text", condition="none")
    shutil.rmtree(model / "unet")
    write_conditional(model, in_channels=4, out_channels=4, cross_attention_dim=6)
    assert f"{MODEL}: the text encoder gives 8 numbers a token, the network takes 6" in refused(refusal)


@pytest.mark.parametrize(
    ("name", "option", "unit"),
    [
        ("sd3", "pooled_projection_dim", "prompt"),
        ("flux", "joint_attention_dim", "token"),
        ("flux", "pooled_projection_dim", "prompt"),
        ("pixart", "caption_channels", "token"),
    ],
)
def test_a_text_of_another_width_than_a_transformer_takes_is_refused(name, option, unit, family, tmp_path):
    model = shutil.copytree(family(name), tmp_path / "theirs")
    network = open_pipeline(model).network
    shutil.rmtree(model / "transformer")
    type(network).from_config({**network.config, option: 14}).save_pretrained(model / "transformer")
    with pytest.raises(InputError, match=rf"gives \d+ numbers a {unit}, the network takes 14"):
        open_pipeline(model)


def test_a_projection_of_another_width_is_refused(family, tmp_path):
    model = shutil.copytree(family("sdxl"), tmp_path / "theirs")
    shutil.rmtree(model / "unet")
    text_unet(
        cross_attention_dim=20,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 5,
    ).save_pretrained(model / "unet")
    with pytest.raises(InputError, match="the text encoder gives 6 numbers a prompt, the network takes 5"):
        open_pipeline(model)


@pytest.mark.parametrize("change", ["no first encoder", "an aesthetic score"])
def test_the_refiner_of_sdxl_is_refused(change, family, tmp_path):
    model = shutil.copytree(family("sdxl"), tmp_path / "theirs")
    if change == "no first encoder":
        shutil.rmtree(model / "text_encoder")
    else:
        edit(model / "model_index.json", requires_aesthetics_score=True)
    with pytest.raises(InputError, match=f"{model}: is a refiner of SDXL, conditional on an aesthetic score"):
        open_pipeline(model)


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2", "text_encoder_3"])
@pytest.mark.parametrize("change", ["missing", "unexpected", "not finite"])
def test_damaged_weights_of_any_text_encoder_are_refused(change, part, family, tmp_path):
    model = shutil.copytree(family("sd3"), tmp_path / "theirs")
    path = model / part / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if "final_layer_norm.weight" in name)
    if change == "missing":
        del weights[name]
    elif change == "unexpected":
        weights["another.weight"] = torch.zeros(1)
    else:
        weights[name] *= float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"{model}: {part} weights are {change}"):
        open_pipeline(model)


def test_a_missing_text_encoder_of_several_is_refused(family, tmp_path):
    model = shutil.copytree(family("flux"), tmp_path / "theirs")
    shutil.rmtree(model / "text_encoder_2")
    with pytest.raises(InputError, match=f"{model}: has no text encoder that can be read: text_encoder_2: "):
        open_pipeline(model)


@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_2"])
@pytest.mark.parametrize("change", ["no folder", "no vocabulary"])
def test_a_tokenizer_without_a_vocabulary_is_refused(change, part, family, tmp_path):
    model = shutil.copytree(family("flux"), tmp_path / "theirs")
    if change == "no folder":
        shutil.rmtree(model / part)
    else:
        for file in (model / part).glob("*"):
            if file.name in ("tokenizer.json", "vocab.json"):
                file.unlink()
    with pytest.raises(InputError, match=f"{model}: has no tokenizer that can be read: {part}/tokenizer.json is miss"):
        open_pipeline(model)


def test_a_pixart_pipeline_must_say_which_it_is(family, tmp_path):
    model = shutil.copytree(family("pixart"), tmp_path / "theirs")
    edit(model / "model_index.json", _class_name="DiffusionPipeline")
    with pytest.raises(InputError, match="_class_name is 'DiffusionPipeline': PixArtAlphaPipeline"):
        open_pipeline(model)


def test_flux_kontext_is_refused(family, tmp_path):
    model = shutil.copytree(family("flux"), tmp_path / "theirs")
    edit(model / "model_index.json", _class_name="FluxKontextPipeline")
    with pytest.raises(InputError, match=f"{model}: is a FluxKontextPipeline, conditional on another image"):
        open_pipeline(model)


@pytest.mark.parametrize(
    "values", [{"latents_std": [1.0] * 4}, {"latents_mean": [0.0] * 3, "latents_std": [1.0] * 4}, {"latents_mean": 1.0}]
)
def test_statistics_of_latents_that_make_no_sense_are_refused(values, family, tmp_path):
    model = shutil.copytree(family("sdxl"), tmp_path / "theirs")
    edit(model / "vae/config.json", **values)
    with pytest.raises(InputError, match=r"vae/config.json: latents_mean and latents_std are .*, expected a number"):
        open_pipeline(model)


def test_sides_that_flux_cannot_pack_are_refused(taken, refusal):
    taken("flux", size=6, condition="none")
    assert f"{MODEL}: takes images whose sides divide by 4, the dataset has 6x6 1-channel" in refused(refusal)


def test_captions_are_refused_where_there_are_none(taken, refusal):
    taken("text")
    line = refused(refusal)
    assert "score.condition: the target is conditional on text, and images have no caption" in line


def test_a_conditional_target_that_cannot_be_scored_leaves_no_model(family, tmp_path, monkeypatch, refusal):
    monkeypatch.chdir(tmp_path)
    source = Path("theirs")
    shutil.copytree(family("dit"), source)
    put_target(source)
    edit(source / "scheduler/scheduler_config.json", prediction_type="noise")
    assert "prediction_type is 'noise'" in refusal(make_target, target="theirs")
    assert not MODEL.exists()
