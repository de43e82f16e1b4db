"""HTML elements: states with a colour, links, times and progress bars.

The stylesheet ``evermuse_outbox/admin.css`` has the colours, for light and dark themes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import models
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ...insight import to_local_time
from ...models import BatchState, GroupState, OperationState, RecordState, RuleState, WorkspaceState

EMPTY = "-"
"""Text of a cell without a value, as in Django's admin."""

MAX_WORD = 24
"""Characters of a text that is never broken. Longer ids are, so that they do not push columns off the screen."""

TONES: dict[type[models.TextChoices], dict[Any, str]] = {
    RecordState: {
        RecordState.PENDING: "calm",
        RecordState.IN_FLIGHT: "busy",
        RecordState.DELIVERED: "good",
        RecordState.REJECTED: "bad",
        RecordState.SUPERSEDED: "past",
        RecordState.DISCARDED: "past",
        RecordState.SCHEDULED: "calm",
        RecordState.HELD: "care",
        RecordState.EXPIRED: "past",
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
    OperationState: {
        OperationState.COLLECTING: "calm",
        OperationState.READY: "care",
        OperationState.RUNNING: "busy",
        OperationState.PAUSED: "care",
        OperationState.FINISHED: "good",
        OperationState.CANCELLED: "past",
        OperationState.FAILED: "bad",
    },
    GroupState: {
        GroupState.SUSPECTED: "care",
        GroupState.PAUSED: "bad",
        GroupState.CLEARED: "past",
        GroupState.HELD: "care",
    },
    RuleState: {
        RuleState.ACTIVE: "care",
        RuleState.ENDING: "busy",
        RuleState.ENDED: "past",
    },
    WorkspaceState: {
        WorkspaceState.ACTIVE: "good",
        WorkspaceState.PAUSED: "bad",
        WorkspaceState.NO_CREDITS: "bad",
        WorkspaceState.BACKING_OFF: "care",
        WorkspaceState.THROTTLED: "care",
        WorkspaceState.RESTORED: "bad",
        WorkspaceState.HELD: "care",
    },
}
"""The colour of each state, as the last part of a CSS class: ``evermuse-good``."""

OUTCOME_TONES = {
    "accepted": "good",
    "read": "good",
    "refused": "bad",
    "too_large": "bad",
    "key_refused": "bad",
    "no_credits": "bad",
    "throttled": "care",
    "in_doubt": "care",
    "unavailable": "care",
    "lost": "care",
}
"""The colour of each outcome of an attempt."""


def state_chip(state: models.TextChoices, *, tone: str = "") -> SafeString:
    """Return the label of a state in its colour, or in the colour ``tone``."""
    return chip(state.label, tone or TONES[type(state)].get(state, "calm"))


def chip(label: Any, tone: str) -> SafeString:
    """Return a word in a colour."""
    return format_html('<span class="evermuse-chip evermuse-{}">{}</span>', tone, label)


def link_to(model: type[models.Model], pk: Any, text: str, site: str = "admin") -> SafeString | str:
    """Return a link to the admin page of a row, or only ``text`` if the admin ``site`` has no such page."""
    options = model._meta
    try:
        name = f"admin:{options.app_label}_{options.model_name}_change"
        url = reverse(name, args=[pk], current_app=site)
    except NoReverseMatch:
        return text
    return format_html('<a href="{}">{}</a>', url, text)


def time_tag(at: datetime | None) -> SafeString | str:
    """Return the local date and time to the second; the line can break only between the two."""
    if at is None:
        return EMPTY
    local_time = to_local_time(at)
    return format_html(
        '<time datetime="{}">{}</time>',
        local_time.isoformat(),
        unbroken([f"{local_time:%Y-%m-%d}", f"{local_time:%H:%M:%S}"]),
    )


def two_lines(first: Any, second: Any) -> SafeString:
    """Return two lines for one cell, the second in a lighter colour."""
    is_long = isinstance(second, str) and not isinstance(second, SafeString) and len(second) > MAX_WORD
    css_class = "evermuse-quiet evermuse-id" if is_long else "evermuse-quiet"
    return format_html('{}<br><span class="{}">{}</span>', first, css_class, second)


def unbroken(parts: Iterable[str]) -> SafeString:
    """Return the parts so that a narrow cell breaks the line only between them, and inside of long parts."""
    classed = (("evermuse-id" if len(part) > MAX_WORD else "evermuse-word", part) for part in parts)
    return format_html_join(" ", '<span class="{}">{}</span>', classed)


def long_id(text: str) -> SafeString | str:
    """Return an id of any length so that a list breaks its line instead of growing wider."""
    return format_html('<span class="evermuse-id">{}</span>', text) if text else ""


def hidden(text: Any) -> SafeString:
    """Return a word in the place of a value that the user may not view."""
    return format_html('<span class="evermuse-quiet">{}</span>', text)


def progress_bar(done: int, failed: int, total: int) -> SafeString:
    """Return a bar 100 units wide with the shares that are done and that failed, and both numbers in words."""
    width = max(total, done + failed, 1)
    good, bad = round(100 * done / width, 1), round(100 * failed / width, 1)
    text = f"{done:,} / {total:,}"
    if failed:
        text = _("%(progress)s, %(failed)s failed") % {"progress": text, "failed": f"{failed:,}"}
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
