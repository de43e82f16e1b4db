"""Import records from a file of JSON lines: in bulk, in chunks of one transaction each, and resumable after a crash.

The progress of an import is a row that the transaction of each chunk changes. So a chunk and its progress are committed
together, and a new start continues exactly there. This package must not send anything or wake a worker.
Its public interface is :func:`import_lines` to insert, :func:`check_lines` to validate only, and :class:`BadLinesFile`.
"""

from .bad_lines import BadLinesFile
from .importer import Import, ImportRefused, TooManyBadLines, Totals, check_lines, import_lines
from .lines import BadLine

__all__ = [
    "BadLine",
    "BadLinesFile",
    "Import",
    "ImportRefused",
    "TooManyBadLines",
    "Totals",
    "check_lines",
    "import_lines",
]
