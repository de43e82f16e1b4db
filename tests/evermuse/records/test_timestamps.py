"""``_event_at``: which values name an exact time, and how it is written."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from time import gmtime

import pytest
from django.utils.functional import lazystr

from evermuse_outbox.evermuse.records.timestamps import InvalidTimestamp, to_utc_timestamp
from tests.evermuse.records.samples import only_error, sent


@pytest.mark.parametrize(
    ("value", "timestamp"),
    [
        ("2026-02-24T12:34:56.999999Z", "2026-02-24T12:34:56Z"),
        ("2026-02-24T12:34:56.123456789+02:00", "2026-02-24T10:34:56Z"),
        ("2026-02-24t12:34:56z", "2026-02-24T12:34:56Z"),
        ("2026-02-24 12:34:56+00:00", "2026-02-24T12:34:56Z"),
        ("2026-02-24T12:34+0130", "2026-02-24T11:04:00Z"),
        (datetime(2026, 2, 24, 12, 34, 56, 999_999, tzinfo=UTC), "2026-02-24T12:34:56Z"),
        (datetime(1969, 12, 31, 23, 59, 59, 900_000, tzinfo=UTC), "1969-12-31T23:59:59Z"),
        (datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))), "2025-12-31T23:00:00Z"),
        (datetime(33, 4, 3, 15, tzinfo=UTC), "0033-04-03T15:00:00Z"),
        (lazystr("2026-02-24T12:34:56Z"), "2026-02-24T12:34:56Z"),
    ],
)
def test_a_time_becomes_utc_cut_to_the_second(value, timestamp):
    assert sent(_event_at=value)["_event_at"] == timestamp


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (datetime(2026, 2, 24), "make_aware"),
        ("2026-02-24T12:34:56", "Without a zone"),
        (date(2026, 2, 24), "date is not an exact time"),
        ("2026-02-24", "date is not an exact time"),
        ("2026-02-30T12:34:56Z", "No such date or time"),
        ("2026-02-24T24:00:00Z", "Not ISO 8601"),
        ("2026-02-24T12:34:56Z\n", "Not ISO 8601"),
        ("٢026-02-24T12:34:56Z", "Not ISO 8601"),
        ("yesterday", "Not ISO 8601"),
        ("0001-01-01T00:00:00+14:00", "outside the years"),
        (datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2))), "outside the years"),
        (1771936496, "datetime.fromtimestamp(value, tz=UTC)"),
        (1771936496123, "datetime.fromtimestamp(value / 1000, tz=UTC)"),
        (Decimal("1771936496.5"), "datetime.fromtimestamp(value, tz=UTC)"),
        ("1771936496", "datetime.fromtimestamp(int(value), tz=UTC)"),
        ("1771936496123", "datetime.fromtimestamp(int(value) / 1000, tz=UTC)"),
        (True, "Not a datetime"),
        (gmtime(0), "datetime(*value[:6], tzinfo=UTC)"),
        ("Tue, 24 Feb 2026 12:34:56 +0000", "email.utils.parsedate_to_datetime"),
        ("24.02.2026 12:34", "datetime.strptime"),
        (" ", "Empty."),
        ("2026-02-24T12:34:60Z", "a second at 59"),
    ],
)
def test_an_inexact_or_unreadable_time_is_rejected(value, words):
    error = only_error(_event_at=value)
    assert error.path == "_event_at"
    assert words in error.message


def test_an_invalid_timestamp_is_a_value_error():
    with pytest.raises(InvalidTimestamp, match="Not ISO 8601"):
        to_utc_timestamp("yesterday")
    assert issubclass(InvalidTimestamp, ValueError)
