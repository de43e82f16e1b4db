"""Small pieces of HTML: a state in its colour, links, times. Colours are the admin's own CSS variables."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ..insight.explain import local
from ..models import BatchState, GroupState, RecordState, WorkspaceState

NOTHING = "-"
GAP = "\N{NO-BREAK SPACE}"

TONES: dict[type[models.TextChoices], dict[Any, str]] = {
    RecordState: {
        RecordState.PENDING: "calm",
        RecordState.IN_FLIGHT: "busy",
        RecordState.DELIVERED: "good",
        RecordState.REJECTED: "bad",
        RecordState.SUPERSEDED: "past",
        RecordState.DISCARDED: "past",
    },
    BatchState: {
        BatchState.SEALED: "calm",
        BatchState.SENDING: "busy",
        BatchState.IN_DOUBT: "care",
        BatchState.ACCEPTED: "busy",
        BatchState.COMPLETE: "good",
        BatchState.REFUSED: "bad",
        BatchState.SPLIT: "care",
        BatchState.ISOLATING: "care",
        BatchState.FAILED: "bad",
        BatchState.WITHDRAWN: "past",
    },
    GroupState: {GroupState.SUSPECTED: "care", GroupState.PAUSED: "bad", GroupState.CLEARED: "past"},
    WorkspaceState: {
        WorkspaceState.ACTIVE: "good",
        WorkspaceState.PAUSED: "bad",
        WorkspaceState.BACKING_OFF: "care",
        WorkspaceState.THROTTLED: "care",
    },
}

OUTCOME_TONES = {
    "accepted": "good",
    "read": "good",
    "refused": "bad",
    "too_large": "bad",
    "key_refused": "bad",
    "throttled": "care",
    "in_doubt": "care",
    "unavailable": "care",
    "lost": "care",
}


def chip(state: models.TextChoices) -> SafeString:
    """The state in words, in its colour."""
    tone = TONES[type(state)].get(state, "calm")
    return format_html('<span class="evermuse-chip evermuse-{}">{}</span>', tone, state.label)


def link_to(model: type[models.Model], pk: Any, text: str, site: str = "admin") -> SafeString | str:
    """A link to the admin page of a row; bare text where its model is not in that admin."""
    options = model._meta
    try:
        name = f"admin:{options.app_label}_{options.model_name}_change"
        url = reverse(name, args=[pk], current_app=site)
    except NoReverseMatch:
        return text
    return format_html('<a href="{}">{}</a>', url, text)


def moment(at: datetime | None) -> SafeString | str:
    """Local time to the second; a narrow cell may put the time below the date."""
    if at is None:
        return NOTHING
    shown = local(at)
    return format_html(
        '<time datetime="{}">{}</time>',
        shown.isoformat(),
        words([f"{shown:%Y-%m-%d}", f"{shown:%H:%M:%S}"]),
    )


def lines(first: Any, second: Any) -> SafeString:
    """Two lines in one cell, the second one quiet."""
    return format_html('{}<br><span class="evermuse-quiet">{}</span>', first, second)


def words(parts: Iterable[str]) -> SafeString:
    """Parts that stay whole where a cell is narrow."""
    return format_html_join(" ", '<span class="evermuse-word">{}</span>', ((part,) for part in parts))


def span(length: timedelta) -> str:
    """A length of time in one or two units: ``"0.4 s"``, ``"3 min 20 s"``, ``"2 d 4 h"``."""
    seconds = max(length.total_seconds(), 0.0)
    if seconds < 60:
        return f"{seconds:.1f}{GAP}s" if seconds < 10 else f"{seconds:.0f}{GAP}s"
    minutes, left = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}{GAP}min {left}{GAP}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{GAP}h {minutes}{GAP}min" if hours < 24 else f"{hours // 24}{GAP}d {hours % 24}{GAP}h"


def size(count: int) -> str:
    """Bytes as people read them, in powers of ten as the API counts them."""
    for unit in ("B", "kB"):
        if count < 1_000:
            return f"{count:.1f}{GAP}{unit}" if unit != "B" and count < 100 else f"{count:.0f}{GAP}{unit}"
        count = count / 1_000  # type: ignore[assignment]
    return f"{count:.1f}{GAP}MB"


def progress(done: int, failed: int, total: int) -> SafeString:
    """A bar of 100 units: what is done, what has failed, what is still to come."""
    whole = max(total, done + failed, 1)
    good, bad = round(100 * done / whole, 1), round(100 * failed / whole, 1)
    text = f"{done:,} / {total:,}" + (f", {failed:,} failed" if failed else "")
    return format_html(
        '<span class="evermuse-progress"><svg viewBox="0 0 100 8" preserveAspectRatio="none" role="img" '
        'aria-label="{}"><rect class="evermuse-rest" width="100" height="8"/>'
        '<rect class="evermuse-good" width="{}" height="8"/>'
        '<rect class="evermuse-bad" x="{}" width="{}" height="8"/></svg> '
        '<span class="evermuse-word">{}</span></span>',
        text,
        good,
        good,
        bad,
        text,
    )
