"""What the commands have in common: a ``--help`` that ends with examples."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandParser, DjangoHelpFormatter


class _KeepsLines(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Django's help, with the line breaks of the examples kept."""


class CommandWithExamples(BaseCommand):
    """A command whose help is followed by :attr:`examples`."""

    examples = ""

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        """The usual parser, followed by examples."""
        options |= {"formatter_class": _KeepsLines, "epilog": self.examples}
        return super().create_parser(prog_name, subcommand, **options)
