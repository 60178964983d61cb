"""The command-line door of every stage: arguments in, one honest line out when something is wrong.

No two processes work on one stage, and none works on when the one that started it is gone, but for its first seconds:
whatever is killed, the next `dvc repro` finds nobody who writes beside it.
"""

import argparse
import fcntl
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from urllib.parse import quote

from safetensors import SafetensorError  # what its writer raises on a full disk

PARTIAL = Path(".partial")  # unfinished work, and the locks of those who are at it
HEARTBEAT = 0.2  # seconds


class InputError(Exception):
    """Bad input.  The message is one line that names the file or the params key and says what to do."""


def run(stage: Callable[..., None], **arguments: str) -> None:
    """Run `stage` as a program and exit, alone; see `execute`.

    arguments : name -> help of each positional argument, passed to `stage` by name; in DVC's order, they name its run.
    """
    parser = parser_of(stage)
    for argument, text in arguments.items():
        parser.add_argument(argument, help=text)

    @wraps(stage)
    def only_one(**values: str) -> None:
        name = _name(stage).rpartition(".")[2]
        with _alone("@".join([name, "-".join(values.values())]) if values else name):
            stage(**values)

    if "DVC_STAGE" in os.environ:  # DVC started it; by hand, it may outlive its shell
        end_with_parent()
    execute(only_one, parser)


def parser_of(stage: Callable[..., None]) -> argparse.ArgumentParser:
    """A parser without arguments.  stage : a function; its module's docstring becomes the text of `--help`."""
    return argparse.ArgumentParser(
        prog=f"python -m {_name(stage)}",
        description=sys.modules[stage.__module__].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def execute(stage: Callable[..., None], parser: argparse.ArgumentParser) -> None:
    """Call `stage` with what was parsed, by name, and exit.

    Exit status: 0 done; 1 bad input or a machine that cannot go on (one line on stderr, no traceback
    unless `--debug`); 130 interrupted.
    """
    name = _name(stage)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    values = vars(parser.parse_args())
    debug = values.pop("debug")
    try:
        stage(**values)
    except KeyboardInterrupt:
        _stop(f"{name}: interrupted; `dvc repro` goes on from here", 130)
    except (InputError, OSError, MemoryError, SafetensorError) as error:
        if debug:
            raise
        _stop(f"{name}: {_one_line(error)}", 1)
    except RuntimeError as error:
        if debug or type(error).__name__ != "OutOfMemoryError":  # torch's, known by name: most stages have no torch
            raise
        _stop(f"{name}: the device is out of memory, a smaller batch_size helps: {_one_line(error)}", 1)


@contextmanager
def _alone(stage: str) -> Iterator[None]:
    """Hold the lock of a stage, as soon as nobody else does.  stage : its DVC name, e.g. `score@digits_ddpm-member`."""
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


def end_with_parent() -> None:
    """From now on, end this process as soon as the one that started it is gone: nobody would take its result."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(HEARTBEAT)
        os._exit(1)  # as good as killed: unfinished work is kept

    threading.Thread(target=watch, daemon=True).start()


def _name(stage: Callable[..., None]) -> str:
    module = sys.modules[stage.__module__]
    return module.__spec__.name if module.__spec__ else stage.__module__


def warn(message: str) -> None:
    """Say on stderr what the user should know although the stage goes on."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _stop(line: str, status: int) -> None:
    print(line, file=sys.stderr, flush=True)
    raise SystemExit(status)
