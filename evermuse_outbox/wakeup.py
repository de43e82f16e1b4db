"""Telling the workers, after the commit, that something waits. Losing a kick costs a second, not a record."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from django.db import connections, transaction

from .conf import get_settings

logger = logging.getLogger(__name__)

MUTE = 10.0
"""Seconds without another try after the broker could not be reached, so that no host waits for it twice."""

EVERYWHERE = ("", "")
"""The lane of all lanes: they have one broker."""

_lock = threading.Lock()
_quiet_until: dict[tuple[str, str], float] = {}


def wake_workers_on_commit(using: str, workspace: str) -> None:
    """Kicks once when the open transaction commits, at once where none is open."""
    connection: Any = connections[using]
    if not connection.in_atomic_block:
        # A transaction that the host manages by hand tells nobody of its commit: the tick finds its records.
        if connection.get_autocommit():
            wake_workers(using, workspace)
        return
    # Django starts a new list whenever callbacks may have been dropped (rollback to a savepoint, end of
    # the transaction), so a list that we know still holds our callback.
    known, kicked = getattr(connection, "_evermuse_outbox_kicks", (None, set()))
    if known is not connection.run_on_commit:
        kicked = set()
    if workspace in kicked:
        return
    # No partial: Django wants a __qualname__ to log what a robust callback raised.
    transaction.on_commit(lambda: wake_workers(using, workspace), using=using, robust=True)
    connection._evermuse_outbox_kicks = (connection.run_on_commit, kicked | {workspace})


def wake_workers(using: str, workspace: str) -> bool:
    """Asks Celery to relay after the linger. Returns whether a message was published.

    While one is on its way no other is published: it will find what has been committed meanwhile. Never
    raises, and never waits for a broker that was just found dead.
    """
    try:
        settings = get_settings()
        if not settings.wake_on_commit or not _may_kick((using, workspace), settings.linger):
            return False
        from .tasks import ask, relay  # late: a host that only enqueues needs neither Celery nor requests

        ask(relay, using, workspace, countdown=settings.linger)
    except Exception as error:
        _be_quiet(EVERYWHERE, MUTE)
        logger.warning(
            "Celery could not be told of new records; the next tick finds them (%s)", type(error).__name__
        )
        return False
    return True


def _may_kick(lane: tuple[str, str], linger: float) -> bool:
    with _lock:
        now = time.monotonic()
        if now < max(_quiet_until.get(lane, now), _quiet_until.get(EVERYWHERE, now)):
            return False
        _quiet_until[lane] = now + linger
        return True


def _be_quiet(lane: tuple[str, str], seconds: float) -> None:
    with _lock:
        _quiet_until[lane] = time.monotonic() + seconds
