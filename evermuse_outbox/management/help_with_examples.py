"""The base class of the commands: ``--help`` ends with examples, and the output passes the gate for foreign text."""

from __future__ import annotations

import io
import sys
from typing import Any

from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    DjangoHelpFormatter,
    OutputWrapper,
)
from django.db import OperationalError, ProgrammingError
from django.utils import translation

from ..foreign_text import clean_text
from .databases import describe_missing_tables
from .gated_output import ESCAPE, GatedOutput


class _KeepLineBreaks(DjangoHelpFormatter):
    """Django's help formatter, except that it does not wrap texts with line breaks, such as the examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" not in text:
            return super()._fill_text(text, width, indent)
        return "".join(f"{indent}{line}" for line in text.splitlines(keepends=True))


class CommandWithExamples(BaseCommand):
    """A command that shows :attr:`examples` in its help, after the options.

    What it writes to ``stdout``, and the text of its ``CommandError``, passes the gate for foreign text. Both are
    English in every language of the project, so that scripts and searches find the same words everywhere.
    """

    examples = ""

    @property
    def stdout(self) -> OutputWrapper:
        """The output; Django sets it again for each call with an output of its own."""
        return self._stdout

    @stdout.setter
    def stdout(self, output: Any) -> None:
        self._stdout = GatedOutput(getattr(output, "_out", output))

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command as a process; the help, which argparse prints, also fits the encoding of the terminal."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors=ESCAPE)
        super().run_from_argv(argv)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command in English. Clean the text of its error.

        Raises:
            CommandError: The command failed, or the tables of the app do not exist.
        """
        try:
            with translation.override(None):
                return super().execute(*args, **{name: _read(name, value) for name, value in options.items()})
        except CommandError as error:
            error.args = tuple(map(clean_text, error.args))
            raise
        except (OperationalError, ProgrammingError) as error:
            if missing := describe_missing_tables():
                raise CommandError(missing) from error
            raise

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        """Return Django's parser with the examples."""
        options |= {"formatter_class": _KeepLineBreaks, "epilog": self.examples}
        return super().create_parser(prog_name, subcommand, **options)


PATHS = ("file", "bad_lines", "report")
"""Options with the path of a file. It stays as the operating system gave it."""


def _read(name: str, value: Any) -> Any:
    """Return the value of an option as Unicode.

    If the locale is not UTF-8, Python hides bytes of arguments in surrogates, which no database stores.

    Raises:
        CommandError: The value contains NUL, or its bytes are not UTF-8.
    """
    if isinstance(value, list):
        return [_read(name, item) for item in value]
    if not isinstance(value, str) or name in PATHS:
        return value
    try:
        text = value.encode("utf-8", "surrogateescape").decode()
    except UnicodeError:
        text = "\0"
    if "\0" in text:
        raise CommandError(f"The value of {name} is not a text in UTF-8.")
    return text
