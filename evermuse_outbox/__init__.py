"""A transactional outbox for the Evermuse ingestion API.

Host projects call :mod:`evermuse_outbox.outbox`:

::

    from evermuse_outbox import outbox

    with transaction.atomic():
        ticket.save()
        outbox.enqueue({"_type": "message", …})
"""

from __future__ import annotations

from typing import Any

from .version import VERSION

__version__ = VERSION
__all__ = ["InvalidRecord", "Record", "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use.

    Django imports this package at start-up. Without this function, each start would import Pydantic.
    """
    if name == "Record":
        from .evermuse.records import Record

        return Record
    if name == "InvalidRecord":
        from .evermuse import InvalidRecord

        return InvalidRecord
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
