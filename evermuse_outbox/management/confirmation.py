"""Ask for a confirmation before a command changes something."""

from __future__ import annotations

import sys

from django.core.management.base import CommandError

from .exit_codes import USAGE


def confirm(question: str) -> None:
    """Ask whether to go on.

    Raises:
        CommandError: The answer is not "yes", or there is no terminal, as in a cron job.
    """
    try:
        answer = input(f"{question} Type 'yes' to go on: ")
    except EOFError:
        sys.stdout.write("\n")  # the question has no end of line
        message = "There is no terminal for the question, so nothing was changed. To go on without it, use --no-input."
        raise CommandError(message, returncode=USAGE) from None
    if answer != "yes":
        raise CommandError("Nothing was changed.")
