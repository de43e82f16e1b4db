"""The base class of the commands: its ``--help`` ends with examples."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandParser, DjangoHelpFormatter


class _KeepLineBreaks(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Django's help format, except that the line breaks of the examples are kept."""


class CommandWithExamples(BaseCommand):
    """A command that shows :attr:`examples` in its help, after the options."""

    examples = ""

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        """Return Django's parser with the examples."""
        options |= {"formatter_class": _KeepLineBreaks, "epilog": self.examples}
        return super().create_parser(prog_name, subcommand, **options)
