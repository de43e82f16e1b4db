"""Find the workspaces that have work, all of a database at once.

The cost grows with the workspaces that have work, not with those in the settings: one statement if none has any, two
otherwise. ``has_work`` and ``has_due_poll`` answer the same question for one workspace.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from django.db import connections
from django.db.models import Exists, OuterRef

from ...database_clock import database_now
from ...models import OutboxBatch, OutboxDeferral, OutboxWorkspace
from ..context import Clock
from .sql_workspaces import pending_query, workspaces_query

NAMES_PER_STATEMENT = 500
"""Names in one statement. Old versions of SQLite allow 999 parameters."""


class WaitingWork(NamedTuple):
    """The names of workspaces that have something to do, now or later."""

    pending: frozenset[str]
    """With pending records."""
    unsent: frozenset[str]
    """With batches that wait to be sent, some of them perhaps later."""
    polled: frozenset[str]
    """With batches that are polled, some of them perhaps later."""
    deferred: frozenset[str] = frozenset()
    """With deferrals that are due."""


class DueWork(NamedTuple):
    """The names of workspaces that have something to do now."""

    send: frozenset[str]
    poll: frozenset[str]
    deferred: frozenset[str] = frozenset()
    """With deferrals that are due; see ``deferral.apply_due``."""


NO_WORK = DueWork(frozenset(), frozenset())


class _Row(NamedTuple):
    """A workspace that waits: whether anything is due, and what its circuit breaker allows."""

    name: str
    has_due_batch: bool
    has_due_poll: bool
    can_send: bool
    can_read: bool


def is_any_pending(using: str) -> bool:
    """Return whether any workspace has a pending record. It costs a third of :func:`find_waiting_work`."""
    with connections[using].cursor() as cursor:
        cursor.execute(pending_query(connections[using].vendor))
        return cursor.fetchone() is not None


def find_waiting_work(using: str, now: datetime | None = None) -> WaitingWork:
    """Return the workspaces of a database with work of each kind, in one statement.

    ``now`` is the time of the database; None means that it is read.
    """
    names: dict[str, set[str]] = {name: set() for name in WaitingWork._fields}
    field = OutboxDeferral._meta.get_field("due_at")
    time = field.get_db_prep_value(now or database_now(using), connections[using])
    with connections[using].cursor() as cursor:
        cursor.execute(workspaces_query(connections[using].vendor), [time])
        for kind, name in cursor.fetchall():
            names[kind].add(name)
    return WaitingWork(**{kind: frozenset(names[kind]) for kind in WaitingWork._fields})


def find_due_work(using: str, waiting: WaitingWork, now: datetime) -> DueWork:
    """Return those of the waiting workspaces that may send or poll now: something is due, and the circuit allows it."""
    rows = _read_rows(using, waiting.pending | waiting.unsent | waiting.polled, now)
    # A workspace has a row before it has a batch. Only a deleted row is missing here, and its batches must go on.
    if missing := (waiting.unsent | waiting.polled) - {row.name for row in rows}:
        for name in missing:
            OutboxWorkspace.objects.using(using).ensure_row(name)
        rows += _read_rows(using, missing, now)
    blocked = {row.name for row in rows if not row.can_send}
    due = {row.name for row in rows if row.has_due_batch}
    polled = {row.name for row in rows if row.has_due_poll and row.can_read}
    return DueWork((waiting.pending | due) - blocked, frozenset(polled), waiting.deferred)


def find_work(using: str, names: Collection[str], clock: Clock) -> DueWork:
    """Return which of the workspaces ``names`` may send or poll now, and all workspaces with deferrals that are due.

    A workspace that the settings do not have any more sends nothing. Its scheduled records become pending when they
    are due, because a problem names the workspaces with pending records.
    """
    waiting = find_waiting_work(using, clock.now())
    waiting = WaitingWork(
        waiting.pending.intersection(names),
        waiting.unsent.intersection(names),
        waiting.polled.intersection(names),
        waiting.deferred,
    )
    return find_due_work(using, waiting, clock.now()) if any(waiting) else NO_WORK


def _read_rows(using: str, names: Collection[str], now: datetime) -> list[_Row]:
    """Read what is due in those workspaces that have a row."""
    batches, workspaces = OutboxBatch.objects.using(using), OutboxWorkspace.objects.using(using)
    annotated = workspaces.with_circuit(now).annotate(
        has_due_batch=Exists(batches.due(OuterRef("pk"), now)),
        has_due_poll=Exists(batches.poll_due(OuterRef("pk"), now)),
    )
    ordered, rows = sorted(names), list[_Row]()
    for start in range(0, len(ordered), NAMES_PER_STATEMENT):
        chunk = annotated.filter(pk__in=ordered[start : start + NAMES_PER_STATEMENT])
        rows += [_Row(*values) for values in chunk.values_list("pk", *_Row._fields[1:])]
    return rows
