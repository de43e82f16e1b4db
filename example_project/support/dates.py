"""Find the date of a mail. If its header ``Date`` is unusable, the date is guessed, and the result says from what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_tz
from typing import Literal

FALLBACK_DATE = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_YEAR = 1970  # mail as we know it is younger; an earlier date comes from a clock that was not set
TOLERANCE = timedelta(days=2)  # clocks differ, and time zones are wrong; a later date is in the future
DATE_LENGTH = 200  # characters of a date that are examined

Guess = Literal["", "received", "separator", "previous_mail", "none"]

# Hours before UTC of zones that mails name and the standard library does not know, without ambiguous names.
ZONES = {
    "WET": 0, "WEST": 1, "BST": 1, "CET": 1, "MET": 1, "MEZ": 1, "CEST": 2, "MEST": 2, "MESZ": 2, "EET": 2, "SAST": 2,
    "EEST": 3, "MSK": 3, "MSD": 4, "HKT": 8, "SGT": 8, "JST": 9, "KST": 9, "AEST": 10, "AEDT": 11,
    "NZST": 12, "NZDT": 13,
}  # fmt: skip
_ZONE = re.compile(r"\b([A-Z]{3,4})\)?\s*$")
_HAS_ZONE = re.compile(r"[+-]\d{4}|\b(?:GMT|UTC?|Z)\b")
_MAX_OFFSET = timedelta(hours=15)


@dataclass(frozen=True, slots=True)
class MailDate:
    """The date of a mail in UTC, in whole seconds. ``guess`` names its source if it is not the header ``Date``.

    ``is_zone_assumed`` means that the date has no usable time zone and was read as UTC.
    """

    date: datetime
    guess: Guess = ""
    is_zone_assumed: bool = False


def find_date(
    dates: Iterable[str],
    hops: list[str],
    separator: datetime | None,
    previous: datetime | None,
    now: datetime,
) -> MailDate:
    """Return the first plausible date.

    It comes from the header ``Date``, else from the ``Received`` headers (``hops``), the first hop first, else from the
    separator of the mbox, else from the mail before it.
    """
    candidates = (
        MailDate(date, guess, assumed)
        for date, guess, assumed in _candidates(dates, hops, separator)
        if date.year >= FIRST_YEAR and date <= now + TOLERANCE
    )
    if plausible := next(candidates, None):
        return plausible
    return MailDate(previous, "previous_mail") if previous else MailDate(FALLBACK_DATE, "none")


def _candidates(
    dates: Iterable[str], hops: list[str], separator: datetime | None
) -> Iterator[tuple[datetime, Guess, bool]]:
    for text in dates:
        if parsed := parse_date(text):
            yield parsed[0], "", parsed[1]
    for hop in reversed(hops):
        if parsed := parse_date(hop.rpartition(";")[2]):
            yield parsed[0], "received", parsed[1]
    if separator:
        yield _in_utc(separator), "separator", separator.tzinfo is None


def parse_date(text: str) -> tuple[datetime, bool] | None:
    """Return a date in UTC and whether its time zone was assumed, or None if the text is no date."""
    text = text[:DATE_LENGTH].strip()
    try:
        if text[:4].isdecimal() and text[4:5] == "-":
            date = datetime.fromisoformat(text)
            return _in_utc(date), date.tzinfo is None
        return _parse_mail_date(text)
    except Exception:  # known: ValueError (documented), TypeError, IndexError, OverflowError
        return None


def _parse_mail_date(text: str) -> tuple[datetime, bool] | None:
    fields = parsedate_tz(text)
    if fields is None:
        return None
    year, month, day, hour, minute, second = fields[:6]
    offset = timedelta(seconds=fields[9] or 0)
    zone = _ZONE.search(text)
    if zone and zone[1] in ZONES and not _HAS_ZONE.search(text):
        offset = timedelta(hours=ZONES[zone[1]])
    if abs(offset) > _MAX_OFFSET:
        return None
    is_known = bool(offset or _HAS_ZONE.search(text))
    date = datetime(year, month, day, hour, minute, min(second, 59))  # noqa: DTZ001 - the zone is added below
    return _in_utc(date.replace(tzinfo=timezone(offset) if is_known else UTC)), not is_known


def _in_utc(date: datetime) -> datetime:
    aware = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    return aware.replace(microsecond=0)
