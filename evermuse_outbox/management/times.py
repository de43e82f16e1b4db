"""Read times from options of commands: a duration such as ``2h``, or a time in ISO 8601."""

from __future__ import annotations

from datetime import datetime

from django.core.management.base import CommandError

from .exit_codes import USAGE


def read_time_ago(text: str | None, using: str) -> datetime | None:
    """Return the time that was a duration before the database's now, or a time in ISO 8601; None without a text."""
    return _read_time(text, using, -1)


def read_time_ahead(text: str | None, using: str) -> datetime | None:
    """Return the time a duration after the database's now, or a time in ISO 8601; None without a text."""
    return _read_time(text, using, 1)


def _read_time(text: str | None, using: str, sign: int) -> datetime | None:
    """Return a time, or raise an error that names the form."""
    if text is None:
        return None
    from ..timing import read_time  # late, because the sandbox runs in a project without the app

    try:
        return read_time(text, using, sign=sign)
    except ValueError as error:
        kind = "age" if sign < 0 else "duration"
        raise CommandError(
            f"{text!r} is no {kind} and no time; use 2h, 3d or 2026-03-01T12:00:00Z.", returncode=USAGE
        ) from error
