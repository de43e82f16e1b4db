"""The management commands of the outbox, and the helpers that they share.

This package reads options, calls the other packages and prints the result. It decides nothing about delivery.
Commands inherit from ``CommandWithExamples`` and select databases with ``add_database`` and ``databases_of``. Commands
that change records inherit from ``RepairCommand``.
"""

from .databases import add_database, add_reason, databases_of
from .exit_codes import EXIT_CODES, REFUSED, USAGE
from .help_with_examples import CommandWithExamples
from .repairing import RepairCommand
from .selecting import read_id, read_selection

__all__ = [
    "EXIT_CODES",
    "REFUSED",
    "USAGE",
    "CommandWithExamples",
    "RepairCommand",
    "add_database",
    "add_reason",
    "databases_of",
    "read_id",
    "read_selection",
]
