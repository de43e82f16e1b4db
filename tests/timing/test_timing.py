"""The times of a record: what is allowed, and the errors for everything else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from evermuse_outbox.evermuse import InvalidRecord
from evermuse_outbox.timing import Timing, make_timing

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def now(monkeypatch):
    monkeypatch.setattr("evermuse_outbox.timing.timing.database_now", lambda using: NOW)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"send_after": MINUTE}, Timing(NOW + MINUTE)),
        ({"send_after": NOW + MINUTE}, Timing(NOW + MINUTE)),
        ({"expires_at": MINUTE}, Timing(None, NOW + MINUTE)),
        ({"send_after": MINUTE, "expires_at": 2 * MINUTE}, Timing(NOW + MINUTE, NOW + 2 * MINUTE)),
        ({"debounce": MINUTE}, Timing(NOW + MINUTE, None, NOW + 10 * MINUTE)),
        ({"debounce": MINUTE, "max_delay": 5 * MINUTE}, Timing(NOW + MINUTE, None, NOW + 5 * MINUTE)),
        ({"send_after": NOW - MINUTE}, None),
        ({"send_after": None, "expires_at": None, "debounce": None, "max_delay": None}, None),
    ],
)
def test_the_times_of_a_record(times, expected):
    assert make_timing("default", **times) == expected


@pytest.mark.parametrize(
    ("times", "path", "words"),
    [
        ({"send_after": 60}, "send_after", "a datetime or a timedelta"),
        ({"send_after": "2026-03-01"}, "send_after", "a datetime or a timedelta"),
        ({"send_after": datetime(2026, 3, 2)}, "send_after", "timezone.now()"),
        ({"send_after": timedelta(days=9_999_999)}, "send_after", "9999"),
        ({"expires_at": NOW}, "expires_at", "later than the present time"),
        ({"expires_at": MINUTE, "send_after": 2 * MINUTE}, "expires_at", "later than send_after"),
        ({"expires_at": MINUTE, "debounce": 2 * MINUTE}, "expires_at", "later than send_after"),
        ({"debounce": timedelta(0)}, "debounce", "a timedelta"),
        ({"debounce": 30}, "debounce", "a timedelta"),
        ({"debounce": timedelta.max}, "debounce", "9999"),
        ({"debounce": MINUTE, "max_delay": timedelta.max}, "debounce", "9999"),
        ({"max_delay": MINUTE}, "max_delay", "debounce=timedelta"),
        ({"debounce": MINUTE, "max_delay": MINUTE / 2}, "max_delay", "at least debounce"),
        ({"debounce": MINUTE, "send_after": MINUTE}, "send_after", "one of the two"),
    ],
)
def test_an_error_names_the_argument_and_what_is_allowed(times, path, words):
    with pytest.raises(InvalidRecord) as caught:
        make_timing("default", **times)
    (error,) = caught.value.errors
    assert error.path == path
    assert words in str(error)
