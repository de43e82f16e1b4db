"""Wake the Celery workers after a commit, so that new records do not wait for the next tick.

A wake-up is a Celery message with the names of a database and a workspace. If it is lost, the next tick finds the
records: a task that looks for work in the database every second.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from django.db import connections, transaction

from .conf import get_settings
from .foreign_text import get_logger, log_ids

logger = get_logger(__name__)

BROKER_PAUSE = 10.0
"""Seconds without wake-ups after the broker failed. Without this pause, each request of the host would wait for it."""

ALL_QUEUES = ("", "")
"""Queue key of the pause after a failure. It applies to all queue keys, because they share one broker.

A queue key is a pair of database alias and workspace.
"""

_lock = threading.Lock()
_silent_until: dict[tuple[str, str], float] = {}
"""For each queue key: the time on the monotonic clock, in seconds, before which no wake-up is published."""


def wake_workers_on_commit(using: str, workspace: str) -> None:
    """Wake the workers once when the open transaction commits, or now if no transaction is open.

    Args:
        using: Database alias of the transaction.
        workspace: Name of the workspace that has new work.
    """
    connection: Any = connections[using]
    if not connection.in_atomic_block:
        # With autocommit off, the host commits by hand and Django does not report it. The tick finds the records.
        if connection.get_autocommit():
            wake_workers(using, workspace)
        return
    # Register one callback for each transaction. Django replaces the list of callbacks at the end of a transaction
    # and at a rollback to a savepoint. So if the list is the same object as before, our callback is still in it.
    transaction_key = _transaction_key(connection)
    callbacks, key, registered = getattr(connection, "_evermuse_outbox_wakeups", (None, None, set()))
    if callbacks is not connection.run_on_commit or key != transaction_key or transaction_key is None:
        registered = set()
    if workspace in registered:
        return
    # Not functools.partial: Django logs the __qualname__ of a robust callback that fails, and a partial has none.
    transaction.on_commit(lambda: wake_workers(using, workspace), using=using, robust=True)
    connection._evermuse_outbox_wakeups = (
        connection.run_on_commit,
        transaction_key,
        registered | {workspace},
    )


def _transaction_key(connection: Any) -> str | None:
    """Return what tells transactions of the host apart within the transaction of a ``TestCase``; None outside of any.

    Such a test is one transaction, and Django's ``captureOnCommitCallbacks`` sees only callbacks that are registered
    inside of it. There the host's transactions are savepoints. The name of a savepoint is used only once.
    """
    blocks = connection.atomic_blocks
    of_test = sum(1 for block in blocks if getattr(block, "_from_testcase", False))
    if not of_test:
        return ""
    names = connection.savepoint_ids[of_test - 1 :]
    return names[0] if names else None


def wake_workers(using: str, workspace: str, *, lingers: bool = True) -> bool:
    """Publish a Celery message that starts a relay now, and another one after ``LINGER`` seconds if records are left.

    This process publishes no second message within that time, because the second relay finds later records too. This
    function never raises, and it does not contact a broker that failed during the last 10 seconds.

    Args:
        using: Database alias.
        workspace: Name of the workspace.
        lingers: Whether further records are expected soon. They are not if these records fill a request.

    Returns:
        True if a message was published or waits in the queue already.
    """
    try:
        settings = get_settings()
        linger = settings.linger if lingers else 0.0
        if not settings.wake_on_commit or not _start_linger((using, workspace), linger):
            return False
        # Imported here, so that a host that only enqueues does not import Celery.
        from .messages import Publication
        from .tasks import relay, request_run

        publication = request_run(relay, using, workspace, linger=linger, is_host=True)
    except Exception as error:
        _pause_wakeups(ALL_QUEUES, BROKER_PAUSE)
        logger.warning(
            "No wake-up for new records could be published; the next tick finds them (%s)",
            type(error).__name__,
            extra=log_ids(database=using, workspace=workspace),
        )
        return False
    if publication is Publication.SKIPPED:
        logger.info(
            "Celery's task_always_eager is on, so a commit starts no delivery; a test calls testing.deliver()",
            extra=log_ids(database=using, workspace=workspace),
        )
        return False
    return True


def wake_operations_on_commit(using: str) -> None:
    """Request a run of the jobs when the open transaction commits, or now if no transaction is open.

    It never raises. If the message is lost, the next tick requests the run.
    """
    transaction.on_commit(lambda: _request_operations(using), using=using, robust=True)


def _request_operations(using: str) -> None:
    try:
        if get_settings().wake_on_commit and not _is_broker_paused():
            # Imported here, so that a host that only enqueues does not import Celery.
            from .tasks import operate, request_run

            request_run(operate, using, is_host=True)
    except Exception as error:
        _pause_wakeups(ALL_QUEUES, BROKER_PAUSE)
        logger.warning(
            "No run of jobs could be requested; the next tick does it (%s)",
            type(error).__name__,
            extra=log_ids(database=using),
        )


def _start_linger(queue_key: tuple[str, str], linger: float) -> bool:
    """Silence the queue key for ``linger`` seconds; return False if it is silent already."""
    with _lock:
        now = time.monotonic()
        if now < max(_silent_until.get(queue_key, now), _silent_until.get(ALL_QUEUES, now)):
            return False
        _silent_until[queue_key] = now + linger
        return True


def _is_broker_paused() -> bool:
    now = time.monotonic()
    return now < _silent_until.get(ALL_QUEUES, now)


def _pause_wakeups(queue_key: tuple[str, str], seconds: float) -> None:
    with _lock:
        _silent_until[queue_key] = time.monotonic() + seconds
