"""The command-line door of every stage: arguments in, one honest line out when something is wrong."""

import argparse
import sys
from collections.abc import Callable

from safetensors import SafetensorError  # what its writer raises on a full disk


class InputError(Exception):
    """Bad input.  The message is one line that names the file or the params key and says what to do."""


def run(stage: Callable[..., None], **arguments: str) -> None:
    """Run `stage` as a program and exit.

    stage : the function to call; its module's docstring becomes the text of `--help`.
    arguments : name -> help of each positional argument, passed to `stage` by name.

    Exit status: 0 done; 1 bad input or a machine that cannot go on (one line on stderr, no traceback
    unless `--debug`); 130 interrupted.
    """
    module = sys.modules[stage.__module__]
    name = module.__spec__.name if module.__spec__ else stage.__module__
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for argument, text in arguments.items():
        parser.add_argument(argument, help=text)
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


def warn(message: str) -> None:
    """Say on stderr what the user should know although the stage goes on."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _stop(line: str, status: int) -> None:
    print(line, file=sys.stderr, flush=True)
    raise SystemExit(status)
