"""Conversion of ``_event_at`` to UTC in whole seconds."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from time import struct_time
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


_RFC_5322 = re.compile(r"([A-Z][a-z]{2}, )?\d{1,2} [A-Z][a-z]{2} \d{4} ", re.ASCII)
_ANY_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", re.ASCII)
_MILLISECONDS = 10**11  # a number from here on is in the year 5138 or later if it counts seconds

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
        raise InvalidTimestamp(_describe_other_type(time))
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
        raise InvalidTimestamp(_describe_other_text(text))
    day, clock, zone = match.groups("")
    if not zone:
        raise InvalidTimestamp(
            "Without a zone, it is not an exact time: end it with Z or an offset such as +02:00."
        )
    return _read_iso(f"{day}T{clock}{zone.upper()}")


def _describe_other_type(value: Any) -> str:
    if isinstance(value, date):
        return _NO_TIME
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return _describe_number("value", is_long=value >= _MILLISECONDS)
    if isinstance(value, struct_time):
        return "Its zone is unknown: if it is UTC, use datetime(*value[:6], tzinfo=UTC)."
    return "Not a datetime and not text."


def _describe_number(value: str, is_long: bool) -> str:
    unit, seconds = ("milliseconds", f"{value} / 1000") if is_long else ("seconds", value)
    return f"A number: if it counts {unit} since 1970, use datetime.fromtimestamp({seconds}, tz=UTC)."


def _describe_other_text(text: str) -> str:
    if not text.strip():
        return "Empty."
    if len(text) > _MAX_LENGTH:
        return "Not ISO 8601."
    if text != text.strip():
        return "Not ISO 8601, because of the spaces around it: use value.strip()."
    if _DATE.fullmatch(text):
        return _NO_TIME
    if text.isdecimal():
        return _describe_number("int(value)", is_long=int(text) >= _MILLISECONDS)
    if _RFC_5322.match(text):
        return "The date of an e-mail: use email.utils.parsedate_to_datetime(value)."
    if _ANY_TIME.match(text):
        return "Not ISO 8601: an hour ends at 23, a minute and a second at 59."
    return "Not ISO 8601: make an aware datetime of it, such as with datetime.strptime."


def _read_iso(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidTimestamp(f"No such date or time ({error}).") from None
