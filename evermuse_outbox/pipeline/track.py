"""Tracking: accepted batches are followed until Evermuse is done with them.

Reads count against the same limit as sends, so one listing stands for many batches: the listing is newest
first and gives a hundred full statuses a page. Only what it does not show is asked for one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from django.db import connections, transaction

from ..evermuse.client import Answer
from ..evermuse.errors import ThrottleUnavailable, Unanswered, Unreachable
from ..evermuse.limits import MAX_LISTING
from ..evermuse.outcomes import (
    KeyRefused,
    Outcome,
    Page,
    Throttled,
    of_error,
    of_read,
    read_page,
    read_status,
)
from ..models import BatchState, Hold, OutboxBatch, OutboxWorkspace
from . import pace
from .backoff import poll_after
from .channel import Channel
from .settle import Call, fail, settle_status

logger = logging.getLogger(__name__)

FEW = 2
"""Up to so many batches are asked for one by one: that costs no more than the listing."""

PAGES = 5
"""Pages of the listing that one run reads at most."""

UNKNOWN_AFTER = timedelta(minutes=15)
"""How long Evermuse may answer 404 for a batch that it accepted before that counts as FAILED."""


def track_due(channel: Channel) -> int:
    """Asks about the accepted batches that are due, and settles what is said. Returns how many were due."""
    if not _may_read(channel):
        return 0
    claimed = claim_due(channel)
    if not claimed:
        return 0
    waiting = {batch.remote_id: batch for batch in claimed}
    try:
        if len(waiting) > FEW:
            _read_listing(channel, waiting)
        _read_each(channel, waiting)
    except ThrottleUnavailable as error:
        logger.warning("%s", error)
    _ask_again(channel, waiting)
    return len(claimed)


def has_due(channel: Channel) -> bool:
    """Whether any accepted batch is due to be asked about."""
    return OutboxBatch.objects.using(channel.using).poll_due(channel.name, channel.clock.now()).exists()


def claim_due(channel: Channel) -> list[OutboxBatch]:
    """Up to a listing's worth of due batches, which nobody else asks about until the lease runs out."""
    rows = OutboxBatch.objects.using(channel.using)
    due = rows.poll_due(channel.name, channel.clock.now())
    if connections[channel.using].features.has_select_for_update_skip_locked:
        due = due.select_for_update(skip_locked=True)
    with transaction.atomic(using=channel.using):
        claimed = list(due[:MAX_LISTING])
        until = channel.clock.after(channel.settings.lease)
        mine = rows.poll_due(channel.name, channel.clock.now()).filter(pk__in=[batch.pk for batch in claimed])
        return claimed if not claimed or mine.update(next_poll_at=until) == len(claimed) else []


def _may_read(channel: Channel) -> bool:
    """Reads wait for whatever holds the workspace, and never are the probe that ends it."""
    state = OutboxWorkspace.objects.using(channel.using).named(channel.name).state
    return state == Hold.OPEN and bool(channel.workspace.api_key)


def _read_listing(channel: Channel, waiting: dict[str, OutboxBatch]) -> None:
    """Settles those that the first pages of the listing show."""
    oldest = min(batch.accepted_at or batch.sealed_at for batch in waiting.values())
    cursor: str | None = None
    for _ in range(PAGES):
        page = _listing(channel, cursor)
        if page is None:
            return
        for status in page.statuses:
            if batch := waiting.pop(status.remote_id, None):
                settle_status(channel, batch, status)
        cursor = page.next_cursor
        if not waiting or cursor is None or _is_past(page, oldest.timestamp()):
            return


def _is_past(page: Page, oldest: float) -> bool:
    """Whether the page reaches back beyond the oldest batch we look for, clocks allowing an hour."""
    created = [status.created_at for status in page.statuses if status.created_at is not None]
    return bool(created) and min(created) / 1000 < oldest - 3600


def _listing(channel: Channel, cursor: str | None) -> Page | None:
    if not pace.wait_for_slot(channel):
        return None
    started = channel.clock.now()
    answer, outcome = _ask(channel, lambda: channel.client.batches(limit=MAX_LISTING, cursor=cursor))
    Call.made("listing", started, outcome, answer).write(channel, None)
    return read_page(answer) if answer and not outcome else None


def _read_each(channel: Channel, waiting: dict[str, OutboxBatch]) -> None:
    """Asks for a few of those that are left, one by one; the others have their turn later."""
    for batch in list(waiting.values())[: FEW + 1]:
        if not pace.wait_for_slot(channel):
            return
        started = channel.clock.now()
        answer, outcome = _ask(channel, partial(channel.client.batch, batch.remote_id))
        Call.made("status", started, outcome, answer).write(channel, batch)
        status = read_status(answer) if answer and not outcome else None
        if status and status.remote_id == batch.remote_id:
            del waiting[batch.remote_id]
            settle_status(channel, batch, status)
        elif answer and answer.status == 404 and _is_forgotten(channel, batch):
            del waiting[batch.remote_id]
            with transaction.atomic(using=channel.using):
                fail(channel, batch, {}, "Evermuse does not know the batch that it accepted")


def _is_forgotten(channel: Channel, batch: OutboxBatch) -> bool:
    accepted = batch.accepted_at or batch.sealed_at
    return batch.state == BatchState.ACCEPTED and channel.clock.now() - accepted > UNKNOWN_AFTER


def _ask(channel: Channel, call: Callable[[], Answer]) -> tuple[Answer | None, Outcome | None]:
    """One read. Only what concerns the key holds the workspace: a failed read costs no record anything."""
    try:
        answer = call()
    except (Unreachable, Unanswered) as error:
        return None, of_error(error)
    outcome = of_read(answer)
    match outcome:
        case Throttled(seconds, message):
            pace.hold_for_retry_after(channel, seconds, message)
        case KeyRefused(401, message):
            pace.pause(channel, message)
    return answer, outcome


def _ask_again(channel: Channel, waiting: dict[str, OutboxBatch]) -> None:
    """Those that nothing was learned of are asked about later, the longer the older they are."""
    rows = OutboxBatch.objects.using(channel.using)
    now = channel.clock.now()
    for batch in waiting.values():
        age = (now - (batch.accepted_at or batch.sealed_at)).total_seconds()
        later = channel.clock.after(poll_after(age, channel.settings.poll_interval))
        rows.filter(pk=batch.pk, next_poll_at__isnull=False).update(next_poll_at=later)
