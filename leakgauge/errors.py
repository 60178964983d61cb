"""Bad input, and what a user should know although the work goes on."""

import sys


class InputError(Exception):
    """Bad input.  The message is one line that names the file or the params key and says what to do."""


def warn(message: str) -> None:
    """Say on stderr what the user should know although the stage goes on."""
    print(f"warning: {message}", file=sys.stderr, flush=True)
