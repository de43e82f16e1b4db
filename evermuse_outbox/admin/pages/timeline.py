"""The attempts of a batch along the clock: numbers that the template draws."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ...models import OutboxAttempt, OutboxBatch
from .. import html

MOST = 200
"""Attempts that a page shows at most, the newest."""

WIDTH = 1_000.0
"""Units of the drawing from the first attempt to the end of the last."""

THINNEST = 4.0


@dataclass(frozen=True, slots=True)
class Shown:
    """One attempt, ready to be shown. ``x`` and ``width`` are in units of the drawing."""

    attempt: OutboxAttempt
    tone: str
    x: float
    width: float
    since: str
    took: str
    detail: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The newest attempts in the order of time; ``is_cut`` where there were more."""

    attempts: Sequence[Shown]
    is_cut: bool
    starts: datetime | None
    ends: datetime | None
    length: str


def attempts_of(batch: OutboxBatch) -> Timeline:
    """The attempts of ``batch``; one query."""
    newest = list(batch.attempts.order_by("-pk")[: MOST + 1])
    return timeline(newest[:MOST][::-1], is_cut=len(newest) > MOST)


def timeline(attempts: Sequence[OutboxAttempt], *, is_cut: bool = False) -> Timeline:
    """``attempts``, which are in the order of time, along their own clock."""
    if not attempts:
        return Timeline((), is_cut, None, None, "")
    starts = attempts[0].started_at
    ends = max(_end(attempt) for attempt in attempts)
    scale = WIDTH / max((ends - starts).total_seconds(), 0.001)
    shown = [_shown(attempt, starts, scale) for attempt in attempts]
    return Timeline(shown, is_cut, starts, ends, html.span(ends - starts))


def _end(attempt: OutboxAttempt) -> datetime:
    return attempt.started_at + timedelta(seconds=attempt.seconds or 0)


def _shown(attempt: OutboxAttempt, starts: datetime, scale: float) -> Shown:
    since = attempt.started_at - starts
    width = max((attempt.seconds or 0) * scale, THINNEST)
    return Shown(
        attempt=attempt,
        tone=html.OUTCOME_TONES.get(attempt.outcome, "calm"),
        x=round(min(max(since.total_seconds() * scale, 0.0), WIDTH - THINNEST), 1),
        width=round(min(width, WIDTH), 1),
        since=f"+{html.span(since)}",
        took="" if attempt.seconds is None else _milliseconds(attempt.seconds),
        detail=_indented(attempt.detail),
    )


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1_000:.0f} ms" if seconds < 1 else html.span(timedelta(seconds=seconds))


def _indented(text: str) -> str:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps(found, indent=2, ensure_ascii=False)
