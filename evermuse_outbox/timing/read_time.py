"""Read a time that a person enters: a duration such as ``2h``, or a time in ISO 8601."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from django.conf import settings as project
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from ..database_clock import database_now

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
"""Seconds of each unit of a duration."""


def read_time(text: str, using: str, *, sign: int = 1) -> datetime:
    """Return the time a duration after the database's now, or a time in ISO 8601; raise ``ValueError`` for others.

    A time without an offset is in the current zone. With ``sign=-1``, a duration is before now.
    """
    if duration := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw])", text):
        try:
            return database_now(using) + sign * timedelta(seconds=float(duration[1]) * UNITS[duration[2]])
        except OverflowError as error:
            raise ValueError(text) from error
    at = parse_datetime(text if "T" in text or " " in text else f"{text}T00:00:00")
    if at is None:
        raise ValueError(text)
    if timezone.is_naive(at) and project.USE_TZ:
        return timezone.make_aware(at)
    return at if project.USE_TZ or timezone.is_naive(at) else timezone.make_naive(at)
