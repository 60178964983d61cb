"""leakgauge: does a diffusion model leak its training images?

    leakgauge audit my_pipeline photos --members 'members/*'    how much does it leak? (the members are known)
    leakgauge audit my_pipeline photos --suspects asked         was it trained on these?
    leakgauge report                                            bring the page up to date, and print the verdicts
    leakgauge check                                             could anything make the figures wrong?
    leakgauge exposed mine                                      which members are exposed?
    leakgauge card                                              a section for the model card, and the evidence
    leakgauge canaries seal photos --out publish                before publishing: make use provable later
    leakgauge models                                            what can be opened
    leakgauge init DIR                                          a new audit project

Run it in the folder of an audit project, where dvc.yaml and params.yaml stand.  `leakgauge COMMAND --help` says more.
"""

import argparse
from collections.abc import Sequence
from importlib import import_module

from leakgauge.cli import errors_in_one_line

STATUSES = """Exit status: 0 done; 1 bad input or a failure, in one line; 2 a word that is not understood; 3 a ceiling
is exceeded (--fail-above, or `fail_above` in params.yaml) or a check fails; 130 interrupted: the same command goes on
from there."""
# Modules of this package, each with `arguments` and `run`.
COMMANDS = ("audit", "report", "check", "exposed", "card", "canaries", "init", "models")


def main(words: Sequence[str] | None = None) -> None:
    """Run a command, and exit.  words : of the command line; None: this program's."""
    values = vars(parser().parse_args(words))
    command, debug = values.pop("command"), values.pop("debug")
    with errors_in_one_line(f"leakgauge {command}", debug, resume="the same command"):
        raise SystemExit(import_module(f"leakgauge.commands.{command}").run(**values))


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; the text of each module is its help."""
    shape = argparse.RawDescriptionHelpFormatter
    of_all = argparse.ArgumentParser("leakgauge", description=__doc__, epilog=STATUSES, formatter_class=shape)
    commands = of_all.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f"leakgauge.commands.{name}")
        text = module.__doc__ or ""
        one = commands.add_parser(
            name, help=text.partition("\n")[0], description=text, epilog=STATUSES, formatter_class=shape
        )
        module.arguments(one)
        one.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return of_all
