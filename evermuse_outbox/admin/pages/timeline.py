"""The attempts of a batch on a time axis, as numbers that the template draws."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _

from ...insight import as_curl
from ...models import OutboxAttempt, OutboxBatch
from .. import html

MAX_ATTEMPTS = 200
"""Maximum number of attempts that a page shows: the newest ones."""

WIDTH = 1_000.0
"""Width of the drawing in units of its SVG."""

MIN_BAR_WIDTH = 4.0
"""Minimum width of a bar, in the same units. A very short attempt then stays visible."""

NO_CALL = ("lost",)
"""Outcomes of attempts whose worker died. It is unknown whether there was a request."""


@dataclass(frozen=True, slots=True)
class AttemptBar:
    """One attempt with its bar. ``x`` and ``width`` are in units of the drawing.

    ``since`` is the time from the first attempt to this one, and ``took`` its duration, both as text. ``request`` is a
    command that repeats the call; it is empty if there was none.
    """

    attempt: OutboxAttempt
    outcome: str
    tone: str
    x: float
    width: float
    since: str
    took: str
    detail: str
    request: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The newest attempts in order of time. ``is_cut`` is True if there are older ones."""

    bars: Sequence[AttemptBar]
    is_cut: bool
    starts: datetime | None
    ends: datetime | None
    length: str


def timeline_of(batch: OutboxBatch) -> Timeline:
    """Return the timeline of a batch. This costs one query."""
    newest = list(batch.attempts.order_by("-pk")[: MAX_ATTEMPTS + 1])
    return draw_timeline(newest[:MAX_ATTEMPTS][::-1], batch, is_cut=len(newest) > MAX_ATTEMPTS)


def draw_timeline(
    attempts: Sequence[OutboxAttempt], batch: OutboxBatch | None = None, *, is_cut: bool = False
) -> Timeline:
    """Return the timeline of attempts that are in order of time. ``batch`` is the batch of all of them."""
    if not attempts:
        return Timeline((), is_cut, None, None, "")
    starts = attempts[0].started_at
    ends = max(_end_of(attempt) for attempt in attempts)
    scale = WIDTH / max((ends - starts).total_seconds(), 0.001)
    bars = [_draw_bar(attempt, batch, starts, scale) for attempt in attempts]
    return Timeline(bars, is_cut, starts, ends, html.duration(ends - starts))


def _end_of(attempt: OutboxAttempt) -> datetime:
    return attempt.started_at + timedelta(seconds=attempt.seconds or 0)


def _draw_bar(
    attempt: OutboxAttempt, batch: OutboxBatch | None, starts: datetime, scale: float
) -> AttemptBar:
    since = attempt.started_at - starts
    width = max((attempt.seconds or 0) * scale, MIN_BAR_WIDTH)
    return AttemptBar(
        attempt=attempt,
        outcome=_describe_outcome(attempt),
        tone=html.OUTCOME_TONES.get(attempt.outcome, "calm"),
        x=round(min(max(since.total_seconds() * scale, 0.0), WIDTH - MIN_BAR_WIDTH), 1),
        width=round(min(width, WIDTH), 1),
        since=f"+{html.duration(since)}",
        took="" if attempt.seconds is None else _format_seconds(attempt.seconds),
        detail=_indent(attempt.detail),
        request=as_curl(attempt, batch) if batch and attempt.outcome not in NO_CALL else "",
    )


def _describe_outcome(attempt: OutboxAttempt) -> str:
    if attempt.outcome == "in_doubt" and attempt.call != OutboxAttempt.Call.INGEST:
        return _("not read")  # a read that fails leaves no doubt about the batch
    return attempt.outcome_label


def _format_seconds(seconds: float) -> str:
    return f"{seconds * 1_000:.0f} ms" if seconds < 1 else html.duration(timedelta(seconds=seconds))


def _indent(text: str) -> str:
    """Return JSON with indentation, and any other text unchanged."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps(value, indent=2, ensure_ascii=False)
