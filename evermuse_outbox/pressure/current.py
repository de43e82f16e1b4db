"""The pressure as this process knows it, the refusal of records, and the signal when the pressure changes."""

from __future__ import annotations

import time
from contextlib import nullcontext
from datetime import datetime

from django.db import Error as DatabaseError
from django.db import connections, transaction

from ..conf import Workspace, get_settings
from ..database_clock import database_now
from ..foreign_text import get_logger, log_ids, type_name
from ..models import OutboxPressure
from ..signals import pressure_changed, send_after_commit
from .figures import OutboxFull, Pressure

logger = get_logger(__name__)

REMEMBERED = 1.0
"""Seconds for which a process uses a measurement again. A measurement takes some milliseconds."""

LOW_SHARE = 0.5
"""The pressure is low again below this share of the threshold. So a wait near the threshold sends no two signals."""

NOT_MEASURED = "it could not be measured."

_known: dict[tuple[str, str], tuple[float, Pressure]] = {}
"""Alias and workspace → when it was measured on the monotonic clock, and the result."""


def read_pressure(using: str, workspace: Workspace) -> Pressure:
    """Return how long a new record will probably wait. It is up to ``REMEMBERED`` seconds old.

    A measurement takes a few queries on the open connection, in the open transaction if there is one.
    """
    key, now = (using, workspace.name), time.monotonic()
    known = _known.get(key)
    if known is None or now - known[0] >= REMEMBERED:
        # An error of a query ends a transaction of the host on PostgreSQL, unless a savepoint is around it.
        is_open = connections[using].in_atomic_block
        with transaction.atomic(using=using) if is_open else nullcontext():
            known = (now, measure_now(using, workspace, database_now(using)))
        _known[key] = known
    return known[1]


def measure_now(using: str, workspace: Workspace, now: datetime) -> Pressure:
    """Measure how long a record that is enqueued at ``now`` will probably wait."""
    from .measure import measure  # late, because a host that only enqueues does not need the delivery

    return measure(using, workspace, now)


def refuse_if_full(using: str, workspace: Workspace) -> None:
    """Raise an error if a new record would wait longer than the setting ``REJECT_ABOVE``.

    If the database cannot measure it, records are taken, and a warning is logged.

    Raises:
        OutboxFull: It would.
    """
    limit = workspace.reject_above
    if limit is None:
        return
    try:
        pressure = read_pressure(using, workspace)
    except DatabaseError as error:
        pressure = Pressure(0.0, reason=NOT_MEASURED)
        _known[using, workspace.name] = (time.monotonic(), pressure)
        logger.warning(
            "REJECT_ABOVE is not applied: the pressure cannot be measured (%s)",
            type_name(error),
            extra=log_ids(database=using, workspace=workspace.name),
        )
    if pressure.is_above(limit):
        raise OutboxFull(workspace.name, pressure, limit)


def observe_pressure(using: str) -> None:
    """Send ``pressure_changed`` for each workspace whose wait has crossed its ``PRESSURE_THRESHOLD``.

    Of all processes that observe it, one sends the signal: the one that writes or deletes the row.
    """
    watched = [each for each in get_settings().workspaces.values() if each.pressure_threshold is not None]
    if not watched:
        return
    rows = OutboxPressure.objects.using(using)
    high = set(rows.values_list("workspace", flat=True))
    for workspace in watched:
        threshold, pressure = workspace.pressure_threshold or 0.0, read_pressure(using, workspace)
        is_high = workspace.name in high
        if not is_high and pressure.is_above(threshold):
            has_changed = rows.begin(workspace.name, database_now(using))
        else:
            has_changed = (
                is_high and not pressure.is_above(LOW_SHARE * threshold) and rows.end(workspace.name)
            )
        if has_changed:
            _announce(using, workspace.name, pressure, is_high=not is_high)


def _announce(using: str, workspace: str, pressure: Pressure, *, is_high: bool) -> None:
    event = {"workspace": workspace, "is_high": is_high, "pressure": pressure}
    send_after_commit(pressure_changed, OutboxPressure, using, lambda: [event])
