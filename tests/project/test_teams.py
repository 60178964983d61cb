"""Teams: the guide's commands, as written, against a folder, an OpenSSH server and an S3 server that are real."""

import getpass
import grp
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import REPOSITORY, ask_about, dump_params, quick_params
from PIL import Image
from pipeline import TARGET, commit, environment, git, repro, run
from servers import ACCESS_KEY, SECRET_KEY, SSHServer, s3_server, ssh_server

from leakgauge.files import file_hash
from leakgauge.tables import ROLES, decode_images, read_table

PAGE = (REPOSITORY / "docs/guides/teams.md").read_text()
REMOTES = ("A folder", "SSH", "S3")
HOST_KEYS, LINKS = "DVC does not check SSH host keys", "root writes through links"
TRIED, CACHE = "Parameters that somebody tried before", "One cache for a machine"
HAND_OVER = "Compute and hand over"
WALKED = {*REMOTES, HOST_KEYS, LINKS, TRIED, CACHE, "Inputs", HAND_OVER, "Fetch", "Merge", "Pull requests"}
VERDICTS = f"data/verdicts/{TARGET}.parquet"
IDENTITY = {f"GIT_{who}_{what}": "t@example.invalid" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
# That have files in git, of another seed of the checks.
CHECKED = [f"check@{TARGET}", f"evaluate@{TARGET}", f"copies@{TARGET}", "report"]
slow = pytest.mark.slow


def section(title: str) -> str:
    return re.split(r"^#+ ", PAGE.split(f"# {title}\n")[1], flags=re.MULTILINE)[0]


def commands(title: str) -> list[str]:
    return [
        line for block in re.findall(r"```sh\n(.*?)```", section(title), flags=re.DOTALL) for line in block.splitlines()
    ]


def local(lines: list[str]) -> list[str]:
    """What everyone sets for themselves."""
    return [line for line in lines if "--local" in line]


def test_every_section_with_commands_is_walked_below():
    titles = re.findall(r"^#+ (.+)$", PAGE, flags=re.MULTILINE)
    assert {title for title in titles if commands(title)} == WALKED


def attempt(folder: Path, command: str, **variables: str) -> subprocess.CompletedProcess:
    variables = environment() | IDENTITY | variables
    return subprocess.run(command, shell=True, cwd=folder, env=variables, capture_output=True, text=True)


def walk(folder: Path, lines: list[str], places: dict[str, str]) -> list[str]:
    """Run commands of the page, its places exchanged for the test's; the stages that they ran."""
    told = ""
    for line in lines:
        for place, own in places.items():
            line = line.replace(place, own)
        done = attempt(folder, line)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        told += done.stdout
    return re.findall(r"Running stage '(.+)':", told)


def copy_of(finished_clone: Path, folder: Path) -> Path:
    """Whoever computed: the finished clone, and a bare repository that it pushes to."""
    shutil.copytree(finished_clone, folder / "mine", symlinks=True)
    git(folder, "init", "--quiet", "--bare", "--initial-branch", "main", "hub")
    git(folder / "mine", "remote", "add", "origin", str(folder / "hub"))
    git(folder / "mine", "push", "--quiet", "--set-upstream", "origin", "main")
    return folder / "mine"


def colleague(folder: Path, name: str) -> Path:
    git(folder, "clone", "--quiet", "hub", name)
    return folder / name


@contextmanager
def storage(kind: str, folder: Path) -> Iterator[dict[str, str]]:
    """What the page calls the storage -> what it is called here, while it is up."""
    with ExitStack() as up:
        if kind == "SSH":
            server = ssh_server(folder)
            up.enter_context(server.up("host_key"))
            yield ssh_places(server)
        elif kind == "S3":
            (folder / "buckets/leakgauge-audits").mkdir(parents=True)
            url = up.enter_context(s3_server(folder / "buckets"))
            yield {"https://s3.example.org": url, "alice": ACCESS_KEY, "hunter2": SECRET_KEY}
        else:
            yield {"/srv/leakgauge": f"{folder}/store", "audit ": f"{grp.getgrgid(os.getgid()).gr_name} "}


def ssh_places(server: SSHServer) -> dict[str, str]:
    return {
        "storage.example.org/srv/leakgauge": f"127.0.0.1:{server.port}{server.folder}/store",
        "team-storage/srv/leakgauge": f"team-storage{server.folder}/store",
        "alice": getpass.getuser(),
        "~/.ssh/id_ed25519": str(server.keyfile),
    }


@slow
@pytest.mark.parametrize("kind", REMOTES)
def test_a_clone_fetches_what_another_pushed_and_runs_nothing(kind, finished_clone, tmp_path):
    mine = copy_of(finished_clone, tmp_path)
    with storage(kind, tmp_path) as places:
        walk(mine, commands(kind), places)
        assert walk(mine, commands(HAND_OVER), places) == []
        theirs = colleague(tmp_path, "theirs")
        walk(theirs, local(commands(kind)), places)
        assert walk(theirs, commands("Fetch"), places) == []
    assert file_hash(theirs / VERDICTS) == file_hash(mine / VERDICTS)
    assert git(theirs, "status", "--porcelain") == ""
    personal = {own for place, own in places.items() if place in ("alice", "hunter2", "~/.ssh/id_ed25519")}
    in_git = (theirs / ".dvc/config").read_text()
    assert not any(f"= {own}\n" in in_git for own in personal)
    assert all(f"= {own}\n" in (mine / ".dvc/config.local").read_text() for own in personal)
    assert ".dvc/config.local" not in git(mine, "ls-files")
    if kind == "A folder":
        assert all(path.stat().st_mode & 0o2070 == 0o2070 for path in (tmp_path / "store/files/md5").iterdir())


@pytest.fixture(scope="module")
def pushed_to_s3(finished_clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone that may fetch the finished audit from S3, while the server is up."""
    folder = tmp_path_factory.mktemp("s3")
    mine = copy_of(finished_clone, folder)
    with storage("S3", folder) as places:
        walk(mine, [*commands("S3"), *commands(HAND_OVER)], places)
        theirs = colleague(folder, "theirs")
        walk(theirs, local(commands("S3")), places)
        yield theirs


@slow
def test_the_wrong_key_is_refused_by_s3_and_the_right_one_taken_from_the_environment(pushed_to_s3):
    for option in ("access_key_id", "secret_access_key"):
        run(pushed_to_s3, "dvc", "remote", "modify", "--local", "--unset", "team", option)
    for words in ("dvc pull", "dvc push"):
        done = attempt(pushed_to_s3, words, AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY="wrong")
        assert done.returncode != 0
        assert "403" in done.stderr
    done = attempt(pushed_to_s3, "dvc pull", AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY)
    assert done.returncode == 0, done.stderr
    run(pushed_to_s3, "rm", "-r", ".dvc/cache", "data/verdicts")  # as it came
    walk(pushed_to_s3, local(commands("S3")), {"alice": ACCESS_KEY, "hunter2": SECRET_KEY})


@slow
def test_with_verify_a_damaged_file_of_a_remote_is_refused_and_without_believed(pushed_to_s3):
    md5 = locked_md5(pushed_to_s3, VERDICTS)
    remote = pushed_to_s3.parent / f"buckets/leakgauge-audits/cache/files/md5/{md5[:2]}/{md5[2:]}"
    remote.write_bytes(remote.read_bytes()[:-8] + b"tampered")
    assert attempt(pushed_to_s3, f"dvc pull {VERDICTS}").returncode != 0
    assert not (pushed_to_s3 / VERDICTS).exists()
    run(pushed_to_s3, "dvc", "remote", "modify", "team", "verify", "false")
    run(pushed_to_s3, "dvc", "pull")
    assert (pushed_to_s3 / VERDICTS).read_bytes().endswith(b"tampered")
    assert "up to date" in run(pushed_to_s3, "dvc", "status"), "DVC itself finds nothing: hence the page"


def locked_md5(folder: Path, path: str) -> str:
    return re.search(rf"path: {path}\n\s+hash: md5\n\s+md5: (\w+)", (folder / "dvc.lock").read_text())[1]


@slow
def test_an_impostor_is_believed_by_dvc_and_refused_through_openssh(finished_clone, tmp_path, monkeypatch):
    mine, server = copy_of(finished_clone, tmp_path), ssh_server(tmp_path)
    places = ssh_places(server)
    walk(mine, commands("SSH"), places)
    with server.up("host_key"):
        run(mine, "dvc", "push")
    with server.up("impostors_key"):
        run(mine, "dvc", "push", "--run-cache")  # no word of it: hence the page
        tunnel(server, tmp_path, monkeypatch)
        walk(mine, commands(HOST_KEYS), places)
        done = attempt(mine, "dvc push --run-cache")
        assert done.returncode != 0
        assert "Connection lost" in done.stderr
    with server.up("host_key"):
        run(mine, "dvc", "push", "--run-cache")


def tunnel(server: SSHServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's ~/.ssh/config, and the host that it names in an OpenSSH configuration of the test."""
    config = re.search(r"```text\n(.*?)```", section(HOST_KEYS), flags=re.DOTALL)[1]
    config = config.replace("ssh -W localhost:22", f"ssh -F {folder}/ssh_config -W localhost:{server.port}")
    (folder / ".ssh").mkdir()
    (folder / ".ssh/config").write_text(config)
    key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"storage.example.org {key}")
    known = f"HostKeyAlias storage.example.org\nUserKnownHostsFile {folder}/known_hosts\nStrictHostKeyChecking yes\n"
    host = f"HostName 127.0.0.1\nPort {server.port}\nUser {getpass.getuser()}\nIdentityFile {server.keyfile}\n"
    (folder / "ssh_config").write_text(f"Host storage.example.org\n{host}{known}")
    monkeypatch.setenv("HOME", str(folder))


@slow
def test_one_cache_restores_what_another_computed_without_its_commit(finished_clone, tmp_path):
    mine = copy_of(finished_clone, tmp_path)
    places = {"/srv/leakgauge-cache": str(tmp_path / "cache")}
    walk(mine, commands(CACHE), places)
    theirs = colleague(tmp_path, "theirs")
    git(theirs, "checkout", "--quiet", "HEAD~1")
    assert not (theirs / "dvc.lock").exists()
    walk(theirs, commands(CACHE), places)
    assert repro(theirs) == ["report"]
    git(theirs, "add", "--all")
    assert git(theirs, "diff", "--cached", "--stat", "main", "--", "dvc.lock", "metrics") == "", "nothing is missing"


def results_of(folder: Path, section_: str, **values) -> list[str]:
    """The stages that run, and a commit, after a change of parameters."""
    params = quick_params()
    params[section_] |= values
    dump_params(params, folder)
    executed = repro(folder)
    commit(folder, section_)
    return executed


@pytest.fixture(scope="module")
def branches(finished_clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clones `mine` and `theirs`, on branches whose results differ; a folder for a remote."""
    folder = tmp_path_factory.mktemp("branches")
    mine = copy_of(finished_clone, folder)
    with storage("A folder", folder) as places:
        walk(mine, [*commands("A folder"), *commands(HAND_OVER)], places)
        theirs = colleague(folder, "theirs")
        run(theirs, "dvc", "pull")
        git(theirs, "switch", "--quiet", "--create", "theirs")
        scored = [f"score@{TARGET}-{role}" for role in ROLES]
        assert sorted(results_of(theirs, "check", seed=1)) == sorted([*CHECKED, *scored, f"config@{TARGET}"])
        run(theirs, "dvc", "push", "--run-cache")
        git(theirs, "push", "--quiet", "--set-upstream", "origin", "theirs")
        gbm = quick_params()["learners"]["gbm"] | {"leaves": 4}
        assert results_of(mine, "learners", gbm=gbm) == [
            *(f"config@{TARGET}", f"fit@{TARGET}-gbm", f"predict@{TARGET}-gbm"),
            *(f"evaluate@{TARGET}", "report"),
        ]
    return folder


@slow
def test_an_earlier_commit_comes_back_without_running_anything(branches):
    theirs = branches / "theirs"
    git(theirs, "switch", "--quiet", "--detach", "main")
    run(theirs, "dvc", "pull")
    assert repro(theirs) == []


@slow
def test_through_a_remote_the_run_cache_restores_no_stage_with_files_in_git(branches):
    third = colleague(branches, "third")
    git(third, "checkout", "--quiet", "origin/theirs", "--", "params.yaml")
    run(third, "dvc", "pull", "--run-cache")
    assert repro(third, "--pull") == CHECKED, "it works by now: tell the page"


@slow
def test_a_commit_that_was_fetched_can_be_restored_from_its_parameters_and_merged_without_running_it_again(branches):
    mine = branches / "mine"
    assert walk(mine, commands(TRIED), {}) == []
    assert git(mine, "diff", "--stat", "origin/theirs", "--", "dvc.lock", "metrics") == ""
    git(mine, "reset", "--quiet", "--hard")
    run(mine, "dvc", "checkout")
    assert repro(mine) == []
    assert git(mine, "status", "--porcelain") == ""

    git(mine, "merge", "--no-commit", "-X", "ours", "origin/theirs")
    assert (mine / "dvc.lock").read_text() == git(mine, "show", "HEAD:dvc.lock"), "all of it is mine, not half"
    git(mine, "merge", "--abort")
    assert walk(mine, commands("Merge"), {}) == [f"config@{TARGET}", f"evaluate@{TARGET}", "report"], (
        "what neither had computed: the checks are theirs, the bags are mine"
    )
    assert repro(mine) == []
    assert git(mine, "status", "--porcelain") == ""


def test_no_recipe_forces_dvc_to_believe_that_outputs_came_of_inputs():
    assert not [line for title in WALKED for line in commands(title) if "commit" in line and "--force" in line]


ANSWERS = ("metrics/suspects/asked.json", "data/verdicts/suspects/asked.parquet")
ASKED = "found"


@pytest.fixture(scope="module")
def handed_over(finished_clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `mine` has asked about 12 members of its target and handed that over."""
    folder = tmp_path_factory.mktemp("asked")
    mine = copy_of(finished_clone, folder)
    members = read_table(mine / f"data/roles/{TARGET}/member.parquet").slice(0, 12)
    (mine / ASKED).mkdir()
    for number, pixels in enumerate(decode_images(members)):
        Image.fromarray(pixels[0]).save(mine / ASKED / f"{number}.png")
    params = ask_about("asked", {"source": "folder", "path": ASKED}, quick_params())
    params["evaluate"]["false_discovery_rate"] = 0.99  # this target hardly leaks: name some all the same
    dump_params(params, mine)
    with storage("A folder", folder) as places:
        walk(mine, [*commands("A folder"), *commands("Inputs"), "dvc repro", *commands(HAND_OVER)], places)
    assert git(mine, "status", "--porcelain") == ""
    assert json.loads((mine / ANSWERS[0]).read_text())["suspects"] == 12
    return folder


@slow
def test_a_colleague_has_the_same_verdict_on_the_suspects_and_nothing_runs(handed_over):
    theirs = colleague(handed_over, "second")
    assert walk(theirs, commands("Fetch"), {}) == []
    assert git(theirs, "status", "--porcelain") == ""
    assert len(list((theirs / ASKED).iterdir())) == 12
    for answer in ANSWERS:
        assert file_hash(theirs / answer) == file_hash(handed_over / "mine" / answer)
    assert walk(theirs, commands("Pull requests"), {}) == []


@slow
def test_a_colleague_who_has_not_fetched_the_suspects_or_lost_them_is_told(handed_over):
    third = colleague(handed_over, "third")
    assert walk(third, commands("Pull requests"), {}) == [], "the gate needs none of them"
    before = (third / ANSWERS[0]).read_bytes()
    done = attempt(third, "dvc repro")
    assert done.returncode != 0
    assert ASKED in done.stderr
    walk(third, commands("Fetch"), {})
    for image in (third / ASKED).iterdir():
        image.unlink()
    done = attempt(third, "dvc repro")
    assert done.returncode != 0
    assert f"stages.images: {ASKED}: no images in this folder" in done.stderr
    assert (third / ANSWERS[0]).read_bytes() == before
    git(third, "checkout", "--quiet", ".")
    run(third, "dvc", "checkout", "--force", f"{ASKED}.dvc")
    assert repro(third) == [], "they are back, and so is the verdict"

    (third / ASKED / "0.png").unlink()
    assert "images@asked_images" in repro(third)
    assert json.loads((third / ANSWERS[0]).read_text())["suspects"] == 11
    changed = git(third, "status", "--porcelain").split()
    assert {f"{ASKED}.dvc", ANSWERS[0]} <= set(changed), "and git shows that it is another set"


@slow
@pytest.mark.skipif(os.getuid() != 0, reason="only root writes to a read-only file")
def test_what_root_writes_through_a_link_is_healed_by_fetching_again(finished_clone, tmp_path):
    mine = copy_of(finished_clone, tmp_path)
    with storage("A folder", tmp_path) as places:
        walk(mine, [*commands("A folder"), "dvc push"], places)
        run(mine, "dvc", "config", "--local", "cache.type", "hardlink")
        run(mine, "dvc", "checkout", "--relink")
        with (mine / VERDICTS).open("a") as stream:
            stream.write("\n")
        assert f"modified:           {VERDICTS}" in run(mine, "dvc", "status")
        run(mine, "dvc", "checkout", "--force")
        assert "up to date" in run(mine, "dvc", "status"), "and yet damaged: hence the page"
        assert file_hash(mine / VERDICTS) != file_hash(finished_clone / VERDICTS)
        walk(mine, commands(LINKS), places)
    assert "up to date" in run(mine, "dvc", "status")
    assert file_hash(mine / VERDICTS) == file_hash(finished_clone / VERDICTS)
    assert (mine / VERDICTS).stat().st_nlink == 1
