"""``_event_at``: any unmistakable moment becomes UTC in whole seconds."""

import re
from datetime import UTC, date, datetime
from typing import Any

ALLOWED = "an aware datetime, or ISO 8601 text with Z or an offset, such as 2026-02-24T12:34:56Z"

_NO_TIME = "A date is not a moment: add the time and its zone."

# Narrower than datetime.fromisoformat, which takes other dialects from one Python version to the next.
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]((?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:[.,]\d+)?)?)(Z|z|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class NoMoment(ValueError):
    """The value names no moment; the message says why and what to give."""


def moment(value: Any) -> str:
    """``YYYY-MM-DDTHH:MM:SSZ`` of an aware datetime or ISO 8601 text.

    Fractions of a second are cut, never rounded: Evermuse's pages disagree on which of the two they do, and
    whole seconds make them agree. Raises ``NoMoment``.
    """
    when = _parsed(value) if isinstance(value, str) else value
    if not isinstance(when, datetime):
        raise NoMoment(_NO_TIME if isinstance(when, date) else "Not a moment.")
    if when.utcoffset() is None:
        raise NoMoment(
            "Naive, so it names no moment: make it aware with django.utils.timezone.make_aware(value), "
            "or take datetime.now(UTC) from the start."
        )
    return _in_utc(when).isoformat(timespec="seconds") + "Z"


def _in_utc(when: datetime) -> datetime:
    try:
        return when.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        raise NoMoment("In UTC it falls outside the years 1 to 9999.") from None


def _parsed(text: str) -> datetime:
    match = _ISO.fullmatch(text)
    if match is None:
        raise NoMoment(_NO_TIME if _DATE.fullmatch(text) else "Not ISO 8601.")
    day, time, zone = match.groups("")
    if not zone:
        raise NoMoment("Without a zone it names no moment: end it with Z or an offset such as +02:00.")
    return _read(f"{day}T{time}{zone.upper()}")


def _read(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise NoMoment(f"No such moment ({error}).") from None
