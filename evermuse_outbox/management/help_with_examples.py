"""The base class of the commands: its ``--help`` ends with examples."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser, DjangoHelpFormatter


class _KeepLineBreaks(DjangoHelpFormatter):
    """Django's help formatter, except that it does not wrap texts with line breaks, such as the examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" not in text:
            return super()._fill_text(text, width, indent)
        return "".join(f"{indent}{line}" for line in text.splitlines(keepends=True))


class CommandWithExamples(BaseCommand):
    """A command that shows :attr:`examples` in its help, after the options."""

    examples = ""

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        """Return Django's parser with the examples."""
        options |= {"formatter_class": _KeepLineBreaks, "epilog": self.examples}
        return super().create_parser(prog_name, subcommand, **options)
