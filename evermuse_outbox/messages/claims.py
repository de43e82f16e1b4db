"""Claim a message before it is published, and take it when its task starts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

from django.db import Error as DatabaseError
from django.db import connections

from ..conf import get_settings
from ..foreign_text import get_logger, log_ids, summarise_error
from ..models import OutboxMessage
from .queue import Presence

logger = get_logger(__name__)

LATE_AFTER = 2.0
"""Seconds after which a waiting message is late. The queue is long, so a tick does the work of the message itself."""

EXAMINE_AFTER = 5.0
"""Seconds after which a task or beat looks for a waiting message in the queue, and again after each look."""

HOST_EXAMINES_AFTER = 60.0
"""Seconds after which a process of the host does the same. It is later, because the ticks have done it by then."""

REPEAT_AFTER = 30.0
"""Seconds after which a message is published again if the broker does not show whether it waits. Copies double them."""

MAX_DOUBLINGS = 7
"""The time between two copies grows to 64 minutes."""

LOST_AFTER = 600.0
"""Seconds after which a waiting message is not counted any more: the broker may have lost it."""

SQLITE_PATIENCE = 100
"""Milliseconds that a claim waits for another writer of an SQLite database. The host's request waits with it."""


class Publication(Enum):
    """What became of the request of a run."""

    PUBLISHED = "published"
    WAITS = "waits"
    """A message of the same task and workspace waits in the queue."""
    LATE = "late"
    """It has waited for longer than ``LATE_AFTER``."""
    SKIPPED = "skipped"
    """Tasks are executed at once in this process (``task_always_eager``), so there are no workers to wake."""


@dataclass(frozen=True, slots=True)
class MessageKey:
    """The task and the workspace of a message, and the database that has its row."""

    using: str
    task: str
    workspace: str = ""

    @property
    def name(self) -> str:
        """Key of the row and token of the message: plain ASCII, and different for names that a collation equates."""
        return hashlib.sha256(f"{self.using}\0{self.task}\0{self.workspace}".encode()).hexdigest()[:32]

    @classmethod
    def of(cls, task: str, arguments: Any) -> MessageKey:
        """Return the key of a task with its arguments: a database, a workspace, or neither of them."""
        using, workspace = [*map(str, (arguments or ())[:2]), "", ""][:2]
        return cls(using or get_settings().databases[0], task, workspace)


def claim(key: MessageKey, examine: Callable[[float], Presence], examine_after: float) -> Publication | None:
    """Claim to publish a message: return PUBLISHED, or WAITS or LATE if one waits already.

    Return None if no claim is possible: the database fails, or a transaction is open and would hide the claim.

    Args:
        key: The message.
        examine: Looks for the message in the queue, given its age in seconds.
        examine_after: Age in seconds from which ``examine`` is called.
    """
    connection = connections[key.using]
    try:
        is_open = connection.in_atomic_block or not connection.get_autocommit()
        with _short_wait(connection):
            return _claim(key, examine, examine_after, can_write=not is_open)
    except DatabaseError as error:
        logger.info(
            "a message is published without a claim (%s)",
            summarise_error(error),
            extra=log_ids(database=key.using, workspace=key.workspace),
        )
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
        return None


def count_waiting(using: str, task: str) -> int:
    """Return how many messages of a task wait in the queue; 0 if the database fails: the work itself reports it."""
    connection = connections[using]
    try:
        return OutboxMessage.objects.using(using).count_waiting(task, LOST_AFTER)
    except DatabaseError:
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
        return 0


def longest_waiting(keys: Collection[MessageKey]) -> MessageKey:
    """Return the message that has waited longest, of messages in one database; the first if none waits any more."""
    by_name = {key.name: key for key in keys}
    using = next(iter(keys)).using
    names = OutboxMessage.objects.using(using).longest_waiting()
    return by_name[next((name for name in names if name in by_name), next(iter(by_name)))]


def release(key: MessageKey) -> None:
    """Give a claim back, because the message could not be published. If that fails, the claim ends by its age."""
    take(key)


def take(key: MessageKey) -> bool:
    """Store that a message has left the queue. Return False if it is a copy of a message that was taken before.

    Call this before the task looks for work. If the database fails, return True: the work reports it.
    """
    connection = connections[key.using]
    try:
        return OutboxMessage.objects.using(key.using).take(key.name)
    except DatabaseError:
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
        return True


def _claim(
    key: MessageKey, examine: Callable[[float], Presence], examine_after: float, *, can_write: bool
) -> Publication | None:
    rows = OutboxMessage.objects.using(key.using)
    message = rows.read(key.name)
    if message is None or message.waiting_since is None:
        if not can_write:
            return None
        if message is None:
            rows.ensure(key.name, f"{key.task} {key.workspace}".strip())
        return Publication.PUBLISHED if rows.claim(key.name) else Publication.WAITS
    # A time in the future is from before a correction of the database's clock, so it says nothing.
    age, checked = message.now - message.waiting_since, message.now - message.checked_at
    waits = Publication.WAITS if 0 <= age < LATE_AFTER else Publication.LATE
    if 0 <= checked < examine_after or not can_write:
        return waits
    presence = examine(abs(checked))
    if presence is Presence.WAITS:
        rows.postpone_check(message)
        return waits
    if presence is Presence.UNKNOWN and 0 <= checked < REPEAT_AFTER * 2 ** min(
        message.copies - 1, MAX_DOUBLINGS
    ):
        return waits
    return Publication.PUBLISHED if rows.claim_again(message) else waits


@contextmanager
def _short_wait(connection: Any) -> Iterator[None]:
    """Let statements on SQLite wait only for a short time for another writer."""
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    with connection.cursor() as cursor:
        (before,) = cursor.execute("PRAGMA busy_timeout").fetchone()
        cursor.execute(f"PRAGMA busy_timeout = {min(before, SQLITE_PATIENCE):d}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {before:d}")
