"""Conversion of ``_event_at`` to UTC in whole seconds."""

import re
from datetime import UTC, date, datetime
from typing import Any

ALLOWED = "an aware datetime, or ISO 8601 text with Z or an offset, such as 2026-02-24T12:34:56Z"

_NO_TIME = "A date is not an exact time: add the time of day and its zone."

# Stricter than datetime.fromisoformat, which takes more formats with each Python version.
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]((?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:[.,]\d+)?)?)(Z|z|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_IN_UTC = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\dZ", re.ASCII)  # the result itself
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


_MAX_LENGTH = 100
"""Characters of the longest text that is read as a time. A fraction of a second can have any number of digits."""


class InvalidTimestamp(ValueError):
    """The value is not an exact time; the message says why, and how to correct it."""


def to_utc_timestamp(value: Any) -> str:
    """Return an aware datetime or ISO 8601 text as ``YYYY-MM-DDTHH:MM:SSZ``.

    Fractions of a second are cut, not rounded. One published page says that Evermuse cuts them, another says that it
    rounds them. Whole seconds give the same result in both cases.

    Raises:
        InvalidTimestamp: the value is not a time, has no time zone, or is outside the years 1 to 9999 in UTC.
    """
    if type(value) is str and _IN_UTC.fullmatch(value) and _is_time(value):
        return value
    time = _parse(value) if isinstance(value, str) else value
    if not isinstance(time, datetime):
        raise InvalidTimestamp(_NO_TIME if isinstance(time, date) else "Not a datetime and not text.")
    if datetime.utcoffset(time) is None:
        raise InvalidTimestamp(
            "Naive, so its zone is unknown: make it aware with django.utils.timezone.make_aware(value), "
            "or create it with datetime.now(UTC)."
        )
    # The methods of datetime itself, because a subclass may have others.
    return datetime.isoformat(_in_utc(time), timespec="seconds") + "Z"


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _in_utc(time: datetime) -> datetime:
    try:
        return datetime.replace(datetime.astimezone(time, UTC), tzinfo=None)
    except OverflowError:
        raise InvalidTimestamp("In UTC, it is outside the years 1 to 9999.") from None


def _parse(text: str) -> datetime:
    match = _ISO.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        raise InvalidTimestamp(_NO_TIME if _DATE.fullmatch(text) else "Not ISO 8601.")
    day, clock, zone = match.groups("")
    if not zone:
        raise InvalidTimestamp(
            "Without a zone, it is not an exact time: end it with Z or an offset such as +02:00."
        )
    return _read_iso(f"{day}T{clock}{zone.upper()}")


def _read_iso(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidTimestamp(f"No such date or time ({error}).") from None
