"""Helpers for the tests of host projects: assert what was enqueued, and deliver it within the test.

This package runs the real delivery against a sandbox, which is a local Evermuse API, without workers and without
waiting. It must not be used in production code. It needs no pytest: ``evermuse_outbox.pytest_plugin`` makes fixtures
of it. Its functions are :func:`assert_enqueued`, :func:`refute_enqueued`, :func:`enqueued`, :func:`capture_records`,
:func:`use_sandbox`, :func:`local_evermuse` and :func:`deliver`; :class:`OutboxAssertions` is a mixin for test classes,
and :class:`Unpaced` is a throttle without a limit.
"""

from .assertions import OutboxAssertions
from .delivery import Deliver, Unpaced, deliver
from .live import LocalEvermuse, local_evermuse, use_sandbox
from .records import (
    EnqueuedRecord,
    OutboxRecords,
    assert_enqueued,
    capture_records,
    enqueued,
    refute_enqueued,
)
from .report import Delivery, NotDelivered, RejectedRecord, WaitingRecord

__all__ = [
    "Deliver",
    "Delivery",
    "EnqueuedRecord",
    "LocalEvermuse",
    "NotDelivered",
    "OutboxAssertions",
    "OutboxRecords",
    "RejectedRecord",
    "Unpaced",
    "WaitingRecord",
    "assert_enqueued",
    "capture_records",
    "deliver",
    "enqueued",
    "local_evermuse",
    "refute_enqueued",
    "use_sandbox",
]
