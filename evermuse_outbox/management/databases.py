"""What several commands share: ``--database`` and ``--reason``, and the error if the tables do not exist."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from typing import Any

from django.apps import apps
from django.db import Error as DatabaseError
from django.db import connections

from ..conf import get_settings


def add_database(parser: ArgumentParser) -> None:
    """Add ``--database ALIAS`` to the options of a command."""
    parser.add_argument(
        "--database",
        choices=tuple(connections),
        help="database alias (default: all in the setting DATABASES)",
    )


def add_single_database(parser: ArgumentParser, *names: str) -> None:
    """Add ``--database ALIAS`` to the options of a command for one database. ``names`` are its other names."""
    parser.add_argument(
        "--database",
        *names,
        choices=tuple(connections),
        help="database alias (default: the first in the setting DATABASES)",
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


def database_of(options: Mapping[str, Any]) -> str:
    """Return the database alias that the options select: the given one, or the first in the setting ``DATABASES``."""
    return options["database"] or get_settings().databases[0]


def describe_missing_tables() -> str:
    """Return which database lacks tables of the app, and the cure; an empty text if none does."""
    tables = {model._meta.db_table for model in apps.get_app_config("evermuse_outbox").get_models()}
    for alias in get_settings().databases:
        try:
            missing = tables.difference(connections[alias].introspection.table_names())
        except DatabaseError:
            continue  # the error of the command says more
        if missing:
            return (
                f"The database {alias!r} has no tables of the outbox, or not all of them. Run: manage.py migrate "
                f"evermuse_outbox --database {alias}"
            )
    return ""
