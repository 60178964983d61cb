"""Pipeline folders and the Hub's pipelines: which bytes are taken, and that a pickle never comes along unasked."""

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants as hub
import pytest
import torch
from conftest import REFERENCE, tiny_params, write_params
from safetensors.torch import load_file

from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.diffusion.loading import open_pipeline
from leakgauge.diffusion.pipelines import copy_pipeline, download
from leakgauge.errors import InputError
from leakgauge.files import file_hash
from leakgauge.options import HubPipeline, Taking
from stages.config import config
from stages.report import report
from stages.target import target as make_target

TARGET = "digits_ddpm"
MODEL = Path(f"models/target/{TARGET}")
REVISION = "0123456789abcdef0123456789abcdef01234567"
PIPELINE = HubPipeline(repo="owner/name", revision=REVISION)
SAFE, PICKLE = "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.bin"


@pytest.fixture
def pipeline(tmp_path) -> Path:
    """A pipeline folder with its weights as safetensors."""
    return Path(shutil.copytree(REFERENCE / "target", tmp_path / "pipeline"))


def add_pickle(pipeline: Path, safe_too: bool) -> dict[str, torch.Tensor]:
    """Pickled weights, other ones than the safetensors; returns them."""
    weights = {name: weight + 1 for name, weight in load_file(pipeline / SAFE).items()}
    torch.save(weights, pipeline / PICKLE)
    if not safe_too:
        (pipeline / SAFE).unlink()
    return weights


def use(**entry: object) -> None:
    params = tiny_params()
    params["targets"][TARGET] |= entry
    write_params(params)


def test_a_pickle_where_safetensors_exist_is_refused_and_the_old_target_stays(pipeline, audit, refusal):
    add_pickle(pipeline, safe_too=True)
    use(model=str(pipeline))
    before = file_hash(MODEL)
    line = refusal(make_target, target=TARGET)
    assert f"{pipeline}: {PICKLE} is a pickle where safetensors exist" in line
    assert "target.pickle" in line
    assert file_hash(MODEL) == before


def test_weights_that_are_pickled_only_are_refused_with_the_option_that_takes_them(pipeline, tmp_path):
    add_pickle(pipeline, safe_too=False)
    with pytest.raises(InputError, match=r"no safetensors beside it: convert it, or name it in target\.pickle"):
        copy_pipeline(pipeline, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("safe_too", [True, False])
def test_a_pickle_that_is_asked_for_by_name_becomes_safetensors(safe_too, pipeline, tmp_path):
    weights = add_pickle(pipeline, safe_too)
    copy_pipeline(pipeline, tmp_path / "copy", pickle=PICKLE)
    taken = load_file(tmp_path / "copy" / SAFE)
    assert taken.keys() == weights.keys()
    assert all(torch.equal(taken[name], weights[name]) for name in weights)
    assert not (tmp_path / "copy" / PICKLE).exists()
    assert (pipeline / PICKLE).exists(), "the source stays as it was"


def test_a_pickle_that_is_not_there_or_holds_no_weights_is_refused(pipeline, tmp_path):
    with pytest.raises(InputError, match=f"has no {PICKLE}, which target.pickle names"):
        copy_pipeline(pipeline, tmp_path / "copy", pickle=PICKLE)
    torch.save({"step": 3}, pipeline / PICKLE)
    with pytest.raises(InputError, match=f"{PICKLE}: 'step' is no tensor of floating-point numbers but int"):
        copy_pipeline(pipeline, tmp_path / "copy", pickle=PICKLE)


def test_what_git_and_the_hub_keep_in_a_folder_is_left_out(pipeline, tmp_path):
    (pipeline / ".cache/huggingface").mkdir(parents=True)
    (pipeline / ".cache/huggingface/time.bin").write_text("now")
    copy_pipeline(pipeline, tmp_path / "copy")
    assert file_hash(tmp_path / "copy") == file_hash(REFERENCE / "target")


def copied(pipeline: Path, tmp_path: Path, leave_out: list[str]) -> list[str]:
    """What was not taken, once it is clear that the rest is the pipeline as it was."""
    not_taken = copy_pipeline(pipeline, tmp_path / "copy", Taking(leave_out=leave_out))
    assert file_hash(tmp_path / "copy") == file_hash(REFERENCE / "target")
    return not_taken


def put(pipeline: Path, *names: str) -> None:
    for name in names:
        (pipeline / name).parent.mkdir(parents=True, exist_ok=True)
        (pipeline / name).write_bytes(b"anything")


def test_only_what_is_opened_is_copied_and_the_rest_is_listed(pipeline, tmp_path):
    harmless = ["README.md", "feature_extractor/preprocessor_config.json", "logs/events", "unet/README.md"]
    harmless += ["safety_checker/config.json", "safety_checker/model.safetensors", "safety_checker/pytorch_model.bin"]
    put(pipeline, *harmless, ".git/config")
    assert sorted(copied(pipeline, tmp_path, [])) == sorted(harmless)


@pytest.mark.parametrize(
    "name",
    [
        "unet_ema/diffusion_pytorch_model.safetensors",
        "unet_2/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/diffusion_pytorch_model.ema.safetensors",
        "unet/older/diffusion_pytorch_model.safetensors",
        "controlnet/diffusion_pytorch_model.safetensors",
        "v1-5-pruned.safetensors",
        "unet/diffusion_flax_model.msgpack",
        "unet/model.onnx",
    ],
)
def test_weights_beside_those_that_are_taken_are_refused_by_name_until_they_are_left_out_by_name(
    name, pipeline, tmp_path
):
    put(pipeline, name)
    with pytest.raises(InputError, match=re.escape(f"{pipeline}: {name} are weights beside those that are taken")):
        copy_pipeline(pipeline, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert copied(pipeline, tmp_path, [name]) == [name]


@pytest.mark.parametrize("name", ["pytorch_lora_weights.safetensors", "unet/my_LoRA.safetensors", "ip_adapter/a.bin"])
def test_weights_of_an_adapter_are_refused_by_name(name, pipeline, tmp_path):
    put(pipeline, name)
    said = "is a pickle" if name.endswith(".bin") else "are weights of an adapter: move it out of the folder"
    with pytest.raises(InputError, match=re.escape(f"{pipeline}: {name} {said}")):
        copy_pipeline(pipeline, tmp_path / "copy")
    assert copied(pipeline, tmp_path, ["*lora*", "*LoRA*", "ip_adapter/*"]) == [name]


def test_a_second_network_or_autoencoder_is_refused(family, tmp_path):
    pipeline = shutil.copytree(family("dit"), tmp_path / "theirs")
    shutil.copytree(pipeline / "vae", pipeline / "vqvae")
    with pytest.raises(InputError, match=r"vqvae/diffusion_pytorch_model\.safetensors are weights beside"):
        copy_pipeline(pipeline, tmp_path / "copy")
    shutil.copytree(pipeline / "transformer", pipeline / "unet")
    with pytest.raises(InputError, match=r"unet/diffusion_pytorch_model\.safetensors are weights beside"):
        copy_pipeline(pipeline, tmp_path / "copy", Taking(leave_out=["vqvae/*"]))
    for left, number in (("unet/*", 1), ("transformer/*", 2)):
        copy_pipeline(pipeline, tmp_path / f"{number}", Taking(leave_out=["vae/*", left]))
        there = {path.name for path in (tmp_path / f"{number}").iterdir() if path.is_dir()}
        assert there == {"scheduler", "vqvae", "transformer" if left == "unet/*" else "unet"}


def test_weights_in_shards_are_taken_with_their_index(pipeline, tmp_path):
    weights = load_file(pipeline / SAFE)
    (pipeline / SAFE).unlink()
    unet = Denoiser.from_pipeline(REFERENCE / "target", torch.device("cpu")).network
    size = sum(weight.nbytes for weight in weights.values())
    unet.save_pretrained(pipeline / "unet", max_shard_size=size // 2)
    assert len(list((pipeline / "unet").glob("*-of-*"))) > 1
    assert copy_pipeline(pipeline, tmp_path / "copy") == []
    opened = Denoiser.from_pipeline(tmp_path / "copy", torch.device("cpu")).network.state_dict()
    assert all(torch.equal(opened[name], weights[name]) for name in weights)


def variant(pipeline: Path, name: str, move: bool = True) -> None:
    """The weights as those of a variant too, or instead."""
    file = pipeline / f"unet/diffusion_pytorch_model.{name}.safetensors"
    (shutil.move if move else shutil.copy)(pipeline / SAFE, file)


def test_rounded_weights_beside_whole_ones_are_listed_and_the_whole_ones_taken(pipeline, tmp_path):
    put(pipeline, "unet/diffusion_pytorch_model.fp16.safetensors")
    assert copied(pipeline, tmp_path, []) == ["unet/diffusion_pytorch_model.fp16.safetensors"]


@pytest.mark.parametrize("name", ["fp16", "non_ema"])
def test_a_variant_that_is_all_there_is_is_taken_and_called_plainly(name, pipeline, tmp_path):
    variant(pipeline, name)
    assert copied(pipeline, tmp_path, []) == []


def test_of_several_sets_of_weights_one_must_be_named(pipeline, tmp_path):
    variant(pipeline, "ema", move=False)
    theirs = "unet/diffusion_pytorch_model.ema.safetensors"
    with pytest.raises(InputError, match=r"to take them instead, say target\.variant: ema"):
        copy_pipeline(pipeline, tmp_path / "copy")
    with pytest.raises(InputError, match=r"has no weights of variant 'fp16', which target\.variant names"):
        copy_pipeline(pipeline, tmp_path / "copy", Taking(variant="fp16"))
    (pipeline / SAFE).rename(pipeline / "unet/diffusion_pytorch_model.non_ema.safetensors")
    with pytest.raises(InputError, match=r"several sets of weights: name one by target\.variant: ema or non_ema"):
        copy_pipeline(pipeline, tmp_path / "copy")
    (pipeline / theirs).write_bytes(b"of another")
    not_taken = copy_pipeline(pipeline, tmp_path / "copy", Taking(variant="non_ema"))
    assert not_taken == [theirs]
    assert file_hash(tmp_path / "copy") == file_hash(REFERENCE / "target")


def test_shards_of_a_variant_are_taken_with_their_index(pipeline, tmp_path):
    weights = load_file(pipeline / SAFE)
    (pipeline / SAFE).unlink()
    unet = Denoiser.from_pipeline(REFERENCE / "target", torch.device("cpu")).network.half()
    size = sum(weight.nbytes for weight in weights.values()) // 2
    unet.save_pretrained(pipeline / "unet", max_shard_size=size // 2, variant="fp16")
    assert len(list((pipeline / "unet").glob("*.fp16-*-of-*"))) > 1
    assert copy_pipeline(pipeline, tmp_path / "copy") == []
    opened = Denoiser.from_pipeline(tmp_path / "copy", torch.device("cpu")).network.state_dict()
    assert all(torch.equal(opened[name], weights[name].half().float()) for name in weights)


def test_one_file_beside_shards_of_the_same_part_is_refused(pipeline, tmp_path):
    shard = "unet/diffusion_pytorch_model-00001-of-00002.safetensors"
    put(pipeline, shard)
    with pytest.raises(InputError, match="unet has weights in one file and in shards"):
        copy_pipeline(pipeline, tmp_path / "copy")
    assert copied(pipeline, tmp_path, [shard]) == [shard]


def test_a_part_of_another_library_and_one_that_the_index_goes_without_are_refused(pipeline, tmp_path):
    index = json.loads((pipeline / "model_index.json").read_text())
    for parts, said in (
        ({"unet": ["my_code", "UNet"]}, "the part unet is of my_code; parts of diffusers and transformers are opened"),
        ({"unet": [None, None]}, "the pipeline goes without unet, but there is a folder unet/"),
    ):
        (pipeline / "model_index.json").write_text(json.dumps(index | parts))
        with pytest.raises(InputError, match=re.escape(said)):
            copy_pipeline(pipeline, tmp_path / "copy")


def test_states_of_training_beside_a_pipeline_are_listed_not_taken(pipeline, tmp_path):
    """What diffusers' train_unconditional.py leaves."""
    states = ["optimizer.bin", "random_states_0.pkl", "scheduler.bin", "unet/diffusion_pytorch_model.safetensors"]
    names = [f"checkpoint-500/{name}" for name in states] + ["logs/train/hparams.yml"]
    put(pipeline, *names)
    assert sorted(copied(pipeline, tmp_path, [])) == sorted(names)


def test_a_part_that_no_score_would_know_is_refused_by_name_and_so_is_one_that_is_missing(pipeline, tmp_path):
    index = json.loads((pipeline / "model_index.json").read_text())
    for part, said in (
        ("controlnet", "the part 'controlnet' (ControlNetModel) is not supported: what the model does depends on it"),
        ("vae", "names the part vae, but there is no folder vae/: a download cut short?"),
    ):
        changed = index | {part: ["diffusers", "ControlNetModel"], "requires_safety_checker": [False]}
        (pipeline / "model_index.json").write_text(json.dumps(changed))
        with pytest.raises(InputError, match=re.escape(f"{pipeline}/model_index.json: {said}")):
            copy_pipeline(pipeline, tmp_path / "copy")
    (pipeline / "model_index.json").write_text(json.dumps(index | {"controlnet": [None, None]}))
    copy_pipeline(pipeline, tmp_path / "copy")


def test_a_folder_that_is_no_pipeline_says_what_it_is(pipeline, tmp_path):
    commit = Path(shutil.copytree(pipeline, tmp_path / f"models--owner--name/snapshots/{REVISION}"))
    for folder, said in (
        (tmp_path / "models--owner--name", f"it is a repository of the Hub's cache: name {commit}"),
        (tmp_path / "models--owner--name/snapshots", f"{REVISION} in it has one"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            copy_pipeline(folder, tmp_path / "copy")
    (pipeline / "model_index.json").unlink()
    with pytest.raises(InputError, match=r"it has no model_index\.json, only parts of one: save the whole pipeline"):
        copy_pipeline(pipeline, tmp_path / "copy")


SECRET = "-----BEGIN OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize("name", ["README.md", "unet/config.json", "unet/notes.json", "tokenizer/vocab.json"])
def test_a_link_that_leads_out_of_the_folder_is_refused_by_name_and_its_file_goes_nowhere(name, pipeline, tmp_path):
    (tmp_path / "id_rsa").write_text(SECRET)
    (pipeline / name).unlink(missing_ok=True)
    (pipeline / name).parent.mkdir(exist_ok=True)
    (pipeline / name).symlink_to(tmp_path / "id_rsa")
    with pytest.raises(InputError, match=re.escape(f"{pipeline / name}: is a link to {tmp_path / 'id_rsa'}, which is")):
        copy_pipeline(pipeline, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("target", ["..", "nowhere", "unet"])
def test_a_link_to_a_folder_or_to_nothing_is_refused(target, pipeline, tmp_path):
    (pipeline / "vae").symlink_to(target)
    with pytest.raises(InputError, match=f"vae: is a link to {re.escape(target)}, which is no file of"):
        copy_pipeline(pipeline, tmp_path / "copy")


def test_a_link_within_the_folder_and_a_linked_folder_are_taken(pipeline, tmp_path):
    (pipeline / SAFE).rename(pipeline / "unet/weights")
    (pipeline / SAFE).symlink_to("weights")
    (tmp_path / "link").symlink_to(pipeline)
    assert copied(tmp_path / "link", tmp_path, []) == ["unet/weights"]


def test_a_snapshot_in_the_hubs_cache_is_taken_though_its_files_are_links_but_no_other_link_of_it(pipeline, tmp_path):
    cache = tmp_path / "models--owner--name"
    snapshot = cache / "snapshots" / REVISION
    (cache / "blobs").mkdir(parents=True)
    for number, file in enumerate(sorted(file for file in pipeline.rglob("*") if file.is_file())):
        link = snapshot / file.relative_to(pipeline)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, cache / "blobs" / str(number))
        link.symlink_to(cache / "blobs" / str(number))
    assert copied(snapshot, tmp_path, []) == []
    (tmp_path / "id_rsa").write_text(SECRET)
    (snapshot / "README.md").symlink_to("../../../id_rsa")
    with pytest.raises(InputError, match=r"README\.md: is a link to \.\./\.\./\.\./id_rsa"):
        copy_pipeline(snapshot, tmp_path / "again")


def test_a_pipe_in_the_folder_is_not_waited_for(pipeline, tmp_path):
    os.mkfifo(pipeline / "unet/notes.json")
    assert copied(pipeline, tmp_path, []) == []


def test_a_latent_pipeline_whose_configuration_has_no_scaling_factor_is_refused(family, tmp_path):
    for name, part in (("latent_vq", "vqvae"), ("dit", "vae")):
        pipeline = shutil.copytree(family(name), tmp_path / name)
        config = json.loads((pipeline / part / "config.json").read_text())
        del config["scaling_factor"]
        (pipeline / part / "config.json").write_text(json.dumps(config))
        with pytest.raises(InputError, match=f"{part}/config.json: has no scaling_factor, and diffusers would take"):
            open_pipeline(pipeline)


def test_values_that_diffusers_fills_in_and_files_that_are_not_taken_are_printed_and_on_the_page(
    pipeline, audit, capsys
):
    file = pipeline / "scheduler/scheduler_config.json"
    config = json.loads(file.read_text())
    for name in ("prediction_type", "beta_start", "clip_sample_range"):  # the last is of sampling alone
        del config[name]
    file.write_text(json.dumps(config))
    put(pipeline, "README.md", "safety_checker/model.safetensors")
    use(model=str(pipeline))
    make_target(TARGET)
    said = capsys.readouterr().out
    assert (
        f"{TARGET}: filled in by diffusers: scheduler.beta_start: 0.0001, scheduler.prediction_type: epsilon\n" in said
    )
    assert f"{TARGET}: not taken: README.md, safety_checker/model.safetensors\n" in said
    report()
    page = Path("metrics/report.html").read_text()
    assert "<code>scheduler.prediction_type: epsilon</code>" in page
    assert "<code>safety_checker/model.safetensors</code>" in page


class Hub(ThreadingHTTPServer):
    """The two answers of the Hub that a download needs, for one repository at one commit."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files, self.sent = files, []


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == f"/api/models/owner/name/tree/{REVISION}":
            tree = [_entry(name, content) for name, content in self.server.files.items()]
            self._send(json.dumps(tree).encode(), {"Content-Type": "application/json"})
            return
        name = path.removeprefix(f"/owner/name/resolve/{REVISION}/")
        if name not in self.server.files:
            self._send(b"", {"X-Error-Code": "RepoNotFound"}, status=404)
            return
        content = self.server.files[name]
        if self.command == "GET":
            self.server.sent.append(name)
        entry = _entry(name, content)
        self._send(content, {"ETag": f'"{entry.get("lfs", entry)["oid"]}"'})

    do_HEAD = do_GET  # noqa: N815

    def _send(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "X-Repo-Commit": REVISION, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _entry(name: str, content: bytes) -> dict:
    """A file as the Hub lists it: weights are stored as large files, told by their SHA-256."""
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry = {"type": "file", "path": name, "oid": git, "size": len(content)}
    large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry if name.endswith(".json") else {**entry, "lfs": large}


@pytest.fixture
def offline(tmp_path, monkeypatch) -> None:
    """A Hub that nobody reaches, and a cache of the test's own."""
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)


@pytest.fixture
def served(pipeline, offline, monkeypatch) -> Iterator[Hub]:
    """The pipeline on a Hub, with a pickle beside it."""
    add_pickle(pipeline, safe_too=True)
    files = {path.relative_to(pipeline).as_posix(): path.read_bytes() for path in pipeline.rglob("*.*")}
    with Hub(files) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub, "ENDPOINT", address)
        monkeypatch.setattr(hub, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
        thread = threading.Thread(target=server.serve_forever, args=[0.01])  # seconds until it sees that it should end
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_pipeline_on_the_hub_is_taken_without_its_pickle_and_then_needs_no_network(served, tmp_path, monkeypatch):
    download(PIPELINE, None, [], tmp_path / "first")
    assert file_hash(tmp_path / "first") == file_hash(REFERENCE / "target")
    assert PICKLE not in served.sent
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    download(PIPELINE, None, [], tmp_path / "again")
    assert file_hash(tmp_path / "again") == file_hash(tmp_path / "first")


def test_files_of_the_hub_that_are_left_out_by_name_are_not_fetched(served, tmp_path):
    served.files["unet_ema/diffusion_pytorch_model.safetensors"] = b"other weights"
    download(PIPELINE, None, [], tmp_path / "all")
    with pytest.raises(InputError, match=r"unet_ema/diffusion_pytorch_model\.safetensors are weights beside"):
        copy_pipeline(tmp_path / "all", tmp_path / "copy")
    served.sent.clear()
    download(PIPELINE, None, ["unet_ema/*"], tmp_path / "some")
    assert not [name for name in served.sent if name.startswith("unet_ema")]
    assert file_hash(tmp_path / "some") == file_hash(REFERENCE / "target")


def test_a_pickle_on_the_hub_comes_if_it_is_asked_for_by_name(served, tmp_path):
    download(PIPELINE, PICKLE, [], tmp_path / "taken")
    assert (tmp_path / "taken" / PICKLE).read_bytes() == served.files[PICKLE]


def test_a_repository_without_safetensors_is_refused_with_the_option_that_takes_a_pickle(served, tmp_path):
    del served.files[SAFE]
    with pytest.raises(InputError, match=r"has no safetensors: .* name their file in target\.pickle"):
        download(PIPELINE, None, [], tmp_path / "taken")


def test_bytes_other_than_the_hub_names_are_refused(served, tmp_path):
    download(PIPELINE, None, [], tmp_path / "first")
    (snapshot,) = (tmp_path / "cache").glob(f"*/snapshots/{REVISION}")
    for name in ("model_index.json", SAFE):
        blob = (snapshot / name).resolve()
        content = blob.read_bytes()
        blob.write_bytes(content[:-1] + b"!")
        with pytest.raises(InputError, match=f"{name} is damaged"):
            download(PIPELINE, None, [], tmp_path / "again")
        blob.write_bytes(content)


def test_a_repository_that_is_not_there_is_refused(served, tmp_path):
    with pytest.raises(InputError, match=r"owner/other at .*: the Hub does not hand it out: 404"):
        download(PIPELINE.model_copy(update={"repo": "owner/other"}), None, [], tmp_path / "taken")


def test_a_pipeline_on_the_hub_for_other_images_is_named_by_its_repository(served, audit, refusal):
    config = served.files["unet/config.json"]
    served.files["unet/config.json"] = config.replace(b'"sample_size": 8', b'"sample_size": 16')
    options = {"hub": {"repo": "owner/name", "revision": REVISION}}
    use(model="leakgauge/diffusion/pipelines.py", target=options)
    assert "owner/name: takes 16x16 1-channel images, the dataset has 8x8" in refusal(make_target, target=TARGET)


def test_a_hub_that_cannot_be_reached_is_one_line_with_what_to_do(offline, audit, refusal):
    options = {"hub": {"repo": "owner/name", "revision": REVISION}}
    use(model="leakgauge/diffusion/pipelines.py", target=options)
    before = file_hash(MODEL)
    line = refusal(make_target, target=TARGET)
    assert f"params.yaml: targets.{TARGET}.target.hub: owner/name at {REVISION}: the Hub cannot be reached" in line
    assert f"hf download owner/name --revision {REVISION} --exclude '*.bin' --local-dir FOLDER" in line
    assert "`model: FOLDER`" in line
    assert file_hash(MODEL) == before


def test_a_pipeline_on_the_hub_becomes_the_target(served, audit):
    options = {"hub": {"repo": "owner/name", "revision": REVISION}}
    use(model="leakgauge/diffusion/pipelines.py", target=options)
    make_target(TARGET)
    assert file_hash(MODEL) == file_hash(REFERENCE / "target")


@pytest.mark.parametrize(
    ("stage", "options", "said"),
    [
        (make_target, None, "target.hub: null, but `source: hub` needs {repo: owner/name, revision: a commit's full"),
        (config, {"repo": "owner/name"}, "target.hub.revision: missing"),
        (config, {"repo": "owner/name", "revision": "main"}, "target.hub.revision: String should match pattern"),
        (config, {"repo": "name", "revision": REVISION}, "target.hub.repo: String should match pattern"),
    ],
)
def test_a_hub_entry_that_pins_no_commit_is_refused(stage, options, said, audit, refusal):
    params = tiny_params()
    params["targets"][TARGET]["model"] = "leakgauge/diffusion/pipelines.py"
    params["target"]["hub"] = options
    write_params(params)
    assert f"params.yaml: {said}" in refusal(stage, target=TARGET)


def test_the_page_names_the_repository_not_the_recipe(audit):
    options = {"hub": {"repo": "owner/name", "revision": REVISION}}
    use(model="leakgauge/diffusion/pipelines.py", target=options)
    report()
    page = Path("metrics/report.html").read_text()
    assert "<code>owner/name</code> on the Hugging Face Hub" in page
    assert "<code>leakgauge/diffusion/pipelines.py</code>" not in page
