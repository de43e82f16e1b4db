"""The database's clock: the only clock for leases, holds, due times and ages, without a round trip of its own.

Workers and hosts may disagree about the time; they all use one database. This process remembers how far the database's
time is from its monotonic clock, which no one sets. Each read of a workspace's row brings the database's time along.

The database reads its clock at an unknown moment between the start and the end of a statement. So the difference is
known up to half the length of the statement, and a slow statement does not replace the result of a fast one.

This module must not decide what a time means. Its public interface is ``database_now``, ``clock_error``, ``EpochNow``,
``learn_time``, ``as_stored`` and ``seconds_ahead``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db import Error as DatabaseError
from django.utils import timezone

MAX_AGE = 60.0
"""Seconds after which the difference is measured again. A clock that was set by hand is noticed within this time."""

MAX_DRIFT = 1e-4
"""Seconds a second by which two clocks may run apart. Crystals of common machines stay below a tenth of it, and a time
server corrects a clock by up to five times as much for a short time."""

RESOLUTION = 0.001
"""Seconds. SQLite gives its time in milliseconds."""


class EpochNow(models.Func):
    """The database's current time in seconds since the epoch, independent of the session's time zone.

    Django's ``Now`` gives the start of the transaction on PostgreSQL, which is before a wait for the row lock.
    """

    output_field = models.FloatField()
    template = "(julianday('now') - 2440587.5) * 86400.0"

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Return the SQL for PostgreSQL."""
        return self.as_sql(compiler, connection, template="EXTRACT(EPOCH FROM clock_timestamp())::float8")

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Return the SQL for MySQL and MariaDB."""
        micros = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
        # Divided by 1000000.0, it would keep four decimals.
        return self.as_sql(compiler, connection, template=f"{micros} / 1e6")


@dataclass(frozen=True, slots=True)
class _Sample:
    """What is known of a database's clock.

    ``offset`` is its time minus the monotonic clock, wrong by up to ``error`` seconds. ``at`` is when it was measured
    or confirmed, on the monotonic clock.
    """

    offset: float
    error: float
    at: float

    def error_at(self, at: float) -> float:
        """Return by how many seconds the offset may be wrong at a time of the monotonic clock."""
        return self.error + MAX_DRIFT * max(at - self.at, 0.0)


_samples: dict[str, _Sample] = {}
"""The best sample of each database alias. Replacing an entry is atomic, so threads need no lock."""


def database_now(using: str | None) -> datetime:
    """Return the time of a database alias, aware or naive as ``USE_TZ`` has it; None means Django's default.

    This sends a statement only if this process has not read the database's clock for ``MAX_AGE`` seconds. If that
    statement fails, the last known difference is used. Raise the database error if none is known.
    """
    return as_stored(_database_seconds(using or DEFAULT_DB_ALIAS))


def clock_error(using: str | None) -> float:
    """Return by how many seconds :func:`database_now` may be wrong at present, in either direction."""
    alias = using or DEFAULT_DB_ALIAS
    _database_seconds(alias)
    return _samples[alias].error_at(time.monotonic())


def learn_time(using: str, database_seconds: float, started: float, ended: float) -> None:
    """Remember the database's time from a statement that ran from ``started`` to ``ended`` on the monotonic clock.

    What is known better stays, unless the new time contradicts it: then a clock was set.
    """
    new = _Sample(float(database_seconds) - (started + ended) / 2, (ended - started) / 2 + RESOLUTION, ended)
    known = _samples.get(using)
    if known:
        error = known.error_at(ended)
        if new.error > error and abs(new.offset - known.offset) <= new.error + error:
            new = _Sample(known.offset, error, ended)
    _samples[using] = new


def as_stored(seconds: float) -> datetime:
    """Return seconds since the epoch as a datetime as Django stores it: naive local time without ``USE_TZ``."""
    at = datetime.fromtimestamp(seconds, UTC)
    return at if settings.USE_TZ else timezone.make_naive(at, timezone.get_default_timezone())


def seconds_ahead(using: str) -> float:
    """Return by how many seconds the wall clock of this process is ahead of the database's; negative if behind."""
    return time.time() - _database_seconds(using)


def _database_seconds(using: str) -> float:
    known = _samples.get(using)
    if known is None or not 0 <= time.monotonic() - known.at <= MAX_AGE:
        try:
            _read(using)
        except DatabaseError:
            if known is None:
                raise
    return _samples[using].offset + time.monotonic()


def _read(using: str) -> None:
    connection = connections[using]
    compiler = models.sql.Query(None).get_compiler(connection=connection)
    text, parameters = compiler.compile(EpochNow())
    with connection.cursor() as cursor:  # connecting takes time, and the database reads its clock after it
        started = time.monotonic()
        cursor.execute(f"SELECT {text}", parameters)
        (seconds,) = cursor.fetchone()
    learn_time(using, seconds, started, time.monotonic())
