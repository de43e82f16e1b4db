"""Check the times of a record, and insert its deferral."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypedDict

from django.conf import settings

from ..database_clock import database_now
from ..evermuse import FieldError, InvalidRecord
from ..foreign_text import show_value
from ..models import OutboxDeferral, RecordState

When = datetime | timedelta
"""A time, or how long from now."""

MAX_DELAY_FACTOR = 10
"""``max_delay`` is this many times ``debounce`` if it is not given."""

TOO_FAR = "This time is too far away."

ROWS_PER_STATEMENT = 100
"""Rows of one INSERT. A row has seven values, and old versions of SQLite allow 999 parameters."""


class Times(TypedDict, total=False):
    """When a record may be sent: keyword arguments of ``enqueue`` and ``enqueue_many``. The database's clock counts.

    A time is a datetime, or a timedelta from now. None means that the argument is not given.
    """

    send_after: When | None
    """When the record may be sent. Until then, it is *scheduled*. A time that is over means now."""
    expires_at: When | None
    """When it is too late. If the record is in no batch then, it becomes *expired* and is not sent."""
    debounce: timedelta | None
    """How long to wait for a newer version of the same identity. Each version with ``debounce`` starts the wait anew,
    and only the newest one is sent."""
    max_delay: timedelta | None
    """How long the versions of an identity wait in total; by default ten times ``debounce``."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When a record may be sent, by the database's clock. At least one time is set.

    Attributes:
        send_after: The record is not sent before.
        expires_at: The record is not sealed after this time.
        latest_at: When the identity of a debounced record is sent at the latest; None if it is not debounced.
    """

    send_after: datetime | None = None
    expires_at: datetime | None = None
    latest_at: datetime | None = None

    @property
    def columns(self) -> dict[str, str]:
        """The columns of the new record."""
        return {"closed_as": RecordState.SCHEDULED.value} if self.send_after else {}


def make_timing(
    using: str,
    *,
    send_after: When | None = None,
    expires_at: When | None = None,
    debounce: timedelta | None = None,
    max_delay: timedelta | None = None,
) -> Timing | None:
    """Return the timing of a record on a database, or None if it may be sent now; see :class:`Times`.

    Raises:
        InvalidRecord: A value is not allowed. The error names the argument.
    """
    now, errors = database_now(using), list[FieldError]()
    starts = _as_time("send_after", send_after, now, errors)
    expires = _as_time("expires_at", expires_at, now, errors)
    latest = None
    is_debounced = debounce is not None or max_delay is not None
    if is_debounced and _is_debounce_valid(debounce, max_delay, send_after, errors) and debounce:
        try:
            starts = now + debounce
            latest = now + (max_delay or MAX_DELAY_FACTOR * debounce)
        except OverflowError:
            errors.append(
                FieldError(
                    "debounce", TOO_FAR, show_value(debounce), "times before the year 9999, also in total"
                )
            )
    if starts and starts <= now:
        starts = None
    if expires and not errors and expires <= (starts or now):
        message = f"It must be later than {'send_after' if starts else 'the present time'}."
        errors.append(FieldError("expires_at", message, show_value(expires_at), "a later time"))
    if errors:
        raise InvalidRecord(errors)
    return Timing(starts, expires, latest) if starts or expires else None


def insert_deferrals(using: str, workspace: str, pks: Iterable[int], timing: Timing) -> None:
    """Insert the deferral of each new record, in the transaction that inserts the records."""
    due_at = min(time for time in (timing.send_after, timing.expires_at) if time)
    rows = [
        OutboxDeferral(
            record_id=pk,
            workspace=workspace,
            due_at=due_at,
            send_after=timing.send_after,
            expires_at=timing.expires_at,
            latest_at=timing.latest_at,
        )
        for pk in pks
    ]
    OutboxDeferral.objects.using(using).bulk_create(rows, batch_size=ROWS_PER_STATEMENT)


def _as_time(name: str, value: When | None, now: datetime, errors: list[FieldError]) -> datetime | None:
    """Return the value as a time; note an error and return None if it is none."""
    if value is None:
        return None
    if isinstance(value, timedelta):
        try:
            return now + value
        except OverflowError:
            allowed = "a time before the year 9999"
            errors.append(FieldError(name, TOO_FAR, show_value(value), allowed))
            return None
    if not isinstance(value, datetime):
        allowed = "a datetime or a timedelta"
        errors.append(FieldError(name, "This is no time.", show_value(value), allowed))
        return None
    if (value.tzinfo is None) is settings.USE_TZ:
        allowed = "an aware datetime, such as timezone.now()" if settings.USE_TZ else "a naive datetime"
        errors.append(
            FieldError(name, "This time does not fit the setting USE_TZ.", show_value(value), allowed)
        )
        return None
    return value


def _is_debounce_valid(
    debounce: timedelta | None, max_delay: timedelta | None, send_after: When | None, errors: list[FieldError]
) -> bool:
    """Return whether both values are allowed; note an error for each that is not."""
    known = len(errors)
    if debounce is None:
        errors.append(
            FieldError("max_delay", "It needs debounce.", show_value(max_delay), "debounce=timedelta(…)")
        )
        return False
    for name, value in (("debounce", debounce), ("max_delay", max_delay)):
        if value is not None and not (isinstance(value, timedelta) and value > timedelta(0)):
            allowed = "a timedelta of more than 0 seconds"
            errors.append(FieldError(name, "This is no positive duration.", show_value(value), allowed))
    if send_after is not None:
        message = "It cannot be combined with debounce."
        errors.append(FieldError("send_after", message, show_value(send_after), "one of the two"))
    if len(errors) == known and max_delay is not None and max_delay < debounce:
        errors.append(
            FieldError(
                "max_delay", "It is shorter than debounce.", show_value(max_delay), "at least debounce"
            )
        )
    return len(errors) == known
