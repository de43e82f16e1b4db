"""Plan what happens to records whose deferral is due. No database and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from ...models import RecordState

RECHECK = timedelta(minutes=1)
"""A record that is in flight when it expires may become pending again. It is looked at again after this time."""


class Deferral(NamedTuple):
    """A row of ``OutboxDeferral``; see there."""

    pk: int
    due_at: datetime | None
    send_after: datetime | None
    expires_at: datetime | None
    latest_at: datetime | None
    rule_id: int | None

    def due_first(self, *times: datetime | None) -> Deferral:
        """Return the row with the earliest of these times as ``due_at``."""
        return self._replace(due_at=min((time for time in times if time), default=None))


@dataclass(slots=True)
class Changes:
    """What changes: ids of records by their new state, rows that stay, and rows that are removed."""

    pending: list[int] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    coalesced: dict[int, int] = field(default_factory=dict)
    """Older version → the newer scheduled version that replaces it."""
    kept: dict[int, Deferral] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)


def plan_changes(
    due: Iterable[Deferral],
    states: Mapping[int, str],
    newest: Mapping[int, Deferral],
    now: datetime,
) -> Changes:
    """Plan the changes of records whose deferral is due.

    Args:
        due: the rows, due at ``now`` or before.
        states: id → state of each record that still exists.
        newest: id of a debounced record → the row of the newest scheduled and debounced version of its identity.
        now: the time of the database.
    """
    changes = Changes()
    for row in sorted(due, key=lambda row: row.pk):
        state = states.get(row.pk)
        match state:
            case RecordState.IN_FLIGHT:
                changes.kept[row.pk] = row._replace(due_at=now + RECHECK)
            case RecordState.PENDING | RecordState.SCHEDULED | RecordState.HELD:
                _plan_open(changes, row, state, newest, now)
            case _:
                changes.ended.append(row.pk)
    return changes


def _plan_open(
    changes: Changes, row: Deferral, state: str, newest: Mapping[int, Deferral], now: datetime
) -> None:
    if row.pk in changes.pending:  # an older version has handed on its time, which is over
        return
    row = changes.kept.pop(row.pk, row)  # or one that is not over
    if row.expires_at and row.expires_at <= now:
        changes.expired.append(row.pk)
        changes.ended.append(row.pk)
    elif state == RecordState.SCHEDULED and row.pk in newest and newest[row.pk].pk != row.pk:
        _hand_on(changes, row, newest[row.pk], now)
    else:
        if state != RecordState.PENDING:
            changes.pending.append(row.pk)
        _keep_until_expiry(changes, row)


def _hand_on(changes: Changes, row: Deferral, newer: Deferral, now: datetime) -> None:
    """Replace a debounced version by the newest one, which is sent at the latest when this one would have been."""
    changes.coalesced[row.pk] = newer.pk
    changes.ended.append(row.pk)
    if newer.pk in changes.pending:
        return
    newer = changes.kept.get(newer.pk, newer)
    latest = min(time for time in (row.latest_at, newer.latest_at) if time)
    send_after = min(newer.send_after or latest, latest)
    handed = newer._replace(latest_at=latest, send_after=send_after)
    changes.kept[newer.pk] = handed.due_first(send_after, newer.expires_at)
    if latest <= now:  # now, because the next version would take its place again
        changes.pending.append(newer.pk)
        _keep_until_expiry(changes, changes.kept.pop(newer.pk))


def _keep_until_expiry(changes: Changes, row: Deferral) -> None:
    if row.expires_at:
        kept = row._replace(send_after=None, latest_at=None, rule_id=None)
        changes.kept[row.pk] = kept.due_first(row.expires_at)
    else:
        changes.ended.append(row.pk)
