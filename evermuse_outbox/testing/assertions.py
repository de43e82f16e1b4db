"""Assertions as methods of a test class."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, overload

from .records import EnqueuedRecord, OutboxRecords, capture_records, refute_enqueued

__unittest = True  # unittest leaves the frames of this module out of a failure


class OutboxAssertions:
    """Add assertions about the outbox to a test class.

    ::

        class TicketTests(OutboxAssertions, TestCase):
            def test_a_ticket_is_enqueued(self):
                Ticket.open("hello")
                self.assert_enqueued(type="message", data__text="hello")

    It works with Django's ``TestCase`` and ``TransactionTestCase``, and looks at the databases in ``databases`` of the
    class.
    """

    @overload
    def assert_enqueued(
        self, *, count: None = None, using: str | None = None, workspace: str | None = None, **lookups: Any
    ) -> EnqueuedRecord: ...
    @overload
    def assert_enqueued(
        self, *, count: int, using: str | None = None, workspace: str | None = None, **lookups: Any
    ) -> list[EnqueuedRecord]: ...
    def assert_enqueued(
        self,
        *,
        count: int | None = None,
        using: str | None = None,
        workspace: str | None = None,
        **lookups: Any,
    ) -> EnqueuedRecord | list[EnqueuedRecord]:
        """Assert that a record with these values is in the outbox, and return it.

        See :func:`evermuse_outbox.testing.assert_enqueued`.
        """
        __tracebackhide__ = True
        records = OutboxRecords(using, workspace)
        return (
            records.assert_enqueued(**lookups)
            if count is None
            else records.assert_enqueued(count=count, **lookups)
        )

    def refute_enqueued(
        self, *, using: str | None = None, workspace: str | None = None, **lookups: Any
    ) -> None:
        """Assert that no record with these values is in the outbox."""
        __tracebackhide__ = True
        refute_enqueued(using=using, workspace=workspace, **lookups)

    def capture_records(
        self, using: str | None = None, workspace: str | None = None
    ) -> AbstractContextManager[OutboxRecords]:
        """Return a context manager that yields the records that are enqueued inside of the ``with`` block."""
        return capture_records(using, workspace)
