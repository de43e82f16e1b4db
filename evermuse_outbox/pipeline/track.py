"""Tracking: accepted batches are followed until Evermuse is done with them.

Reads count against the same limit as sends, so one listing stands for many batches: the listing is newest
first and gives a hundred full statuses a page. Only what it does not show is asked for one by one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from django.db import connections, transaction

from ..evermuse.limits import MAX_LISTING
from ..evermuse.outcomes import Page, read_status
from ..models import BatchState, OutboxBatch
from . import pace
from .backoff import poll_after
from .channel import Channel
from .follow import fail, settle_status
from .groups import has_work
from .reads import ask, read_listing
from .settle import Call

FEW = 2
"""Up to so many batches are asked for one by one: that costs no more than the listing."""

BACKLOG_PAUSE = timedelta(seconds=4)
"""How long polls wait for others while there is something to send: then one listing tells of them all."""

PAGES = 5
"""Pages of the listing that one run reads at most."""

CLOCKS = 3_600.0
"""Seconds by which the clock of Evermuse may differ from ours."""

UNKNOWN_AFTER = timedelta(minutes=15)
"""How long Evermuse may answer 404 for a batch that it accepted before that counts as FAILED."""


def track_due(channel: Channel) -> int:
    """Asks about the accepted batches that are due, and settles what is said. Returns how many were due."""
    if not has_due(channel):
        return 0
    with pace.gate(channel) as gate:
        if not gate.is_open or _can_wait(channel):
            return 0
        claimed = channel.persist(claim_due, channel)
        waiting = {batch.remote_id: batch for batch in claimed}
        try:
            _read(channel, waiting)
        finally:
            channel.persist(_ask_again, channel, waiting)
        # Where something waits to be sent, sending it tells more of the key and of the API.
        if gate.probe_until and len(waiting) < len(claimed) and not has_work(channel):
            channel.persist(pace.resume, channel, sent=False)
        return len(claimed)
    return 0


def _read(channel: Channel, waiting: dict[str, OutboxBatch]) -> None:
    """Takes from ``waiting`` what Evermuse has told of."""
    if len(waiting) > FEW:
        _read_listing(channel, waiting)
    _read_each(channel, waiting)


def has_due(channel: Channel) -> bool:
    """Whether any accepted batch is due to be asked about."""
    return _due_since(channel, channel.clock.now())


def _can_wait(channel: Channel) -> bool:
    """While sends take every slot, polls wait for company."""
    if not has_work(channel) or not channel.throttle.wait():
        return False
    return not _due_since(channel, channel.clock.now() - BACKLOG_PAUSE)


def _due_since(channel: Channel, moment: datetime) -> bool:
    due = OutboxBatch.objects.using(channel.using).poll_due(channel.name, moment)
    return channel.persist(due.exists)


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


def _read_listing(channel: Channel, waiting: dict[str, OutboxBatch]) -> None:
    """Settles those that the first pages of the listing show."""
    oldest = min(batch.accepted_at or batch.sealed_at for batch in waiting.values())
    cursor: str | None = None
    for _ in range(PAGES):
        listing = read_listing(channel, cursor)
        if listing is None or listing.page is None:
            return
        page = listing.page
        _settle_page(channel, page, waiting)
        cursor = page.next_cursor
        if not waiting or cursor is None or page.reaches(oldest.timestamp() - CLOCKS):
            return


def _settle_page(channel: Channel, page: Page, waiting: dict[str, OutboxBatch]) -> None:
    """All batches of the page that are followed, also those that nobody has asked about yet."""
    told = {status.remote_id: status for status in page.statuses}
    followed = OutboxBatch.objects.using(channel.using).followed(channel.name)
    for batch in channel.persist(list, followed.filter(remote_id__in=list(told))):
        channel.persist(settle_status, channel, batch, told[batch.remote_id])
        waiting.pop(batch.remote_id, None)


def _read_each(channel: Channel, waiting: dict[str, OutboxBatch]) -> None:
    """Asks for a few of those that are left, one by one; the others have their turn later."""
    for batch in list(waiting.values())[: FEW + 1]:
        visit = pace.wait_for_slot(channel)
        if visit is None:
            return
        started = channel.clock.now()
        answer, outcome = ask(channel, visit, partial(channel.client.batch, batch.remote_id))
        call = Call.made("status", started, outcome, answer)
        channel.persist(call.write, channel, batch)
        status = read_status(answer) if answer and not outcome else None
        if status and status.remote_id == batch.remote_id:
            del waiting[batch.remote_id]
            channel.persist(settle_status, channel, batch, status)
        elif answer and answer.status == 404 and _is_forgotten(channel, batch):
            del waiting[batch.remote_id]
            channel.persist(_fail_forgotten, channel, batch)
        else:
            batch.message = f"The last look brought nothing: {getattr(outcome, 'message', 'not readable')}"


def _fail_forgotten(channel: Channel, batch: OutboxBatch) -> None:
    with transaction.atomic(using=channel.using):
        fail(channel, batch, {}, "Evermuse does not know the batch that it accepted")


def _is_forgotten(channel: Channel, batch: OutboxBatch) -> bool:
    accepted = batch.accepted_at or batch.sealed_at
    return batch.state == BatchState.ACCEPTED and channel.clock.now() - accepted > UNKNOWN_AFTER


def _ask_again(channel: Channel, waiting: dict[str, OutboxBatch]) -> None:
    """Those that nothing was learned of are asked about later, the longer the older they are."""
    rows = OutboxBatch.objects.using(channel.using)
    now = channel.clock.now()
    for batch in waiting.values():
        age = (now - (batch.accepted_at or batch.sealed_at)).total_seconds()
        later = channel.clock.after(poll_after(age, channel.settings.poll_interval))
        mine = rows.filter(pk=batch.pk, state=batch.state, next_poll_at__isnull=False)
        mine.update(next_poll_at=later, message=batch.message)
