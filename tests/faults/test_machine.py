"""A full disk, a folder that cannot be written to, damaged files, two runs at once: nothing wrong is taken as right."""

import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipeline import TARGET, environment, git, repro, run
from undisturbed import Undisturbed, another, results, undisturbed

pytestmark = pytest.mark.slow
MEMBER, AUXILIARY, HOLDOUT = (f"data/scores/{TARGET}/{role}.parquet" for role in ("member", "auxiliary", "holdout"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return undisturbed(tmp_path_factory)


@pytest.fixture
def copy(whole: Undisturbed, tmp_path: Path) -> Path:
    return another(whole, tmp_path / "copy")


@pytest.fixture
def disk(whole: Undisturbed, tmp_path: Path) -> Iterator[Path]:
    """A copy on a small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield another(whole, place / "copy")
    subprocess.run(["umount", "--lazy", place], check=True)


def refused(folder: Path, stage: str, *arguments: str) -> str:
    """The one line that a stage says as it ends with exit status 1."""
    command = ["python", "-m", f"stages.{stage}", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert (done.returncode, len(lines)) == (1, 1), done.stderr
    return lines[0]


def filled(folder: Path, spare: int) -> Path:
    """A file that takes all of a disk but `spare` bytes."""
    filler = folder / "filler"
    free = shutil.disk_usage(folder).free
    filler.write_bytes(bytes(max(0, free - spare)))
    return filler


@pytest.mark.parametrize("stage", [("target", TARGET), ("score", TARGET, "holdout"), ("fit", TARGET, "gbm")])
def test_on_a_full_disk_a_stage_ends_with_one_line_and_leaves_what_was_there(stage, disk, whole):
    filled(disk.parent, 8192)
    assert "No space left on device" in refused(disk, *stage)
    assert results(disk) == whole.results


def test_a_run_that_filled_the_disk_goes_on_once_there_is_space(disk, whole):
    shutil.rmtree(disk / ".dvc/cache/runs")
    filler = filled(disk.parent, 200_000)
    done = subprocess.run(["dvc", "repro", "--force"], cwd=disk, env=environment(), capture_output=True, text=True)
    assert done.returncode != 0
    filler.unlink()
    git(disk, "checkout", "dvc.lock")  # DVC writes it in place
    repro(disk)
    assert results(disk) == whole.results


def test_in_a_folder_that_cannot_be_written_to_a_stage_ends_with_one_line(disk, whole):
    scores = disk / f"data/scores/{TARGET}"
    for options in (["--bind", scores, scores], ["-o", "remount,ro,bind", scores]):
        subprocess.run(["mount", *options], check=True)
    try:
        line = refused(disk, "score", TARGET, "holdout")
    finally:
        subprocess.run(["umount", scores], check=True)
    assert "Read-only file system" in line
    assert str(Path(HOLDOUT).parent) in line
    assert results(disk) == whole.results


def test_on_a_disk_that_cannot_be_written_to_a_stage_ends_with_one_line(disk):
    subprocess.run(["mount", "-o", "remount,ro", disk.parent], check=True)
    assert "Read-only file system" in refused(disk, "check", TARGET)


def test_two_runs_at_once_in_one_clone_do_not_hurt_each_other(copy, whole):
    shutil.rmtree(copy / ".dvc/cache/runs")
    for name in (MEMBER, HOLDOUT, f"data/verdicts/{TARGET}.parquet"):
        (copy / name).unlink()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [subprocess.Popen(["dvc", "repro"], cwd=copy, env=environment(), **pipes) for _ in range(2)]
    told = [process.communicate()[0] for process in both]
    for process, text in zip(both, told, strict=True):
        assert process.returncode == 0 or "busy" in text or "Unable to acquire lock" in text, text
    repro(copy)
    assert results(copy) == whole.results


def stored(clone: Path, name: str, cache: str = ".dvc/cache") -> Path:
    """The object of DVC's cache, or of a remote, behind a file."""
    digest = re.search(rf"{re.escape(name)}\n\s+hash: md5\n\s+md5: (\w+)", (clone / "dvc.lock").read_text())[1]
    return clone / cache / "files/md5" / digest[:2] / digest[2:]


def damage(path: Path, size: int | None = None) -> None:
    """Flip bits in the middle of a file, or cut it, as a disk might: its mode stays."""
    mode, content = path.stat().st_mode, bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.chmod(mode | stat.S_IWUSR)
    path.write_bytes(content[:size])
    path.chmod(mode)


def test_a_table_from_a_damaged_cache_is_refused_not_read(copy):
    """DVC trusts its cache: it checks out what lies there, and calls it up to date."""
    damage(stored(copy, HOLDOUT))
    (copy / HOLDOUT).unlink()
    run(copy, "dvc", "checkout", HOLDOUT)
    assert "up to date" in run(copy, "dvc", "repro", f"score@{TARGET}-holdout")
    assert f"{HOLDOUT}: not a readable Parquet file" in refused(copy, "evaluate", TARGET)


def test_a_damaged_cache_is_found_and_made_anew(copy, whole):
    shutil.rmtree(copy / ".dvc/cache/runs")
    damage(stored(copy, HOLDOUT))
    (copy / HOLDOUT).unlink()
    run(copy, "dvc", "checkout", HOLDOUT)
    told = subprocess.run(["make", "verify"], cwd=copy, env=environment(), capture_output=True, text=True)
    failed = re.findall("(.+): FAILED", told.stdout)
    assert failed == ["/".join(stored(copy, HOLDOUT).parts[-2:])]
    assert told.returncode != 0
    stored(copy, HOLDOUT).unlink()
    assert f"score@{TARGET}-holdout" in repro(copy)
    assert results(copy) == whole.results


def test_a_cut_table_is_one_line_that_names_it(copy):
    damage(copy / HOLDOUT, size=2000)
    assert f"{HOLDOUT}: not a readable Parquet file" in refused(copy, "evaluate", TARGET)


def test_what_a_remote_lost_or_damaged_is_not_taken_but_computed_again(copy, whole, tmp_path):
    run(copy, "dvc", "remote", "add", "--default", "team", str(copy / "remote"))
    run(copy, "dvc", "remote", "modify", "team", "verify", "true")
    git(copy, "commit", "--all", "--quiet", "--message", "a remote")
    run(copy, "dvc", "push", "--quiet")
    stored(copy, HOLDOUT, "remote").unlink()
    damage(stored(copy, MEMBER, "remote"))
    damage(stored(copy, AUXILIARY, "remote"), size=1000)
    git(tmp_path, "clone", "--quiet", str(copy), "theirs")
    theirs = tmp_path / "theirs"
    done = subprocess.run(["dvc", "pull"], cwd=theirs, env=environment(), capture_output=True, text=True)
    assert done.returncode != 0
    assert all(name in done.stderr for name in (MEMBER, AUXILIARY, HOLDOUT))
    assert repro(theirs, "--pull") == [f"score@{TARGET}-{role}" for role in ("member", "auxiliary", "holdout")]
    assert results(theirs).items() <= whole.results.items()
    run(copy, "dvc", "push", "--quiet")
    assert stored(copy, HOLDOUT, "remote").exists()
