"""a new audit project, so that the clone of this tool is not yours

    leakgauge init my_audit && cd my_audit
    leakgauge audit my_pipeline photos --members 'members/*'     (copied into it, so that DVC shares them)

The project is a git and DVC repository of its own.  It carries the pipeline's code (dvc.yaml, stages/, leakgauge/),
because DVC computes a stage again when its code changed, and a figure can be made again years later: `pip install -e .`
in a colleague's clone installs just this code.  --update replaces the code by this version's, and leaves parameters,
data and results as they are.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from leakgauge.commands.code import git, source
from leakgauge.config import PARAMS
from leakgauge.errors import InputError

CODE = (".dvc/plots", "docs/params.schema.json", "dvc.yaml", "leakgauge", "pyproject.toml", "constraints.txt", "stages")
ONCE = (".dvc/config", ".dvcignore", ".gitattributes", ".gitignore", "LICENSE", "data/README.md", "models/README.md")
README = """# An audit by leakgauge

Does a diffusion model leak its training images?  The parameters are in `params.yaml`, the answer is in
`metrics/summary.json` and `metrics/report.html`.

```sh
python3 -m venv .venv && . .venv/bin/activate
pip install -c constraints.txt -e .
leakgauge audit my_pipeline photos --members 'members/*'
git add --all && git commit -m "First audit"
dvc push    # to the team's remote: dvc remote add --default team ...
```

A colleague clones it, installs it likewise, and runs `dvc pull`, or `leakgauge report`.  It carries the code that makes
its figures; `leakgauge init --update .` of a newer leakgauge replaces that code, and nothing else.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    parser.add_argument("folder", metavar="DIR", help="of the project; it must not exist, or be empty but for .git")
    parser.add_argument("--update", action="store_true", help="replace the code of the project there by this version's")


def run(folder: str, update: bool = False) -> int:
    """Returns the exit status.  Raises InputError, with nothing written."""
    project, code = Path(folder), source()
    tracked = [path for path in git(code, "ls-files", "-z").split("\0") if (code / path).is_file()]
    if update:
        _update(code, project, [path for path in tracked if _within(path, CODE)])
        print(f"{project}: the code is this version's; `git diff` shows what changed, `leakgauge report` computes it")
        return 0
    if project.exists() and (not project.is_dir() or any(path.name != ".git" for path in project.iterdir())):
        raise InputError(f"{project}: is there already, and not empty: take another folder, or --update its code")
    _make(code, project, [path for path in tracked if _within(path, (*CODE, *ONCE))])
    print(f"{project}: a new audit project")
    try:
        git(project, "commit", "--quiet", "--message", "A new audit project")
    except InputError:
        print(
            "git could not commit: tell it your name (`git config --global user.name ...`, and user.email), then run\n"
            f"  git -C {project} commit --message 'A new audit project'"
        )
    print(f"Next:\n  cd {project}\n  leakgauge audit MODEL IMAGES --members 'members/*'    (leakgauge audit --help)")
    return 0


def _make(code: Path, project: Path, paths: list[str]) -> None:
    """A project, staged in git: made beside its place, and moved there when it is whole."""
    params = empty_params((code / PARAMS).read_text(encoding="utf-8"))
    project.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=project.parent, prefix=f".{project.resolve().name}.") as beside:
        made = Path(beside, "project")
        made.mkdir()
        git(made, "init", "--quiet")
        _dvc_init(made)
        _copy(code, made, paths)
        (made / PARAMS).write_text(params, encoding="utf-8")
        (made / "README.md").write_text(README, encoding="utf-8")
        project.mkdir(exist_ok=True)
        if (project / ".git").exists():  # of an empty repository that was cloned
            shutil.rmtree(made / ".git")
        for path in sorted(made.iterdir()):
            path.replace(project / path.name)
    git(project, "add", "--all")


def _dvc_init(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{folder}: dvc init failed: {done.stderr.strip()}")


def _update(code: Path, project: Path, paths: list[str]) -> None:
    """Replace the code of a project.  Raises InputError where that would lose anything."""
    if not (project / "dvc.yaml").is_file() or not (project / ".git").exists():
        raise InputError(f"{project}: no audit project to update: there is no dvc.yaml under git")
    if project.resolve() == code:
        raise InputError(
            f"{project}: this leakgauge is the project's own: run that of a newer clone, "
            "`path/to/clone/.venv/bin/leakgauge init --update .`"
        )
    if changed := git(project, "status", "--porcelain", "--", *CODE):
        raise InputError(
            f"{project}: {changed.split()[1]} has uncommitted changes, which --update would lose: commit them"
        )
    for part in CODE:
        _remove(project / part)
    _copy(code, project, paths)


def empty_params(text: str) -> str:
    """params.yaml without datasets, targets and suspects; learners and options stay as they are, comments too."""
    from ruamel.yaml import YAML

    head, rest = text.partition("\ndatasets:")[0], text.partition("\nlearners:")[2]
    if not YAML(typ="safe", pure=True).load(text) or not rest:
        raise InputError(f"{PARAMS}: has no section learners")
    registries = (
        "datasets: {}                     # images; `leakgauge audit` writes entries, and so may you",
        "targets: {}                      # models: {images: photos, model: my_pipeline, members: 'members/*'}",
        "suspects: {}                     # images in question, a set an entry: {target: mine, images: found}",
    )
    return head + "\n" + "\n".join(registries) + "\n\nlearners:" + rest


def _within(path: str, parts: tuple[str, ...]) -> bool:
    return any(path == part or path.startswith(f"{part}/") for part in parts)


def _copy(code: Path, project: Path, paths: list[str]) -> None:
    for path in paths:
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(code / path, project / path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
