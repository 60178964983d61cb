"""What dvc.yaml declares of code, and what the code imports."""

import ast
import shutil
import tempfile
from pathlib import Path

from conftest import REPOSITORY, ask_about, dump_params
from dvc.repo import Repo
from ruamel.yaml import YAML

LIBRARY = REPOSITORY / "leakgauge"
PARAMS = ask_about(  # of which params.yaml has none
    "asked",
    {"source": "folder", "path": "asked"},
    YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text()),
)


def stages_of(params: dict) -> list:
    """The stages that DVC makes of dvc.yaml; of studies/: test_studies_dag.py."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(REPOSITORY / "dvc.yaml", folder)
        dump_params(params, Path(folder))
        with Repo.init(folder, no_scm=True) as repo:
            return [stage for stage in repo.index.stages if stage.name]


STAGES = stages_of(PARAMS)
# What reads, writes, prints and hands out work, and changes no number: no stage depends on it.  Defaults of options do,
# and how a target's own are laid over them, but they land in data/config, on which stages depend.
PLUMBING = {
    LIBRARY / f"{name}.py"
    for name in ("__init__", "cli", "cluster", "config", "errors", "files", "options", "reference", "tables")
}
RESOLVES = {LIBRARY / "config.py", LIBRARY / "options.py"}
RESOLVERS = ("config", "report")  # stages that read options from params.yaml, not from data/config
# package or module of the library -> those that it may import from, beside `PLUMBING` and compute.py
ARROWS: dict[str, set[str]] = {
    "datasets": set(),
    "features": set(),
    "diffusion": set(),
    "imports": set(),
    "draws": set(),
    "attacks": {"diffusion"},
    "scoring": {"attacks", "diffusion", "draws"},
    "sampling": {"diffusion", "draws"},
    "quantile": set(),
    "inference": {"draws"},
    "bags": {"quantile", "inference"},
    "checks": {"inference"},
    "report": set(),
    "canaries": {"attacks", "datasets", "diffusion", "inference", "scoring"},
    "commands": {"attacks", "canaries", "datasets", "diffusion", "inference", "report", "scoring"},
    "__main__": {"commands"},
}
PLUMBERS = {
    "errors": set(),
    "cli": {"errors"},
    "files": {"errors", "cli"},
    "tables": {"errors", "files"},
    "options": set(),
    "config": {"errors", "cli", "options"},
    "compute": {"cli"},
    "cluster": {"errors", "files", "compute", "attacks"},
    "reference": {"cli", "files", "options", "config", "datasets", "commands"},
    "__init__": set(),
}
WITHOUT_TORCH = {
    *("inference", "checks", "report", "imports", "features", "draws", "commands"),
    *("tables", "config", "options", "cli", "files", "errors", "reference"),
}
CODE = ("leakgauge", "stages", "studies")


def imported(file: Path) -> set[Path]:
    """The project's files that a file imports directly."""
    files = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.split(".")[0] in CODE:
                path = REPOSITORY.joinpath(*name.split("."))
                files |= {found for found in (path.with_suffix(".py"), path / "__init__.py") if found.is_file()}
    return {file for file in files if len(ast.parse(file.read_text()).body) > 1}  # a docstring alone decides nothing


def closure(file: Path) -> set[Path]:
    """A file and everything of the project that it imports, directly or not."""
    seen: set[Path] = set()
    waiting = {file}
    while waiting:
        file = waiting.pop()
        seen.add(file)
        waiting |= imported(file) - seen
    return seen


def module_of(stage) -> Path:
    words = stage.cmd.split()
    assert words[:3] == ["exec", "python", "-m"]
    return REPOSITORY.joinpath(*words[3].split(".")).with_suffix(".py")


def declared(stage) -> set[Path]:
    """The project's code among a stage's dependencies."""
    paths = {REPOSITORY / dep.def_path for dep in stage.deps if dep.protocol == "local"}
    return {path for path in paths if any(path.is_relative_to(REPOSITORY / code) for code in CODE) and _is_code(path)}


def _is_code(path: Path) -> bool:
    return path.suffix == ".py" or any(path.glob("*.py"))


def watched_as_data(stage) -> set[Path]:
    """What the stage's entry in a registry is made from, code or not, imported or not."""
    key = stage.name.partition("@")[2]
    sources = (("datasets", "path"), ("targets", "model"))
    return {REPOSITORY / PARAMS[registry][key][option] for registry, option in sources if key in PARAMS[registry]}


def plumbing(stage) -> set[Path]:
    """What changes none of its numbers."""
    return PLUMBING - RESOLVES if stage.name.split("@")[0] in RESOLVERS else PLUMBING


def undeclared(stage) -> list[Path]:
    """What a stage imports and does not depend on, beside plumbing."""
    covered = declared(stage)
    needed = closure(module_of(stage)) - plumbing(stage)
    return [file for file in needed if not any(file == dep or file.is_relative_to(dep) for dep in covered)]


def idle(stage) -> list[Path]:
    """Code that a stage depends on, and of which it imports nothing."""
    needed = closure(module_of(stage))
    return [
        path
        for path in declared(stage) - watched_as_data(stage)
        if not needed & ({path} if path.is_file() else set(path.rglob("*.py")))
    ]
