"""What comes over the network is what was pinned, or it is not taken.  The network here is a server of the test."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import encoded, tiny_params, write_params

from leakgauge.datasets import parquet
from leakgauge.datasets.archive import DOWNLOADS, Archive, official
from leakgauge.errors import InputError
from leakgauge.files import file_hash
from stages.images import prepare_images

READER = Path("leakgauge/datasets/cifar.py")
HUB_READER = "leakgauge/datasets/parquet.py"
REVISION = "0123456789abcdef0123456789abcdef01234567"
CONTENT = b"an archive's bytes " * 1000


class Server(ThreadingHTTPServer):
    """Serves `files` (path -> body and headers) and remembers who was fetched."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.fetched: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        path, body = self.answer()
        self.server.fetched.append(path)
        self.wfile.write(body)

    def answer(self) -> tuple[str, bytes]:
        path = self.path.split("?")[0]
        body, headers = self.server.files.get(path, (b"", {}))
        self.send_response(200 if path in self.server.files else 404)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        return path, body

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    """A running server; the test works in an empty folder."""
    monkeypatch.chdir(tmp_path)
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def published(server) -> Archive:
    """An archive that the server has, and what is known of it."""
    server.files["/set.tar.gz"] = (CONTENT, {})
    return Archive(f"{server.url}/set.tar.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def nothing_is_left() -> bool:
    return not DOWNLOADS.exists() or not list(DOWNLOADS.iterdir())


def test_an_archive_is_downloaded_once(server, published):
    assert official(READER, published) == official(READER, published) == DOWNLOADS / "set.tar.gz"
    assert (DOWNLOADS / "set.tar.gz").read_bytes() == CONTENT
    assert [path.name for path in DOWNLOADS.iterdir()] == ["set.tar.gz"]
    assert server.fetched == ["/set.tar.gz"]


def test_an_archive_put_there_by_hand_is_not_downloaded(server, published):
    DOWNLOADS.mkdir(parents=True)
    (DOWNLOADS / "set.tar.gz").write_bytes(CONTENT)
    Path("mine.tgz").write_bytes(CONTENT)
    assert official(READER, published) == DOWNLOADS / "set.tar.gz"
    assert official(Path("mine.tgz"), published) == Path("mine.tgz")
    assert server.fetched == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(CONTENT[:-1], "has 18999 bytes, not the 19000 of "), (CONTENT[::-1], "has sha256 ")],
)
def test_another_archive_than_the_published_one_is_refused_wherever_it_comes_from(content, said, server, published):
    server.files["/set.tar.gz"] = (content, {})
    with pytest.raises(
        InputError, match=f"set.tar.gz: cannot be downloaded .what arrived {said}.*: fetch it elsewhere"
    ):
        official(READER, published)
    assert nothing_is_left()
    Path("mine.tgz").write_bytes(content)
    with pytest.raises(InputError, match=f"mine.tgz: {said}.*: it is cut short, damaged or another file: fetch it"):
        official(Path("mine.tgz"), published)
    (DOWNLOADS / "set.tar.gz").write_bytes(content)
    with pytest.raises(InputError, match=f"data/downloads/set.tar.gz: {said}.*: remove it, to have it downloaded"):
        official(READER, published)


def test_a_connection_that_breaks_leaves_nothing(server, published):
    server.files["/set.tar.gz"] = (CONTENT[:100], {"Content-Length": str(len(CONTENT))})
    with pytest.raises(InputError, match="cannot be downloaded"):
        official(READER, published)
    assert nothing_is_left()


def test_an_archive_that_cannot_be_had_is_one_line_that_says_where_to_put_it(server, published):
    server.files.clear()
    with pytest.raises(
        InputError, match=r"HTTP Error 404: Not Found\): fetch it elsewhere and put it at data/downloads"
    ):
        official(READER, published)
    with pytest.raises(InputError, match=r"mine.tgz: not found, or not a file: `path` must be set.tar.gz from http"):
        official(Path("mine.tgz"), published)
    assert nothing_is_left()


def test_a_reader_refuses_an_archive_that_is_not_the_official_one_in_one_line(server, refusal):
    Path("mine.tar.gz").write_bytes(CONTENT)
    for source, size in {"cifar10": 170052171, "cifar100": 168513733, "stl10": 2640397119}.items():
        params = tiny_params()
        params["datasets"]["photos"] = {"source": source, "path": "mine.tar.gz"}
        write_params(params)
        assert f"mine.tar.gz: has 19000 bytes, not the {size} of " in refusal(prepare_images, dataset="photos")


def rows(*values: int) -> bytes:
    """A Parquet file of one-colour images, as the Hub has them."""
    images = [{"bytes": encoded(np.full((4, 4), value, np.uint8)), "path": None} for value in values]
    pq.write_table(pa.table({"img": images, "label": list(values)}), "made.parquet")
    return Path("made.parquet").read_bytes()


@pytest.fixture
def the_hub(server, monkeypatch) -> Server:
    """The Hub's protocol, as far as a download needs it, and a dataset of three files and a text on it."""
    template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE
    template = template.replace(huggingface_hub.constants.ENDPOINT, server.url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(Path("cache").absolute()))
    names = ["data/train-0.parquet", "data/train-1.parquet", "data/test-0.parquet", "README.md"]
    listed = []
    for name, body in zip(names, [rows(1, 2), rows(3), rows(9), b"# Digits"], strict=True):
        digest = hashlib.sha256(body).hexdigest()
        lfs = {"oid": digest, "size": len(body), "pointerSize": 130}
        listed.append({"type": "file", "path": name, "size": len(body), "oid": digest[:40], "lfs": lfs})
        headers = {"X-Repo-Commit": REVISION, "ETag": f'"{digest}"'}
        server.files[f"/datasets/me/digits/resolve/{REVISION}/{name}"] = (body, headers)
    server.files[f"/api/datasets/me/digits/tree/{REVISION}"] = (
        json.dumps(listed).encode(),
        {"Content-Type": "application/json"},
    )
    return server


def entry(**values) -> parquet.ParquetEntry:
    pinned = {"repo": "me/digits", "revision": REVISION}
    keys = {
        "source": "parquet",
        "path": HUB_READER,
        "files": "data/train-*.parquet",
        "hub": pinned,
    }
    return parquet.ParquetEntry.model_validate(keys | values)


def test_files_on_the_hub_are_read_in_order_and_downloaded_once(the_hub):
    for _ in range(2):
        images = parquet.read(entry())
        assert images.labels == images.pixels[:, 0, 0, 0].tolist() == [1, 2, 3]
    fetched = [path.rpartition("/")[2] for path in the_hub.fetched if path.endswith(".parquet")]
    assert sorted(fetched) == ["train-0.parquet", "train-1.parquet"]


def test_a_file_of_the_hub_that_was_damaged_since_is_refused(the_hub):
    parquet.read(entry())
    stored = next(Path("cache").rglob("train-1.parquet")).resolve()
    stored.write_bytes(stored.read_bytes()[::-1])
    with pytest.raises(InputError, match=f"train-1.parquet: its sha256 is not {stored.name}: it is damaged, remove"):
        parquet.read(entry())
    assert file_hash(stored) != stored.name


def test_a_hub_out_of_reach_is_one_line_that_says_what_to_do(the_hub, refusal, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    params = tiny_params()
    params["datasets"]["photos"] = entry().model_dump(exclude_none=True)
    write_params(params)
    line = refusal(prepare_images, dataset="photos")
    assert (
        f"dataset me/digits at {REVISION}: the Hub does not deliver it: download data/train-*.parquet elsewhere" in line
    )
    assert "give its folder as `path` and leave `hub` out" in line


def test_a_repository_or_a_file_that_the_hub_does_not_have_is_refused(the_hub):
    with pytest.raises(InputError, match=r"dataset me/faces at .*: the Hub does not deliver it"):
        parquet.read(entry(hub={"repo": "me/faces", "revision": REVISION}))
    with pytest.raises(InputError, match="no files match 'val-"):
        parquet.read(entry(files="val-*.parquet"))


@pytest.mark.parametrize("revision", ["main", REVISION[:7], REVISION.upper()])
def test_a_revision_that_could_move_is_refused(revision, tmp_path, monkeypatch, refusal):
    monkeypatch.chdir(tmp_path)
    params = tiny_params()
    photos = {
        "source": "parquet",
        "path": HUB_READER,
        "hub": {"repo": "me/digits", "revision": revision},
    }
    params["datasets"]["photos"] = photos
    write_params(params)
    assert (
        f"datasets.photos.hub.revision: String should match pattern '^[0-9a-f]{{40}}$', found '{revision}'"
        in refusal(prepare_images, dataset="photos")
    )


def test_a_path_beside_a_hub_is_refused(tmp_path, monkeypatch, refusal):
    monkeypatch.chdir(tmp_path)
    params = tiny_params()
    params["datasets"]["photos"] = entry().model_dump() | {"path": "photos.parquet"}
    write_params(params)
    line = refusal(prepare_images, dataset="photos")
    assert (
        "datasets.photos: Value error, path and hub name two places: keep photos.parquet, or path: leakgauge/" in line
    )
