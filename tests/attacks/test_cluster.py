"""The Ray backend on a cluster of this machine: a head and two nodes of one core each, one process group a node."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import tiny_params, write_params

from leakgauge.scoring import Shards
from stages.score import score

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's way to say: this process stays on the loopback
pytest.importorskip("ray")
pytestmark = pytest.mark.slow
TARGET = "digits_ddpm"
SCORES = Path(f"data/scores/{TARGET}/holdout.parquet")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_node(log: Path, *words: str) -> subprocess.Popen:
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats", *words]
    environment = os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    return subprocess.Popen(
        command, start_new_session=True, stdout=log.open("w"), stderr=subprocess.STDOUT, env=environment
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[subprocess.Popen]]:
    """The two worker nodes; RAY_ADDRESS points to the head, which computes nothing."""
    logs, address = tmp_path_factory.mktemp("ray"), f"127.0.0.1:{free_port()}"
    head = ("--head", f"--port={address.split(':')[1]}", "--num-cpus=0", "--include-dashboard=false")
    local = ("--node-ip-address=127.0.0.1", f"--object-store-memory={100 * 2**20}")
    nodes = [start_node(logs / "head", *head, *local)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", address)
        try:
            wait_for_start(logs / "head")
            for name in ("first", "second"):  # one after the other: of two that start at once, one may fail
                nodes.append(start_node(logs / name, f"--address={address}", "--num-cpus=1", *local))
                wait_for_start(logs / name)
            yield nodes[1:]
        finally:
            for node in reversed(nodes):
                os.killpg(node.pid, signal.SIGKILL)
                node.wait()


def wait_for_start(log: Path) -> None:
    for _ in range(600):
        if "Ray runtime started" in log.read_text():
            return
        time.sleep(0.1)
    raise TimeoutError(f"{log}: {log.read_text()}")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As on a node: the number of threads may change a score's last digit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def by_ray(**options: object) -> None:
    params = tiny_params()
    params["score"] |= {"backend": "ray", **options}
    write_params(params)
    SCORES.unlink()
    score(TARGET, "holdout")


def test_both_backends_write_the_same_bytes(cluster, audit):
    before = SCORES.read_bytes()
    by_ray()
    assert SCORES.read_bytes() == before


def test_unfinished_work_of_one_backend_is_gone_on_with_by_the_other(cluster, audit, monkeypatch):
    before, save, saved = SCORES.read_bytes(), Shards.save, []

    def stop_after_the_first(folder: Shards, start: int, scores: bytes, place: dict[str, str]) -> None:
        save(folder, start, scores, place)
        saved.append(start)
        if len(saved) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Shards, "save", stop_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        score(TARGET, "holdout")
    by_ray()
    assert sorted(saved) == [0, 50, 100]
    assert SCORES.read_bytes() == before


def test_a_node_that_dies_half_way_changes_nothing(cluster, audit, monkeypatch):
    """Its shards are given to the other node."""
    params = tiny_params()
    params["score"]["shard"] = 5
    write_params(params)
    score(TARGET, "holdout")
    before = SCORES.read_bytes()
    killed = []

    from leakgauge import scoring as module

    write_bytes = module.write_bytes

    def kill_after_the_second(path: Path, data: bytes) -> None:
        write_bytes(path, data)
        if len(list(path.parent.glob("*.npy"))) == 2 and not killed:
            os.killpg(cluster[0].pid, signal.SIGKILL)
            killed.append(path)

    monkeypatch.setattr(module, "write_bytes", kill_after_the_second)
    by_ray(shard=5)
    assert killed
    assert SCORES.read_bytes() == before


def test_a_cluster_without_a_node_is_one_line_and_keeps_what_was_scored(cluster, audit, monkeypatch, refusal):
    params = tiny_params()
    params["score"] |= {"backend": "ray", "shard": 5}
    write_params(params)
    saved = []

    def kill_at_the_first(folder: Shards, start: int, scores: bytes, place: dict[str, str]) -> None:
        save(folder, start, scores, place)
        for node in cluster if not saved else ():
            os.killpg(node.pid, signal.SIGKILL)
        saved.append(folder.folder)

    save = Shards.save
    SCORES.unlink()
    monkeypatch.setattr(Shards, "save", kill_at_the_first)
    assert "ray: no node is left that could score: start one and run again" in refusal(
        score, target=TARGET, role="holdout"
    )
    assert list(saved[0].glob("*.npy"))
    assert not SCORES.exists()


def test_a_cluster_that_is_not_there_is_one_line(audit, monkeypatch, refusal):
    params = tiny_params()
    params["score"]["backend"] = "ray"
    write_params(params)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    said = refusal(score, target=TARGET, role="holdout")
    assert said.startswith("stages.score: score.backend: ray: ")
