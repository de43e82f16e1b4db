"""Durations and sizes as text."""

from __future__ import annotations

from datetime import timedelta

NBSP = "\N{NO-BREAK SPACE}"
"""Separator of a number and its unit, so that no line breaks between them."""


def duration(length: timedelta) -> str:
    """Return a length of time in one or two units: ``"0.4 s"``, ``"3 min 20 s"``, ``"2 d 4 h"``."""
    seconds = max(length.total_seconds(), 0.0)
    if seconds < 60:
        return f"{seconds:.1f}{NBSP}s" if seconds < 10 else f"{seconds:.0f}{NBSP}s"
    minutes, left = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min {left}{NBSP}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{NBSP}h {minutes}{NBSP}min" if hours < 24 else f"{hours // 24}{NBSP}d {hours % 24}{NBSP}h"


def byte_size(count: int) -> str:
    """Return a number of bytes with a unit, in powers of ten because the API's limits are in powers of ten."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1_000:
            return f"{size:.1f}{NBSP}{unit}" if unit != "B" and size < 100 else f"{size:.0f}{NBSP}{unit}"
        size /= 1_000
    return f"{size:.1f}{NBSP}GB"
