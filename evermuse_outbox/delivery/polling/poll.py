"""Tracking: accepted batches are followed until Evermuse is done with them.

Reads count against the same limit as sends (see :mod:`.budget`), so one page of the listing stands for a hundred
batches, wherever they are in it (see :mod:`.stretches`). Only what it does not show is asked for one by one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from django.db import transaction

from ...evermuse.api import KeyRefused, Page, Status, Throttled, read_status
from ...models import (
    BatchQuerySet,
    BatchState,
    OutboxBatch,
)
from ..context import Attempt, DeliveryContext, typical_completion_time
from ..gates import (
    acquire_permit,
    resume_workspace,
    workspace_circuit,
)
from ..scheduling import has_work
from ..settling import age_of, apply_status, apply_statuses, fail
from . import read_budget as budget
from .listing_pages import (
    NEWEST,
    Member,
    Stretch,
    ask_later,
    move,
    place_missing,
)
from .read_budget import Reading
from .reads import Listing, ask, read_listing

COMPANY = timedelta(seconds=2)
"""How long the first poll waits for others while there is something to send: one page tells of them all."""

MANY = 100
"""With more open batches than this, they are asked about when Evermuse usually is done with them."""

RIPE = 1.05
"""… and a little later, so that their neighbours are done as well."""

CROWD = 90
"""So many batches that no page was read for yet are worth a look at the newest page, which has room for a hundred.
Those that it was read for in vain are not, or a listing that lags behind would keep all others from being read."""

OVERDUE = (10.0, 120.0)
"""Seconds after which a batch is asked about at the least and at the most, though Evermuse is hardly done with it: half
of the time that it usually takes."""

UNKNOWN_AFTER = timedelta(minutes=15)
"""How long Evermuse may answer 404 for a batch that it accepted before that counts as FAILED."""


def poll_due_batch(context: DeliveryContext) -> int:
    """Makes one read about accepted batches that are due, and settles what is said.

    Returns how many it was about; 0 where none is due, or it is not time for a read.
    """
    if not has_due_poll(context):
        return 0
    with workspace_circuit(context) as circuit:
        if not circuit.allows_requests:
            return 0
        with budget.reading(context) as reading:
            batch = _next(context, reading) if reading else None
            asked = _read(context, reading, batch) if reading and batch else 0
        # Where something waits to be sent, sending it tells more of the key and of the API.
        if circuit.probe_until and reading and reading.told and not has_work(context):
            context.run_with_retries(resume_workspace, context, by_send=False)
        return asked
    return 0


def has_due_poll(context: DeliveryContext) -> bool:
    """Whether any accepted batch is due to be asked about, and it is time for a read."""
    due = OutboxBatch.objects.using(context.using).poll_due(context.workspace_name, context.clock.now())
    return context.run_with_retries(due.exists) and budget.may_read(context)


def _next(context: DeliveryContext, reading: Reading) -> OutboxBatch | None:
    """The batch that is asked about next, with all that stand near it in the listing."""
    rows, now = OutboxBatch.objects.using(context.using), context.clock.now()
    due = rows.poll_due(context.workspace_name, now - COMPANY if reading.is_busy else now)
    if len(budget.open_batches(context, MANY + 1)) <= MANY:
        return context.run_with_retries(due.first)
    unseen = rows.on_listing_page(context.workspace_name, NEWEST).filter(remote_status="", polls=0)
    if len(crowd := context.run_with_retries(list, unseen[:CROWD])) == CROWD:
        return crowd[0]
    overdue = timedelta(seconds=min(max(reading.usual / 2, OVERDUE[0]), OVERDUE[1]))
    ripe = due.filter(accepted_at__lte=now - timedelta(seconds=RIPE * reading.usual))
    return _most_telling(context, ripe) or _most_telling(
        context, rows.poll_due(context.workspace_name, now - overdue)
    )


def _most_telling(context: DeliveryContext, due: BatchQuerySet) -> OutboxBatch | None:
    """One that a page tells of together with a hundred others, or one that must be asked about alone where that has
    waited a hundred times as long."""
    alone = context.run_with_retries(due.filter(listing_cursor__isnull=True).first)
    listed = context.run_with_retries(due.filter(listing_cursor__isnull=False).first)
    if not (alone and listed):
        return alone or listed
    now = context.clock.now()
    waited, listed_waited = now - (alone.next_poll_at or now), now - (listed.next_poll_at or now)
    return alone if waited > MANY * listed_waited else listed


def _read(context: DeliveryContext, reading: Reading, batch: OutboxBatch) -> int:
    """One page about the stretch of that batch, or the batch alone. Returns how many due ones it was about."""
    stretch = Stretch.of(context, batch.listing_cursor)
    if stretch.cursor is None or len(stretch.members) <= 1:
        return int(_read_one(context, reading, batch))
    due = len(stretch.due(context.clock.now()))
    listing = read_listing(context, stretch.cursor or None)
    if listing is None:
        return 0
    reading.reads += 1
    if listing.page:
        _settle(context, reading, stretch, listing.page)
    else:
        _do_without(context, reading, stretch, listing, batch)
    return due


def _settle(context: DeliveryContext, reading: Reading, stretch: Stretch, page: Page) -> None:
    """All followed batches of the page, also those that are not due; and the stretch moves on behind it."""
    told = {status.remote_id: status for status in page.statuses}
    rows = OutboxBatch.objects.using(context.using).filter(
        workspace=context.workspace_name, remote_id__in=list(told)
    )
    shown = context.run_with_retries(list, rows)
    followed = [(batch, told[batch.remote_id]) for batch in shown if batch.next_poll_at]
    reading.told += len(followed)
    reading.ended += sum(batch.state == BatchState.ACCEPTED and status.is_over for batch, status in followed)
    reading.usual = _learn(reading.usual, followed, page, context.clock.now())
    apply_statuses(context, followed)
    place_missing(context, stretch, page, shown)


def _learn(usual: float, followed: list[tuple[OutboxBatch, Status]], page: Page, now: datetime) -> float:
    """How long Evermuse takes for a batch, after this page."""
    ages: dict[bool, list[float]] = {True: [], False: []}
    for batch, status in followed:
        if batch.state == BatchState.ACCEPTED:
            ages[status.is_over].append(age_of(batch, now))
    return typical_completion_time(
        usual, ages[True], ages[False], any(status.is_over for status in page.statuses)
    )


def _do_without(
    context: DeliveryContext, reading: Reading, stretch: Stretch, listing: Listing, batch: OutboxBatch
) -> None:
    """The page could not be had. A cursor that is not taken is given up; and one batch is asked about alone, so that
    all come to their end without any listing."""
    if listing.is_refused and stretch.cursor != NEWEST:
        move(context, stretch.members, NEWEST)
    asks_alone = not isinstance(listing.trouble, KeyRefused | Throttled)
    others = [member for member in stretch.members if not (asks_alone and member.pk == batch.pk)]
    ask_later(context, others, message=_in_vain(listing.trouble))
    if asks_alone:
        _read_one(context, reading, batch)


def _read_one(context: DeliveryContext, reading: Reading, batch: OutboxBatch) -> bool:
    """Asks about one batch alone. False where no slot is soon."""
    permit = acquire_permit(context)
    if permit is None:
        return False
    reading.reads += 1
    started = context.clock.now()
    answer, outcome = ask(context, permit, partial(context.client.batch, batch.remote_id))
    attempt = Attempt.of("status", started, outcome, answer)
    context.run_with_retries(attempt.save, context, batch)
    status = read_status(answer) if answer and not outcome else None
    if status and status.remote_id == batch.remote_id:
        reading.told += 1
        context.run_with_retries(apply_status, context, batch, status)
    elif answer and answer.status == 404 and _is_forgotten(context, batch):
        reading.told += 1
        context.run_with_retries(_fail_forgotten, context, batch)
    else:
        ask_later(context, [Member.of(batch)], message=_in_vain(outcome))
    return True


def _in_vain(outcome: object) -> str:
    return f"The last look brought nothing: {getattr(outcome, 'message', 'not readable')}"


def _fail_forgotten(context: DeliveryContext, batch: OutboxBatch) -> None:
    with transaction.atomic(using=context.using):
        fail(context, batch, {}, "Evermuse does not know the batch that it accepted")


def _is_forgotten(context: DeliveryContext, batch: OutboxBatch) -> bool:
    accepted = batch.accepted_at or batch.sealed_at
    return batch.state == BatchState.ACCEPTED and context.clock.now() - accepted > UNKNOWN_AFTER
