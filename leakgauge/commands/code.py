"""The pipeline's code: where that of this program is, and whether that of a project is another."""

import subprocess
from pathlib import Path

from leakgauge.errors import InputError

PATTERNS = ("dvc.yaml", "stages/*.py", "leakgauge/**/*.py", "leakgauge/**/*.jinja")  # what decides results


def root() -> Path:
    """The folder that this leakgauge is in."""
    return Path(__file__).resolve().parents[2]


def source() -> Path:
    """The clone that this leakgauge is installed from.  Raises InputError where it was installed without one."""
    if not (root() / "dvc.yaml").is_file() or not (root() / ".git").exists():
        raise InputError(f"{root()}: no clone of leakgauge: install it with `pip install --editable` from a git clone")
    return root()


def differing(project: Path) -> list[str]:
    """Files of the code that a project has otherwise than this leakgauge; none where it is the project's own."""
    if root() == project.resolve():
        return []
    patterns = PATTERNS if (root() / "dvc.yaml").is_file() else PATTERNS[2:]  # installed without its clone
    here, there = _contents(root(), patterns), _contents(project, patterns)
    return sorted(path for path in here.keys() | there.keys() if here.get(path) != there.get(path))


def _contents(folder: Path, patterns: tuple[str, ...]) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for pattern in patterns for path in folder.glob(pattern)
    }


def git(folder: Path, *words: str) -> str:
    """What git prints.  Raises InputError with the last line of what it says where it fails."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)
    except FileNotFoundError:
        raise InputError("git: not found: install it, the audit's history is kept by it") from None
    if done.returncode:
        raise InputError(f"{folder}: git {words[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
