"""What others hand over is data: nothing in it is run or leaves its folder, no name becomes HTML, no secret is kept.

That a pickle is never taken unasked: test_pipelines_from_elsewhere.py.
"""

import ast
import io
import re
import subprocess
import tarfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import REPOSITORY, answer_about, ask_about, tiny_params, write_params, write_photos
from PIL import Image

from leakgauge.datasets import archive, cifar
from leakgauge.files import file_hash
from leakgauge.tables import ROLES
from stages.check import check
from stages.evaluate import evaluate
from stages.fit import fit
from stages.images import prepare_images
from stages.predict import predict
from stages.report import report
from stages.score import score
from stages.split import split
from stages.target import target as make_target

TARGET = "digits_ddpm"
PROGRAM = sorted(
    file
    for package in ("leakgauge", "stages", "benchmarks", "studies")
    for file in (REPOSITORY / package).rglob("*.py")
)
EXAMPLES = sorted(
    (REPOSITORY / "examples").glob("*/model.py")
)  # edm/convert.py is for pickles, and no part of an audit
UNPICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "yaml"}  # ruamel's is another
NEVER = {"eval", "exec", "extract", "extractall", "unpack_archive", "system", "popen", "Markup"}
ONLY_WITH = {("torch", "load"): ("weights_only", True), ("np", "load"): ("allow_pickle", False)}


def faults(source: str) -> list[str]:
    """What a file of the program does that runs or unpacks what others hand over."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [f"imports {name}" for name in modules if name.split(".")[0] in UNPICKLERS]
        if isinstance(node, ast.keyword) and (node.arg, ast.unparse(node.value)) in (
            ("trust_remote_code", "True"),
            ("shell", "True"),
            ("autoescape", "False"),
        ):
            found.append(f"{node.arg}={ast.unparse(node.value)}")
        if isinstance(node, ast.Call):
            found += _call(node)
    return found


def _call(node: ast.Call) -> list[str]:
    place, _, name = ast.unparse(node.func).rpartition(".")
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in NEVER and (place or name in {"eval", "exec", "Markup"}) and not (name == "eval" and place):
        return [f"calls {name}"]
    if place == "joblib" and name == "load":
        return ["calls joblib.load"]
    if wanted := ONLY_WITH.get((place, name)):
        return [] if keywords.get(wanted[0]) == str(wanted[1]) else [f"{place}.{name} without {wanted[0]}={wanted[1]}"]
    if name == "YAML" and keywords.get("typ") == "'unsafe'":
        return ["unsafe YAML"]
    return []


@pytest.mark.parametrize("file", [*PROGRAM, *EXAMPLES], ids=lambda file: file.relative_to(REPOSITORY).as_posix())
def test_no_code_of_the_program_unpickles_evaluates_or_unpacks(file):
    assert faults(file.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load\nimport dill.source",
        "joblib.load(path)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "np.load(path)",
        "YAML(typ='unsafe')",
        "import yaml",
        "eval(text)",
        "tar.extractall(folder)",
        "shutil.unpack_archive(path)",
        "os.system(line)",
        "subprocess.run(line, shell=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "Environment(autoescape=False)",
        "jinja2.Markup(name)",
    ],
)
def test_such_code_would_be_found(source):
    assert faults(source)


def test_no_template_switches_escaping_off():
    for template in (REPOSITORY / "leakgauge").rglob("*.jinja"):
        text = template.read_text()
        assert not any(word in text for word in ("|safe", "| safe", "autoescape", "<script")), template


class Hostile:
    """Writes a file as soon as it is unpickled."""

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.write_text, (Path("ran"), "ran")


def use(section: str, name: str, **entry: object) -> None:
    params = tiny_params()
    params[section][name] |= entry
    write_params(params)


def checkpoint_of_pytorch_ddpm() -> tuple:
    Path("theirs").mkdir()
    torch.save({"ema_model": Hostile()}, "theirs/ckpt.pt")
    flags = ("T=20", "ch=32", "ch_mult=1", "num_res_blocks=1", "beta_1=0.001", "beta_T=0.05", "img_size=8")
    Path("theirs/flagfile.txt").write_text("".join(f"--{flag}\n" for flag in (*flags, "mean_type=epsilon")))
    use("targets", TARGET, model="theirs")
    return make_target, {"target": TARGET}, "theirs/ckpt.pt"


def pickle_asked_for_by_name() -> tuple:
    Path(f"models/target/{TARGET}").rename("theirs")
    torch.save({"conv_in.weight": Hostile()}, "theirs/unet/weights.bin")
    use("targets", TARGET, model="theirs", target={"pickle": "unet/weights.bin"})
    return make_target, {"target": TARGET}, "theirs/unet/weights.bin"


def images_of_an_npz() -> tuple:
    np.savez("theirs.npz", images=np.array([Hostile()], dtype=object))
    use("datasets", "digits", source="npz", path="theirs.npz")
    return prepare_images, {"dataset": "digits"}, "theirs.npz"


def labels_of_an_npz() -> tuple:
    np.savez("theirs.npz", images=np.zeros((1, 8, 8), np.uint8), labels=np.array([Hostile()], dtype=object))
    use("datasets", "digits", source="npz", path="theirs.npz")
    return prepare_images, {"dataset": "digits"}, "theirs.npz"


def index_of_a_split() -> tuple:
    np.savez("theirs.npz", mia_train_idxs=np.array([Hostile()], dtype=object), mia_eval_idxs=np.arange(9))
    params = tiny_params()
    params["split"]["index"] = {"path": "theirs.npz", "sha256": file_hash(Path("theirs.npz"))}
    write_params(params)
    return split, {"target": TARGET}, "theirs.npz"


DOORS = (
    checkpoint_of_pytorch_ddpm,
    pickle_asked_for_by_name,
    images_of_an_npz,
    labels_of_an_npz,
    index_of_a_split,
)


@pytest.mark.parametrize("door", DOORS)
def test_a_hostile_pickle_is_refused_in_one_line_and_never_run(door, audit, refusal):
    stage, argument, path = door()
    assert f"{path}: " in refusal(stage, **argument)
    assert not Path("ran").exists()


def test_the_hostile_pickle_does_its_work_where_it_is_run(audit):
    np.savez("theirs.npz", images=np.array([Hostile()], dtype=object))
    with np.load("theirs.npz", allow_pickle=True) as arrays:
        arrays["images"]
    assert Path("ran").exists()


def secrets(config: str) -> list[str]:
    """Lines of a DVC configuration that only `config.local` or the environment may hold."""
    words = ("secret", "password", "passphrase", "token", "key", "credential", "connection_string", "auth_header")
    lines = [line.partition("=") for line in config.splitlines() if "=" in line]
    of_name = [name.strip() for name, _, value in lines if any(word in name.lower() for word in words)]
    return of_name + [name.strip() for name, _, value in lines if re.search(r"://[^/]*:[^/]*@", value)]


def test_the_configuration_in_git_holds_no_secret():
    assert secrets((REPOSITORY / ".dvc/config").read_text()) == []
    assert secrets("    access_key_id = AKIA\n    secret_access_key = x\n    url = s3://team\n") == [
        "access_key_id",
        "secret_access_key",
    ]
    assert secrets("    url = ssh://me:word@host/path") == ["url"]


@pytest.mark.parametrize("name", ["config.local", "tmp/any", "cache/any"])
def test_git_leaves_out_what_dvc_keeps_for_one_user(name):
    done = subprocess.run(["git", "check-ignore", "--quiet", f".dvc/{name}"], cwd=REPOSITORY)
    assert done.returncode == 0


def test_an_archive_is_read_by_the_names_of_its_files_and_nothing_is_unpacked(tmp_path, monkeypatch):
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    record = bytes([3]) + bytes(3072)
    with tarfile.open("theirs.tar.gz", "w:gz") as tar:
        for name in ("../escaped", str(tmp_path / "absolute"), *cifar.FILES["cifar10"]["test"]):
            member = tarfile.TarInfo(name)
            member.size = len(record)
            tar.addfile(member, io.BytesIO(record))
        link = tarfile.TarInfo("cifar-10-batches-bin/link")
        link.type, link.linkname = tarfile.SYMTYPE, "../../linked"
        tar.addfile(link)
    path = Path("theirs.tar.gz")
    known = archive.Archive(cifar.ARCHIVES["cifar10"].url, path.stat().st_size, file_hash(path))
    monkeypatch.setitem(cifar.ARCHIVES, "cifar10", known)
    images = cifar.read(cifar.CifarEntry(source="cifar10", path=str(path), part="test"))
    assert images.labels == [3]
    assert {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*")} == {"place", "place/theirs.tar.gz"}


def test_a_file_of_an_archive_that_is_a_link_out_of_it_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("outside").write_bytes(bytes(3073))
    with tarfile.open("theirs.tar", "w") as tar:
        link = tarfile.TarInfo(cifar.FILES["cifar10"]["test"][0])
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
        tar.addfile(link)
    with tarfile.open("theirs.tar") as tar, pytest.raises(KeyError):
        archive.opened(tar, cifar.FILES["cifar10"]["test"][0])


class Page(HTMLParser):
    """What a browser would make of a page: its elements, their attributes, its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.values: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.values |= {value or "" for _, value in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


SCRIPT, HANDLER = "<script>alert(1)</script>", '" onerror="alert(1)'


@pytest.fixture
def hostile_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished audit of scores from elsewhere, where every name that its owner may choose tries to be HTML."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    ids = [f"{number}{SCRIPT}" for number in range(200)]
    write_photos(ids, rng.integers(0, 256, (200, 8, 8, 1), dtype=np.uint8)[..., 0], Path("photos.parquet"))
    suspects = [f"{SCRIPT}.png", f"{HANDLER}.png"]
    for number, name in enumerate(suspects):
        path = Path("found", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(number, 64 + number, dtype=np.uint8).reshape(8, 8)).save(path)
    score_name = f"loss{SCRIPT}"
    members = [1] * 50 + [0] * 150 + [None] * 2
    names = [*ids, *(f"found/{name}" for name in suspects)]
    table = {"image_id": names, "is_member": members, score_name: rng.lognormal(size=202)}
    Path(f"scores{HANDLER}").mkdir()
    given = f"scores{HANDLER}/theirs.parquet"
    pq.write_table(pa.table(table), given)
    params = tiny_params()
    params["datasets"] = {"photos": {"source": "parquet", "path": "photos.parquet"}}
    params["learners"], params["evaluate"]["stack"] = {"marginal": {"kind": "marginal"}}, []
    params["split"], params["target"]["scores"] = {"auxiliary": 120}, [score_name]
    params["fit"]["scores"] = [score_name]
    params["targets"] = {"theirs": {"images": "photos", "model": given}}
    write_params(ask_about("found", {"source": "folder", "path": "found"}, params, "theirs"))
    prepare_images("photos")
    for stage in (split, check, make_target):
        stage("theirs")
    for role in ROLES:
        score("theirs", role)
    fit("theirs", "marginal")
    predict("theirs", "marginal")
    evaluate("theirs")
    answer_about("found")
    report()


def test_no_name_becomes_html_on_the_page(hostile_audit):
    page = Page(Path("metrics/report.html").read_text())
    shown = f"{SCRIPT}.png", f"{HANDLER}.png", f"loss{SCRIPT}", f"scores{HANDLER}/theirs.parquet"
    assert all(name in page.text for name in shown), "each is there, as text"
    assert {f"{SCRIPT}.png", f"{HANDLER}.png"} <= page.values, "and as what an image is called"
    assert "script" not in page.elements
    assert not [name for name in page.attributes if name.startswith("on")]
