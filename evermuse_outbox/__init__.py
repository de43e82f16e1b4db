"""A transactional outbox for the Evermuse ingestion API.

Host projects call :mod:`evermuse_outbox.outbox`:

::

    from evermuse_outbox import outbox

    with transaction.atomic():
        ticket.save()
        outbox.enqueue({"_type": "message", …})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .version import VERSION

if TYPE_CHECKING:
    from .evermuse import InvalidRecord
    from .evermuse.records import Record

__version__ = VERSION
__all__ = ["InvalidRecord", "Record", "__version__"]

if not TYPE_CHECKING:  # type checkers would take the result of this function for any name

    def __getattr__(name: str) -> Any:
        """Import a public name at its first use, so that the start of Django stays quick."""
        if name == "Record":
            from .evermuse.records import Record

            return Record
        if name == "InvalidRecord":
            from .evermuse import InvalidRecord

            return InvalidRecord
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
