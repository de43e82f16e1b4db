"""Which databases a command looks into: the one that ``--database`` names, else all that workers look into."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connections

from ..conf import get_settings


def add_database(parser: ArgumentParser) -> None:
    """``--database ALIAS``."""
    parser.add_argument(
        "--database",
        choices=tuple(connections),
        help="database alias (default: all that workers look into)",
    )


def databases_of(options: Mapping[str, Any]) -> Sequence[str]:
    """Their aliases."""
    named = options["database"]
    return [named] if named else get_settings().databases
