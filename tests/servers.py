"""Storage that a team would have, for real and on this machine alone: an OpenSSH server and an S3 server."""

import getpass
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ACCESS_KEY, SECRET_KEY = "somebody", "of-the-test-alone"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def serving(port: int, *words: str | Path) -> Iterator[None]:
    """A program that listens on a port of 127.0.0.1 until the block ends."""
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        for _ in range(200):
            assert process.poll() is None, process.stdout.read().decode()
            with socket.socket() as caller:
                if caller.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.communicate()


def new_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@dataclass
class SSHServer:
    """An OpenSSH server with SFTP, keys of its own and nobody's password."""

    folder: Path  # its files
    program: str
    port: int

    @property
    def keyfile(self) -> Path:
        """The one key that opens it."""
        return self.folder / "user_key"

    @contextmanager
    def up(self, host_key: str) -> Iterator[None]:
        """It answers, and proves with this key that it is itself."""
        key = self.folder / host_key
        lines = [
            *(f"ListenAddress 127.0.0.1:{self.port}", f"HostKey {key if key.exists() else new_key(key)}"),
            *(
                f"PidFile {self.folder}/pid",
                f"AuthorizedKeysFile {self.keyfile}.pub",
                f"AllowUsers {getpass.getuser()}",
            ),
            *("PermitRootLogin prohibit-password", "PasswordAuthentication no", "KbdInteractiveAuthentication no"),
            *("StrictModes no", "UsePAM no", "Subsystem sftp internal-sftp"),
        ]
        config = self.folder / "sshd_config"
        config.write_text("\n".join(lines) + "\n")
        with serving(self.port, self.program, "-D", "-e", "-f", config):
            yield


def ssh_server(folder: Path) -> SSHServer:
    """A server that is not up yet; a test without OpenSSH is skipped."""
    program = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if program is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no OpenSSH server (sshd) on this machine")
    if getpass.getuser() == "root":
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd locks up its unprivileged part; a service would make it
    server = SSHServer(folder, str(Path(program).resolve()), free_port())
    new_key(server.keyfile)
    return server


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """An S3 server that checks signatures, its buckets the folders below `folder`; gives its URL."""
    port = free_port()
    rclone = Path(sys.executable).parent / "rclone"
    words = ("serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", folder)
    with serving(port, rclone, "--config", "/dev/null", *words):
        yield f"http://127.0.0.1:{port}"
