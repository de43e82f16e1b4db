"""The management commands of the outbox, and the helpers that they share.

This package reads options, calls the other packages and prints the result. It decides nothing about delivery.
Commands inherit from ``CommandWithExamples``, select databases with ``add_database`` and ``databases_of``, or one
with ``add_single_database`` and ``database_of``, and ask with ``confirm``. Those that repair records inherit from
``repairs.RepairCommand``.
"""

from .confirmation import confirm
from .databases import add_database, add_reason, add_single_database, database_of, databases_of
from .exit_codes import EXIT_CODES, REFUSED, USAGE
from .help_with_examples import CommandWithExamples
from .times import read_time_ago, read_time_ahead

__all__ = [
    "EXIT_CODES",
    "REFUSED",
    "USAGE",
    "CommandWithExamples",
    "add_database",
    "add_reason",
    "add_single_database",
    "confirm",
    "database_of",
    "databases_of",
    "read_time_ago",
    "read_time_ahead",
]
