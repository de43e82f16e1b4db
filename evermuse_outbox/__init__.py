"""A transactional outbox for the Evermuse ingestion API.

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
    # Late, so that `import evermuse_outbox` (which Django does at start) costs nothing.
    if name == "Record":
        from .evermuse.records.validation import Record

        return Record
    if name == "InvalidRecord":
        from .evermuse.errors import InvalidRecord

        return InvalidRecord
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
