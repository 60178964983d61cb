"""The command line of every stage: arguments in, one line out when something is wrong.

No two processes work on one stage, and none works on when the one that started it is gone: whatever is killed,
the next `dvc repro` finds no other writer.

DVC hashes a stage's inputs after it ran.  So a stage that DVC started compares them itself, at its start and at its
end, and fails where they differ: DVC then records nothing.  It takes its arguments from the name of its run
(DVC_STAGE, e.g. `score@digits_ddpm-member`), so that no shell reads a name that a user chose.
"""

import argparse
import fcntl
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from safetensors import SafetensorError  # what its writer raises on a full disk

from leakgauge.errors import InputError, warn

PARTIAL = Path(".partial")  # unfinished work, and the locks of those who are at it
HEARTBEAT = 0.2  # seconds
STARTED_BY = "LEAKGAUGE_STARTED_BY"  # in the environment: the process that a process is to end with
DVC_YAML, PARAMS = Path("dvc.yaml"), Path("params.yaml")
NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")  # of a registry's entry; DVC joins two by '-'
NAME_RULE = "a name is letters, digits and '_' and begins with a letter"
IGNORED = ("*.tmp", "__pycache__", "*.egg-info")  # as .dvcignore has them: DVC does not see them change


def run(stage: Callable[..., None], **arguments: str) -> None:
    """Run `stage` as a program and exit, alone; see `execute`.

    arguments : name -> help of each positional argument, passed to `stage` by name; in DVC's order, they name its run.
    """
    parser = parser_of(stage)
    for argument, text in arguments.items():
        parser.add_argument(argument, help=text)
    name, by_dvc = _name(stage).rpartition(".")[2], os.environ.get("DVC_STAGE", "").rpartition(":")[2]
    by_hand = [word for word in sys.argv[1:] if not word.startswith("-")]
    ours = by_dvc.partition("@")[0] == name and not by_hand  # else it is no run of dvc.yaml
    words = by_dvc.partition("@")[2].split("-") if ours and arguments else []
    if not all(map(NAME.fullmatch, words)):
        _stop(f"{_name(stage)}: {PARAMS}: {'-'.join(words)!r} holds no entries' names: {NAME_RULE}", 1)

    @wraps(stage)
    def only_one(**values: str) -> None:
        run_name = "@".join([name, "-".join(values.values())]) if values else name
        with _alone(run_name):
            before = inputs(run_name) if ours else {}
            stage(**values)
            if ours:
                _check_unchanged(run_name, before)

    execute(only_one, parser, words)


def parser_of(stage: Callable[..., None]) -> argparse.ArgumentParser:
    """A parser without arguments.  stage : a function; its module's docstring becomes the text of `--help`."""
    return argparse.ArgumentParser(
        prog=f"python -m {_name(stage)}",
        description=sys.modules[stage.__module__].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def execute(stage: Callable[..., None], parser: argparse.ArgumentParser, words: Iterable[str] = ()) -> None:
    """Call `stage` with what was parsed, by name, and exit.

    words : arguments before those of the command line.
    Exit status: 0 done; 1 bad input or a machine that cannot go on (one line on stderr, no traceback
    unless `--debug`); 130 interrupted.
    """
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    values = vars(parser.parse_args([*words, *sys.argv[1:]]))
    debug = values.pop("debug")
    with errors_in_one_line(_name(stage), debug):
        stage(**values)


@contextmanager
def errors_in_one_line(name: str, debug: bool = False, resume: str = "`dvc repro`") -> Iterator[None]:
    """Exit with one line that begins with `name` where bad input or the machine stops what is done within.

    debug : let such errors through, with their traceback.  resume : what goes on after an interruption.
    """
    try:
        yield
    except KeyboardInterrupt:
        _stop(f"{name}: interrupted; {resume} goes on from here", 130)
    except (InputError, OSError, MemoryError, SafetensorError) as error:
        if debug:
            raise
        _stop(f"{name}: {_one_line(error)}", 1)
    except BrokenExecutor:
        if debug:
            raise
        _stop(
            f"{name}: a worker process was killed, perhaps because memory ran out: fewer at once need less, "
            f"LOKY_MAX_CPU_COUNT=1 is one; {resume} goes on from here",
            1,
        )
    except RuntimeError as error:
        if debug or type(error).__name__ != "OutOfMemoryError":  # torch's, known by name: most stages have no torch
            raise
        _stop(f"{name}: the device is out of memory, a smaller batch_size helps: {_one_line(error)}", 1)


@contextmanager
def _alone(stage: str) -> Iterator[None]:
    """Hold the lock of a stage, once no other process does.  stage : its DVC name, e.g. `score@digits_ddpm-member`."""
    PARTIAL.mkdir(exist_ok=True)
    with (PARTIAL / f"{quote(stage, safe='@')}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            warn(f"{stage}: process {lock.read()} is still working on it: waiting for it to end, or to be stopped")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def end_with_dvc() -> None:
    """As `end_with_parent` where DVC started this process; one that was started by hand may outlive its shell."""
    if "DVC_STAGE" in os.environ:
        end_with_parent()


def end_with_parent() -> None:
    """From now on, end this process as soon as the one that started it is gone: nothing would take its result.

    The one that started it may be gone already, and another be the parent: so it is asked by the name that it left in
    the environment too.
    """
    parent, starter = os.getppid(), int(os.environ.get(STARTED_BY, os.getppid()))
    os.environ[STARTED_BY] = str(os.getpid())  # for those that this process starts

    def watch() -> None:
        while os.getppid() == parent and _exists(starter):
            time.sleep(HEARTBEAT)
        os._exit(1)  # as good as killed: unfinished work is kept

    threading.Thread(target=watch, daemon=True).start()


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def inputs(run_name: str) -> dict[str, Any]:
    """What dvc.yaml says that a stage's run depends on, as it is now: input -> what changes when it does.

    run_name : DVC's name of the run, e.g. `score@digits_ddpm-member`.
    A file is known by its time of modification (ns), size and inode; an option of params.yaml by its value.
    Raises InputError where dvc.yaml or params.yaml has no such run.
    """
    pipeline, params = (read_yaml(path, "the folder of dvc.yaml") for path in (DVC_YAML, PARAMS))
    name, _, key = run_name.partition("@")
    try:
        definition = pipeline["stages"][name]
        known = {**params, **items_of(definition, key, params)}
        definition = definition.get("do", definition)
        paths = [filled(path, known) for path in definition.get("deps", [])]
        options = [filled(option, known) for option in definition.get("params", [])]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{DVC_YAML}: {run_name} is not there any more: run `dvc repro` again") from None
    files = {file: signature for path in paths for file, signature in _signatures(Path(path))}
    return {**files, **{f"{PARAMS}: {option}": _value(params, option) for option in options}}


def items_of(definition: Mapping[str, Any], key: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """What `${key}` and `${item}` mean in a stage of dvc.yaml, for one of its runs."""
    if registry := definition.get("foreach"):
        return {"key": key, "item": params[registry.strip("${}")][key]}
    return {"item": dict(zip(definition.get("matrix", {}), key.split("-"), strict=True)) if key else {}}


def filled(template: str, known: Mapping[str, Any]) -> str:
    """`data/${item.dataset}.parquet` -> `data/digits.parquet`."""

    def value(found: re.Match[str]) -> str:
        place: Any = known
        for key in found[1].split("."):
            place = place[key]
        return str(place)

    return re.sub(r"\$\{(.+?)\}", value, template)


def _value(params: Any, option: str) -> Any:
    """The value of `section.key`; None where there is none."""
    for key in option.split("."):
        params = params.get(key) if isinstance(params, Mapping) else None
    return params


def _signatures(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every file at or below a path, with what changes when it does."""
    places: Iterable[tuple[str, list[str], list[str]]]
    places = os.walk(path) if path.is_dir() else [(str(path.parent), [], [path.name])]
    for folder, folders, names in places:
        folders[:] = [name for name in folders if not ignored(name)]
        for file in (Path(folder, name) for name in names if not ignored(name)):
            try:
                facts = file.stat()
            except OSError:  # not there, or a link to nowhere: as good as any other state
                continue
            yield str(file), (facts.st_mtime_ns, facts.st_size, facts.st_ino)


def ignored(name: str) -> bool:
    """Whether DVC ignores a file or folder of this name."""
    return any(fnmatchcase(name, pattern) for pattern in IGNORED)


def _check_unchanged(run_name: str, before: dict[str, Any]) -> None:
    """Raises InputError where an input differs from what it was, or code from what was imported."""
    try:
        after = inputs(run_name)
    except InputError:
        after = {}
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    changed += [name for name in after if name.endswith(".py") and Path(name).stat().st_ctime > _started()]
    if changed:
        more = f" (and {len(set(changed)) - 1} more)" if len(set(changed)) > 1 else ""
        raise InputError(f"{changed[0]}{more} changed while {run_name} was running: run `dvc repro` again")


def _started() -> float:
    """When this process began, before it imported anything, in seconds since the epoch; where none can tell, now."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:  # not Linux
        return time.time()
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


def read_yaml(path: Path, where: str) -> dict[str, Any]:
    """A YAML file as plain data, read as DVC reads it (YAML 1.2: `1e-3` is a number).

    where : to run from, where it stands.  Raises InputError.
    """
    try:
        return _parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found: run from {where}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {error}") from None


@lru_cache(maxsize=4)
def _parsed(text: str) -> dict[str, Any]:
    """Not to be changed: the next to read the same text is handed the same."""
    return YAML(typ="safe", pure=True).load(text) or {}


def _name(stage: Callable[..., None]) -> str:
    module = sys.modules[stage.__module__]
    return module.__spec__.name.removesuffix(".__main__") if module.__spec__ else stage.__module__  # as `-m` names it


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _stop(line: str, status: int) -> None:
    print(line, file=sys.stderr, flush=True)
    raise SystemExit(status)
