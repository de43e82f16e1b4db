"""Options that several commands have: ``--database`` and ``--reason``."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connections

from ..conf import get_settings


def add_database(parser: ArgumentParser) -> None:
    """Add ``--database ALIAS`` to the options of a command."""
    parser.add_argument(
        "--database",
        choices=tuple(connections),
        help="database alias (default: all in the setting DATABASES)",
    )


def add_reason(parser: ArgumentParser) -> None:
    """Add ``--reason TEXT`` to the options of a command that changes something."""
    parser.add_argument(
        "--reason",
        metavar="TEXT",
        default="",
        help="why; it is kept with the action, your user name and the time",
    )


def databases_of(options: Mapping[str, Any]) -> Sequence[str]:
    """Return the database aliases that the options select: the given one, or all in the setting ``DATABASES``."""
    alias = options["database"]
    return [alias] if alias else get_settings().databases
