"""Read times from options of commands: a duration such as ``2h``, or a time in ISO 8601."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from django.conf import settings as project
from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from ..database_clock import database_now
from .exit_codes import USAGE

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
"""Seconds of each unit of a duration."""


def read_time_ago(text: str | None, using: str) -> datetime | None:
    """Return the time that was a duration before the database's now, or a time in ISO 8601; None without a text."""
    return _read_time(text, using, -1)


def read_time_ahead(text: str | None, using: str) -> datetime | None:
    """Return the time a duration after the database's now, or a time in ISO 8601; None without a text."""
    return _read_time(text, using, 1)


def _read_time(text: str | None, using: str, sign: int) -> datetime | None:
    """Return a time; one without an offset is in the current zone."""
    if text is None:
        return None
    if duration := re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text):
        return database_now(using) + sign * timedelta(seconds=float(duration[1]) * UNITS[duration[2]])
    try:
        at = parse_datetime(text if "T" in text or " " in text else f"{text}T00:00:00")
    except ValueError:
        at = None
    if at is None:
        kind = "age" if sign < 0 else "duration"
        raise CommandError(
            f"{text!r} is no {kind} and no time; use 2h, 3d or 2026-03-01T12:00:00Z.", returncode=USAGE
        )
    if timezone.is_naive(at) and project.USE_TZ:
        return timezone.make_aware(at)
    return at if project.USE_TZ or timezone.is_naive(at) else timezone.make_naive(at)
