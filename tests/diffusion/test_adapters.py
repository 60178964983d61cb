"""LoRA and other adapters: fused, they compute what diffusers and PEFT compute with them unfused."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REFERENCE, dump_params, tiny_params, write_params
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DModel
from safetensors.torch import load_file, save_file

from leakgauge.attacks.scorer import Job, Scorer
from leakgauge.diffusion.adapters import fuse
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.errors import InputError
from leakgauge.files import file_hash
from leakgauge.options import Score
from leakgauge.tables import image_table, write_table
from stages.config import config
from stages.target import target as make_target

peft = pytest.importorskip("peft", reason="the lora extra is not installed")
OF_UNET, OF_TEXT = ["to_q", "to_k", "to_v", "to_out.0"], ["q_proj", "k_proj", "v_proj", "out_proj"]
ALPHA, X = 4.0, torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
PROMPTS = ["a", "a a"]
LORA = "pytorch_lora_weights.safetensors"


def opened(folder: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)


def train(*networks: torch.nn.Module) -> None:
    """Weights of adapters as if they had been trained: none is zero."""
    torch.manual_seed(1)
    for network in networks:
        for name, weight in network.named_parameters():
            if "lora" in name or "hada" in name:
                torch.nn.init.normal_(weight, std=0.3)


@torch.no_grad()
def said(pipeline: StableDiffusionPipeline) -> torch.Tensor:
    """What the network says, by diffusers alone."""
    embedded, _ = pipeline.encode_prompt(PROMPTS, "cpu", 1, do_classifier_free_guidance=False)
    return pipeline.unet(X, 10, embedded).sample


def found(folder: Path) -> torch.Tensor:
    """The same, by the denoiser of a pipeline folder."""
    target = Denoiser.from_pipeline(folder, torch.device("cpu"))
    return target.with_condition(PROMPTS).epsilon(X, 10)


@pytest.fixture
def base(family, tmp_path) -> Path:
    return Path(shutil.copytree(family("text"), tmp_path / "base"))


@pytest.fixture
def lora(base, tmp_path) -> tuple[Path, StableDiffusionPipeline]:
    """A LoRA of the UNet and the text encoder as diffusers saves it, and the pipeline with it unfused."""
    pipeline = opened(base)
    for network, layers in ((pipeline.unet, OF_UNET), (pipeline.text_encoder, OF_TEXT)):
        network.add_adapter(peft.LoraConfig(r=2, lora_alpha=ALPHA, target_modules=layers))
    train(pipeline.unet, pipeline.text_encoder)
    parts = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
    layers = {f"{part}_lora_layers": peft.get_peft_model_state_dict(of) for part, of in parts.items()}
    facts = {f"{part}_lora_adapter_metadata": of.peft_config["default"].to_dict() for part, of in parts.items()}
    StableDiffusionPipeline.save_lora_weights(tmp_path / "lora", **layers, **facts)
    return tmp_path / "lora", pipeline


def as_kohya(file: Path, destination: Path) -> Path:
    """The same LoRA as kohya's scripts save it."""
    weights = {}
    for name, weight in load_file(file).items():
        part, _, rest = name.partition(".")
        layer, way = rest.removesuffix(".weight").rsplit(".lora_", 1)
        way = {"A": "down", "B": "up"}[way]
        key = f"{'lora_unet' if part == 'unet' else 'lora_te_text_model'}_{layer.replace('.', '_')}"
        weights |= {f"{key}.lora_{way}.weight": weight.clone(), f"{key}.alpha": torch.tensor(ALPHA)}
    save_file(weights, destination)
    return destination


def same_weights(one: Path, other: Path, atol: float) -> None:
    """Whether two pipelines have the same weights in every part."""
    files = sorted(file.relative_to(one) for file in one.rglob("*.safetensors"))
    assert files == sorted(file.relative_to(other) for file in other.rglob("*.safetensors"))
    for file in files:
        expected = load_file(other / file)
        for name, weight in load_file(one / file).items():
            torch.testing.assert_close(weight, expected[name], rtol=0, atol=atol)


def test_a_lora_of_diffusers_fused_says_what_diffusers_says_with_it_unfused(base, lora):
    adapter, pipeline = lora
    plain = found(base)
    fuse(adapter, 1.0, base)
    torch.testing.assert_close(found(base), said(pipeline), rtol=0, atol=1e-5)
    assert (found(base) - plain).abs().max() > 0.01


@pytest.mark.parametrize("kind", ["lora", "peft", "whole"])
def test_one_adapter_fused_under_two_names_gives_the_same_bytes(kind, base, lora, whole, tmp_path):
    if kind == "peft":
        model = peft.get_peft_model(opened(base).unet, peft.LoraConfig(r=2, target_modules=OF_UNET))
        train(model)
        model.save_pretrained(tmp_path / "peft")
    adapter = {"lora": lora[0], "peft": tmp_path / "peft", "whole": whole[0]}[kind]
    names = [Path(shutil.copytree(base, tmp_path / name / "pipeline")) for name in ("one", "another")]
    for folder in names:
        fuse(adapter, 1.0, folder)
    assert file_hash(names[0]) == file_hash(names[1]) != file_hash(base)
    assert not [file for file in names[0].rglob("*.json") if str(tmp_path) in file.read_text()]


def test_a_training_folder_gives_the_pipeline_of_its_last_weights_and_lists_its_checkpoints(base, lora, tmp_path):
    other, folder = Path(shutil.copytree(base, tmp_path / "other")), tmp_path / "training"
    weights = load_file(lora[0] / LORA)
    states = ["optimizer.bin", "random_states_0.pkl", "scheduler.bin"]
    for step in (500, 1000):
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        save_file({name: of * 2 for name, of in weights.items()}, folder / f"checkpoint-{step}/{LORA}")
        for name in states:
            (folder / f"checkpoint-{step}" / name).write_bytes(b"")
    shutil.copy(lora[0] / LORA, folder)
    fuse(lora[0] / LORA, 1.0, base)
    listed = [f"checkpoint-{step}/{name}" for step in (1000, 500) for name in sorted([*states, LORA])]
    assert fuse(folder, 1.0, other) == listed
    same_weights(other, base, atol=0)
    (folder / LORA).unlink()
    line = refused(folder, base)
    assert "holds states of training alone (checkpoint-1000, checkpoint-500): name one of them, or have" in line


def test_a_kohya_file_of_the_same_weights_gives_the_same_pipeline(base, lora, tmp_path):
    adapter, _ = lora
    other = Path(shutil.copytree(base, tmp_path / "other"))
    fuse(adapter / LORA, 1.0, base)
    fuse(as_kohya(adapter / LORA, tmp_path / "kohya.safetensors"), 1.0, other)
    same_weights(other, base, atol=1e-6)


OF_SDXL = {  # layers of each part that kohya's scripts train, those of the convolutions too (conv_dim)
    "unet": [*OF_UNET, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "time_emb_proj"],
    **{part: [*OF_TEXT, "fc1", "fc2"] for part in ("text_encoder", "text_encoder_2")},
}


def kohya_name(part: str, layer: str) -> str:
    """The name of a layer of SDXL in a LoRA of kohya's scripts: of the UNet that of the original code."""
    if part == "unet":
        return f"lora_unet_{original_unet(f'{layer}.weight').removesuffix('.weight').replace('.', '_')}"
    number = "2" if part == "text_encoder_2" else "1"
    return f"lora_te{number}_text_model_{layer.removeprefix('text_model.').replace('.', '_')}"


def test_a_kohya_file_of_sdxl_gives_the_same_pipeline_text_encoders_included(family, tmp_path):
    plain, base, other = (Path(shutil.copytree(family("sdxl"), tmp_path / name)) for name in ("plain", "base", "other"))
    pipeline = StableDiffusionXLPipeline.from_pretrained(plain)
    parts = {part: getattr(pipeline, part) for part in OF_SDXL}
    for part, network in parts.items():
        network.add_adapter(peft.LoraConfig(r=2, lora_alpha=ALPHA, target_modules=OF_SDXL[part]))
    train(*parts.values())
    states = {part: peft.get_peft_model_state_dict(network) for part, network in parts.items()}
    layers = {f"{part}_lora_layers": state for part, state in states.items()}
    facts = {f"{part}_lora_adapter_metadata": of.peft_config["default"].to_dict() for part, of in parts.items()}
    StableDiffusionXLPipeline.save_lora_weights(tmp_path / "lora", **layers, **facts)
    kohya = {}
    for part, state in states.items():
        for name, weight in state.items():
            layer, way = name.removesuffix(".weight").rsplit(".lora_", 1)
            key = kohya_name(part, layer)
            kohya[f"{key}.lora_{'down' if way == 'A' else 'up'}.weight"] = weight.clone()
            kohya[f"{key}.alpha"] = torch.tensor(ALPHA)
    save_file(kohya, tmp_path / "kohya.safetensors")
    fuse(tmp_path / "lora", 1.0, base)
    fuse(tmp_path / "kohya.safetensors", 1.0, other)
    same_weights(other, base, atol=1e-6)
    for part in ("unet/diffusion_pytorch_model", "text_encoder/model", "text_encoder_2/model"):
        before, after = (load_file(folder / f"{part}.safetensors") for folder in (plain, base))
        layers_of = {name.rsplit(".lora_", 1)[0] for name in states[part.partition("/")[0]]}
        assert sum(not torch.equal(after[name], before[name]) for name in before) == len(layers_of)


def test_a_scale_is_diffusers_scale_and_adapters_add_up(base, lora):
    adapter, pipeline = lora
    pipeline.unload_lora_weights()
    pipeline.load_lora_weights(str(adapter), adapter_name="one", local_files_only=True)
    pipeline.load_lora_weights(str(adapter), adapter_name="two", local_files_only=True)
    pipeline.set_adapters(["one", "two"], [0.5, 0.25])
    fuse(adapter, 0.5, base)
    fuse(adapter, 0.25, base)
    torch.testing.assert_close(found(base), said(pipeline), rtol=0, atol=1e-5)


CONFIGS: dict[str, Callable[[], object]] = {
    "lora": lambda: peft.LoraConfig(r=4, lora_alpha=8, target_modules=["conv1", "conv2", "time_emb_proj"]),
    "rank-stabilised": lambda: peft.LoraConfig(r=4, use_rslora=True, target_modules=["conv1"]),
    "dora": lambda: peft.LoraConfig(r=4, use_dora=True, target_modules=["conv1", "time_emb_proj"]),
    "loha": lambda: peft.LoHaConfig(r=4, target_modules=["conv1", "time_emb_proj"]),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_adapter_of_peft_fits_any_network_and_fused_says_what_peft_says_with_it_unfused(name, tmp_path):
    base = Path(shutil.copytree(REFERENCE / "target", tmp_path / "base"))
    network = UNet2DModel.from_pretrained(base, subfolder="unet")
    model = peft.get_peft_model(network, CONFIGS[name]())
    train(model)
    model.save_pretrained(tmp_path / "adapter")
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = Denoiser.from_pipeline(base, torch.device("cpu")).epsilon(x, 10)
    with torch.no_grad():
        expected = model.eval()(x, torch.tensor(10)).sample
    fuse(tmp_path / "adapter", 1.0, base)
    fused = Denoiser.from_pipeline(base, torch.device("cpu")).epsilon(x, 10)
    torch.testing.assert_close(fused, expected, rtol=1e-5, atol=1e-5)
    assert (fused - plain).abs().max() > 0.01


def test_folders_of_peft_by_part_change_these_parts(base, lora, tmp_path):
    _, pipeline = lora
    expected = said(pipeline)
    adapter, fresh = tmp_path / "parts", opened(base)
    for part, layers in (("unet", OF_UNET), ("text_encoder", OF_TEXT)):
        model = peft.get_peft_model(getattr(fresh, part), peft.LoraConfig(r=2, lora_alpha=ALPHA, target_modules=layers))
        weights = peft.get_peft_model_state_dict(getattr(pipeline, part))
        peft.set_peft_model_state_dict(model, {f"base_model.model.{name}": of for name, of in weights.items()})
        model.save_pretrained(adapter / part)
    fuse(adapter, 1.0, base)
    torch.testing.assert_close(found(base), expected, rtol=0, atol=1e-5)


def test_a_textual_inversion_is_known_by_its_token(base, tmp_path):
    embedding = torch.randn(8, generator=torch.Generator().manual_seed(0))
    save_file({"<mine>": embedding}, tmp_path / "learned_embeds.safetensors")
    pipeline = opened(base)
    pipeline.load_textual_inversion(str(tmp_path), weight_name="learned_embeds.safetensors", local_files_only=True)
    expected, _ = pipeline.encode_prompt(["a <mine>"], "cpu", 1, do_classifier_free_guidance=False)
    unknown = Denoiser.from_pipeline(base, torch.device("cpu")).condition.embed(["a <mine>"])["encoder_hidden_states"]
    fuse(tmp_path / "learned_embeds.safetensors", 1.0, base)
    embedded = Denoiser.from_pipeline(base, torch.device("cpu")).condition.embed(["a <mine>"])["encoder_hidden_states"]
    torch.testing.assert_close(embedded, expected)
    assert not torch.allclose(embedded, unknown)


@pytest.mark.parametrize(
    ("file", "key"), [("learned_embeds", "<mine>"), ("<mine>", "emb_params"), ("<mine>", "clip_l")]
)
def test_a_textual_inversion_of_several_vectors_is_expanded_as_the_pipeline_expands_it(file, key, base, tmp_path):
    embedding = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    save_file({key: embedding}, tmp_path / f"{file}.safetensors")
    prompts = ["<mine>", "a <mine>", "a <mine> a", "<mine>a", "<mine> <mine>", "a", "<mine>_1"]
    pipeline = opened(base)
    plain, _ = pipeline.encode_prompt(["a <mine>"], "cpu", 1, do_classifier_free_guidance=False)
    pipeline.load_textual_inversion(
        str(tmp_path), weight_name=f"{file}.safetensors", token="<mine>", local_files_only=True
    )
    expected = [pipeline.encode_prompt([prompt], "cpu", 1, do_classifier_free_guidance=False)[0] for prompt in prompts]
    fuse(tmp_path / f"{file}.safetensors", 1.0, base)
    target = Denoiser.from_pipeline(base, torch.device("cpu"))
    embedded = target.condition.embed(prompts)["encoder_hidden_states"]
    torch.testing.assert_close(embedded, torch.cat(expected), rtol=0, atol=1e-5)
    numbers = pipeline.tokenizer.convert_tokens_to_ids(["<mine>", "<mine>_1", "<mine>_2"])
    torch.testing.assert_close(pipeline.text_encoder.get_input_embeddings().weight[numbers], embedding)
    assert not torch.allclose(embedded[1:2], plain)


@pytest.mark.parametrize("vectors", [1, 2])
def test_a_textual_inversion_of_sdxl_goes_into_both_encoders_as_the_pipeline_puts_it(vectors, family, tmp_path):
    base = shutil.copytree(family("sdxl"), tmp_path / "base")
    pipeline = StableDiffusionXLPipeline.from_pretrained(base)
    rng = torch.Generator().manual_seed(0)
    widths = {"clip_l": pipeline.text_encoder.config.hidden_size, "clip_g": pipeline.text_encoder_2.config.hidden_size}
    weights = {name: torch.randn(vectors, width, generator=rng) for name, width in widths.items()}
    save_file(weights, tmp_path / "<mine>.safetensors")
    prompts = ["<mine>", "a <mine>", "<mine> a", "a"]
    before = Denoiser.from_pipeline(base, torch.device("cpu")).condition.embed(prompts)
    for name, end in (("clip_l", ""), ("clip_g", "_2")):
        tokenizer, encoder = getattr(pipeline, f"tokenizer{end}"), getattr(pipeline, f"text_encoder{end}")
        pipeline.load_textual_inversion(weights[name], token="<mine>", tokenizer=tokenizer, text_encoder=encoder)
    fuse(tmp_path / "<mine>.safetensors", 1.0, base)
    target = Denoiser.from_pipeline(base, torch.device("cpu"))
    embedded = target.condition.embed(prompts)
    for row, prompt in enumerate(prompts):
        states, _, pooled, _ = pipeline.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
        torch.testing.assert_close(embedded["encoder_hidden_states"][row : row + 1], states, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(embedded["text_embeds"][row : row + 1], pooled, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(embedded["encoder_hidden_states"][0], before["encoder_hidden_states"][0])
    with pytest.raises(InputError, match="no prompt contains '<mine>', the token of a textual inversion"):
        target.conditioning_of([None], ["a"], "given")


def test_the_file_of_the_advanced_script_is_named_by_its_file_in_the_place_of_its_tokens(family, tmp_path):
    """diffusers' train_dreambooth_lora_sdxl_advanced.py: clip_l and clip_g of the tokens <s0> and <s1>."""
    base = shutil.copytree(family("sdxl"), tmp_path / "base")
    pipeline = StableDiffusionXLPipeline.from_pretrained(base)
    rng = torch.Generator().manual_seed(0)
    encoders = {"clip_l": "", "clip_g": "_2"}
    state = {
        name: torch.randn(2, getattr(pipeline, f"text_encoder{end}").config.hidden_size, generator=rng)
        for name, end in encoders.items()
    }
    save_file(state, tmp_path / "toy_emb.safetensors")
    for name, end in encoders.items():
        pipeline.load_textual_inversion(
            state[name],
            token=["<s0>", "<s1>"],
            text_encoder=getattr(pipeline, f"text_encoder{end}"),
            tokenizer=getattr(pipeline, f"tokenizer{end}"),
        )
    fuse(tmp_path / "toy_emb.safetensors", 1.0, base)
    embedded = Denoiser.from_pipeline(base, torch.device("cpu")).condition.embed(["a toy_emb a", "a"])
    for row, prompt in enumerate(("a <s0><s1> a", "a")):
        states, _, pooled, _ = pipeline.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
        torch.testing.assert_close(embedded["encoder_hidden_states"][row : row + 1], states, rtol=0, atol=1e-5)
        torch.testing.assert_close(embedded["text_embeds"][row : row + 1], pooled, rtol=0, atol=1e-5)


def test_embeddings_of_another_width_are_refused_before_either_is_added(base, family, tmp_path):
    sdxl = shutil.copytree(family("sdxl"), tmp_path / "sdxl")
    save_file({"clip_l": torch.ones(8), "clip_g": torch.ones(5)}, tmp_path / "other.safetensors")
    line = refused(tmp_path / "other.safetensors", sdxl)
    assert "other.safetensors: has vectors of 5 numbers for text_encoder_2, which takes 12 in its base" in line
    save_file({"<mine>": torch.ones(5)}, tmp_path / "one.safetensors")
    assert "has vectors of 5 numbers for text_encoder, which takes 8" in refused(tmp_path / "one.safetensors", base)


def test_a_textual_inversion_of_another_number_of_encoders_is_refused(base, family, tmp_path):
    save_file({"clip_l": torch.ones(8), "clip_g": torch.ones(8)}, tmp_path / "two.safetensors")
    assert "holds 2 arrays, and no LoRA: a textual inversion has one, for" in refused(
        tmp_path / "two.safetensors", base
    )
    sdxl = shutil.copytree(family("sdxl"), tmp_path / "sdxl")
    save_file({"<mine>": torch.ones(8)}, tmp_path / "one.safetensors")
    assert "or clip_l and clip_g, for SDXL" in refused(tmp_path / "one.safetensors", sdxl)
    save_file({"clip_l": torch.ones(2, 8), "clip_g": torch.ones(3, 8)}, tmp_path / "uneven.safetensors")
    assert "clip_l and clip_g have 2 and 3 vectors" in refused(tmp_path / "uneven.safetensors", sdxl)


def test_a_textual_inversion_of_which_a_prompt_loses_a_vector_is_not_in_it(base, tmp_path):
    save_file({"<mine>": torch.ones(3, 8)}, tmp_path / "learned_embeds.safetensors")
    fuse(tmp_path / "learned_embeds.safetensors", 1.0, base)
    target = Denoiser.from_pipeline(base, torch.device("cpu"))
    assert target.conditioning_of([None], ["a <mine>"], "given") == ["a <mine>"]
    with pytest.raises(InputError, match="no prompt contains '<mine>'"):
        target.conditioning_of([None], ["a a <mine>"], "given")


@pytest.fixture
def inverted(base, tmp_path) -> Path:
    """A pipeline with a textual inversion fused into it, of the token '<mine>'."""
    save_file({"<mine>": torch.ones(8)}, tmp_path / "learned_embeds.safetensors")
    fuse(tmp_path / "learned_embeds.safetensors", 1.0, base)
    return base


@pytest.mark.parametrize(
    ("use", "captions"), [("given", ["a", "mine", "a a a a <mine>"]), ("given", [""]), ("none", ["<mine>"])]
)
def test_a_textual_inversion_whose_token_no_prompt_contains_is_refused(use, captions, inverted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = tiny_params()
    params["targets"]["mine"] = {"images": "digits", "model": "mine.safetensors"}
    dump_params(params)
    pixels = np.zeros((len(captions), 8, 8, 1), np.uint8)
    ids, nothing = [str(row) for row in range(len(captions))], [None] * len(captions)
    table = image_table(ids, pixels, nothing, nothing, captions)
    write_table(Path("images.parquet"), table, {})
    with pytest.raises(InputError) as error:
        Scorer(Job("mine", inverted, Path("images.parquet"), Score(condition=use)), torch.device("cpu"))
    line = str(error.value)
    assert f"score.condition: {use}, but no prompt contains '<mine>', the token of a textual inversion" in line
    assert line.endswith("leave the textual inversion out (images.parquet)")
    assert "\n" not in line


def test_captions_without_the_token_of_a_textual_inversion_are_counted_in_a_warning(inverted, capsys):
    target = Denoiser.from_pipeline(inverted, torch.device("cpu"))
    prompts = ["a <mine>", "a", "a", "<mine> a", ""]
    assert target.conditioning_of([None] * 5, prompts, "given") == prompts
    assert "warning: 3 of 5 captions lack '<mine>', the token of a textual inversion" in capsys.readouterr().err
    target.conditioning_of([None], ["a <mine>"], "given")
    target.conditioning_of([], [], "given")
    assert capsys.readouterr().err == ""


def test_each_of_several_textual_inversions_must_be_in_a_prompt(inverted, tmp_path):
    save_file({"<other>": torch.zeros(8)}, tmp_path / "other.safetensors")
    fuse(tmp_path / "other.safetensors", 1.0, inverted, first=False)
    target = Denoiser.from_pipeline(inverted, torch.device("cpu"))
    target.conditioning_of([None], ["<mine> <other>"], "given")
    for prompt, missing in (("<mine>", "<other>"), ("<other>", "<mine>")):
        with pytest.raises(InputError, match=f"no prompt contains '{missing}'"):
            target.conditioning_of([None], [prompt], "given")


RESNET = {
    **{"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1"},
    **{"norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"},
}
OF_UNET_ALONE = {
    **{"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0"},
    **{"time_embedding.linear_2": "time_embed.2", "conv_norm_out": "out.0", "conv_out": "out.2"},
}
OF_VAE = {  # in this order
    **{"conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut", "group_norm": "norm", "to_out.0": "proj_out"},
    **{
        "mid_block.resnets.0": "mid.block_1",
        "mid_block.resnets.1": "mid.block_2",
        "mid_block.attentions.0": "mid.attn_1",
    },
    **{"to_q": "q", "to_k": "k", "to_v": "v", "downsamplers.0": "downsample", "upsamplers.0": "upsample"},
    **{"down_blocks": "down", "resnets": "block", "up_blocks.0": "up.1", "up_blocks.1": "up.0"},
}


def original_unet(name: str) -> str:
    """The name of a weight of the UNet, two levels of a layer each, in the original code of latent diffusion."""
    for ours, theirs in OF_UNET_ALONE.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(\w+)\.(.*)", name):
        kind, number, layer, rest = found.groups()
        of_resnet = f"{2 * int(number)}.{RESNET.get(layer)}"
        return f"middle_block.{of_resnet if kind == 'resnets' else f'1.{layer}'}.{rest}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(\w+)\.(.*)", name)
    way, level, kind, number, layer, rest = found.groups()
    place = 2 * int(level) + (int(number) if kind in ("resnets", "attentions") else 1)
    block = f"input_blocks.{place + 1}" if way == "down" else f"output_blocks.{place}"
    if kind == "downsamplers":
        return f"{block}.0.op.{rest}"
    if kind == "upsamplers":  # of the one level that has attentions
        return f"{block}.2.conv.{rest}"
    return f"{block}.0.{RESNET[layer]}.{rest}" if kind == "resnets" else f"{block}.1.{layer}.{rest}"


def original_vae(name: str) -> str:
    """Likewise of the autoencoder."""
    for ours, theirs in OF_VAE.items():
        name = re.sub(rf"(?<![a-z_]){re.escape(ours)}(?![a-z_0-9])", theirs, name)
    return name


@pytest.fixture
def whole(base, tmp_path) -> tuple[Path, Path]:
    """A fine-tune of the base, as a pipeline and as one file under the original code's names."""
    tuned, weights = Path(shutil.copytree(base, tmp_path / "tuned")), {}
    parts = {
        "unet/diffusion_pytorch_model": ("model.diffusion_model.", original_unet),
        "vae/diffusion_pytorch_model": ("first_stage_model.", original_vae),
        "text_encoder/model": (
            "cond_stage_model.transformer.text_model.",
            lambda name: name,
        ),
    }
    noise = torch.Generator().manual_seed(2)
    for part, (begin, original) in parts.items():
        file = tuned / f"{part}.safetensors"
        of_part = {name: of + 0.01 * torch.randn(of.shape, generator=noise) for name, of in load_file(file).items()}
        save_file(of_part, file, metadata={"format": "pt"})
        for name, of in of_part.items():
            convolves = "attentions" in name and "vae" in part and of.ndim == 2  # where diffusers has a matrix
            weights[begin + original(name)] = (of[..., None, None] if convolves else of).clone()
    save_file(weights, tmp_path / "whole.safetensors")
    return tmp_path / "whole.safetensors", tuned


def test_a_whole_model_in_one_file_is_the_pipeline_of_the_same_weights(base, whole):
    file, tuned = whole
    fuse(file, 1.0, base)
    for part in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        made, expected = (load_file(folder / f"{part}.safetensors") for folder in (base, tuned))
        assert made.keys() == expected.keys()
        assert all(torch.equal(made[name], expected[name]) for name in expected)
    assert torch.equal(found(base), found(tuned))


@pytest.mark.parametrize("begin", ["model.diffusion_model.out.2", "first_stage_model.decoder.conv_out", "cond_stage"])
def test_a_whole_model_that_lacks_weights_is_refused_where_diffusers_may_fill_them_in(begin, base, whole, tmp_path):
    weights = load_file(whole[0])
    save_file({name: of for name, of in weights.items() if not name.startswith(begin)}, tmp_path / "less.safetensors")
    assert f"{tmp_path / 'less.safetensors'}: " in refused(tmp_path / "less.safetensors", base)


def refused(adapter: Path, base: Path) -> str:
    """The line that refuses an adapter; the base stays as it was."""
    before = file_hash(base)
    with pytest.raises(InputError) as error:
        fuse(adapter, 1.0, base)
    assert file_hash(base) == before
    assert "\n" not in str(error.value)
    return str(error.value)


def test_weights_that_no_part_of_the_base_has_are_refused_where_diffusers_passes_over_them(base, lora, tmp_path):
    weights = load_file(lora[0] / LORA)
    elsewhere = {name.replace("down_blocks.1", "down_blocks.7"): of for name, of in weights.items()}
    save_file(elsewhere, tmp_path / "elsewhere.safetensors")
    assert "elsewhere.safetensors: " in refused(tmp_path / "elsewhere.safetensors", base)
    second = {name.replace("text_encoder.", "text_encoder_2."): of for name, of in weights.items()}
    save_file(second, tmp_path / "second.safetensors")
    assert "pairs of matrices for text_encoder_2, and only 0" in refused(tmp_path / "second.safetensors", base)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"unet.to_q.lora_A.weight": torch.full((2, 8), torch.nan)}, "weights are not finite (NaN or inf in"),
        (
            {"any.thing": torch.ones(2, 2, 3, 3)},
            "diffusers passes over 1 of its weights, like 'any.thing'",
        ),
        ({"one": torch.ones(8), "two": torch.ones(8)}, "holds 2 arrays, and no LoRA: a textual inversion has one"),
        ({"<mine>": torch.ones(5, 8)}, "has 5 vectors, and a prompt of its base 4 tokens"),
    ],
)
def test_what_is_no_adapter_of_the_base_is_refused(weights, said, base, tmp_path):
    save_file(weights, tmp_path / "adapter.safetensors")
    assert said in refused(tmp_path / "adapter.safetensors", base)


def test_weights_that_diffusers_passes_over_are_refused(base, lora, tmp_path):
    kohya = load_file(as_kohya(lora[0] / LORA, tmp_path / "kohya.safetensors"))
    (first, *_) = (name.removesuffix(".alpha") for name in kohya if name.endswith(".alpha"))
    for extra in (f"{first}.dora_scale", f"{first}.diff_b"):
        save_file(kohya | {extra: torch.ones(8)}, tmp_path / "more.safetensors")
        assert f"passes over 1 of its weights, like '{extra}'" in refused(tmp_path / "more.safetensors", base)
    third = {name.replace("lora_te_", "lora_te3_"): of for name, of in kohya.items()}
    save_file(third, tmp_path / "third.safetensors")
    assert "third.safetensors: " in refused(tmp_path / "third.safetensors", base)


def test_a_whole_model_comes_first_and_has_no_scale(base, whole):
    for options, said in (((1.0, base, False), "is a whole model: name it as `model`"), ((0.5, base), "is no LoRA")):
        with pytest.raises(InputError, match=said):
            fuse(whole[0], *options)


def test_an_embedding_without_a_token_goes_by_the_name_of_its_file(base, tmp_path, capsys):
    save_file({"emb_params": torch.randn(1, 8)}, tmp_path / "my_cat.safetensors")
    fuse(tmp_path / "my_cat.safetensors", 1.0, base)
    assert "my_cat.safetensors: its token is 'my_cat'" in capsys.readouterr().out
    text = Denoiser.from_pipeline(base, torch.device("cpu")).condition
    embedded = [text.embed([prompt])["encoder_hidden_states"] for prompt in ("a my_cat", "a a")]
    assert not torch.allclose(*embedded)


def test_a_folder_without_safetensors_and_a_kind_that_does_not_merge_are_refused(base, tmp_path):
    (tmp_path / "adapter").mkdir()
    torch.save({}, tmp_path / "adapter/pytorch_lora_weights.bin")
    assert "adapter: holds no .safetensors" in refused(tmp_path / "adapter", base)
    (tmp_path / "adapter/pytorch_lora_weights.bin").unlink()
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps({"peft_type": "PREFIX_TUNING"}))
    assert "adapter_model.safetensors: no safetensors that can be read" in refused(tmp_path / "adapter", base)
    save_file({"a": torch.ones(1)}, tmp_path / "adapter/adapter_model.safetensors")
    assert "peft_type is 'PREFIX_TUNING'; those that are fused are LORA" in refused(tmp_path / "adapter", base)


def test_a_lora_of_diffusers_for_a_pipeline_that_has_none_is_refused_with_what_fits(lora, tmp_path):
    base = Path(shutil.copytree(REFERENCE / "target", tmp_path / "plain"))
    line = refused(lora[0], base)
    assert "its base is a DDPMPipeline, for which diffusers reads no LoRA" in line
    assert "an adapter of PEFT, a folder with adapter_config.json, fits any network" in line


def test_an_adapter_becomes_the_target_with_others_beside_it_and_needs_its_base(audit, refusal, tmp_path):
    base, name = Path(shutil.copytree(REFERENCE / "target", tmp_path / "base")), "digits_ddpm"
    network = UNet2DModel.from_pretrained(base, subfolder="unet")
    model = peft.get_peft_model(network, CONFIGS["lora"]())
    train(model)
    model.save_pretrained(tmp_path / "adapter")
    adapter = tmp_path / "adapter"
    params = tiny_params()
    params["targets"][name]["model"] = str(adapter)
    write_params(params)
    assert f"targets.{name}.target.base: null, but {adapter} is an adapter" in refusal(config, target=name).replace(
        "params.yaml: target.base", f"params.yaml: targets.{name}.target.base"
    )
    beside = {"path": str(adapter), "sha256": file_hash(adapter), "scale": 0.5}
    options = {"base": {"path": str(base), "sha256": file_hash(base)}, "scale": 0.25, "adapters": [beside]}
    params["targets"][name]["target"] = options
    write_params(params)
    config(name)
    make_target(name)
    fuse(adapter, 0.25, base)
    fuse(adapter, 0.5, base)
    made = load_file(Path(f"models/target/{name}/unet/diffusion_pytorch_model.safetensors"))
    expected = load_file(base / "unet/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(made[weight], expected[weight]) for weight in expected)
    params["targets"][name]["target"]["base"]["sha256"] = file_hash(base)  # which has been fused into since
    params["targets"][name]["target"]["adapters"] = [beside | {"sha256": "0" * 64}]
    write_params(params)
    config(name)
    assert f"targets.{name}.target.adapters: the sha256 of {adapter} is" in refusal(make_target, target=name)
