"""Poll accepted batches: one read of a listing page covers up to a hundred of them.

A poll takes these steps: claim the read → choose a batch → acquire a permit → GET its listing page → apply the statuses
→ plan the next read. A batch that the listing does not show is polled alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction

from ...evermuse.api import KeyRefused, Page, Status, Throttled
from ...foreign_text import describe_error
from ...models import BatchState, OutboxBatch, OutboxWorkspace, remember_full_listing
from ...tracing import describe_batch, span
from ..context import DeliveryContext, typical_completion_time
from ..gates import acquire_permit, has_other_key, key_for_read, resume_workspace, workspace_circuit
from ..scheduling import has_work
from ..settling import apply_status, apply_statuses, fail_accepted_batch
from .choice import choose_batch
from .history import ListingUnreadable, walk_listing
from .listing_pages import NEWEST_PAGE, ListingPage, PolledBatch, move_missing, postpone, set_cursor
from .read_budget import ReadRun, claim_read, is_read_due
from .reads import Listing, get_listing, get_status

MIN_AGE_TO_FORGET = timedelta(minutes=15)
"""A 404 counts only for a batch that was accepted longer ago. Before that, Evermuse may not show it yet."""

FORGOTTEN_AFTER = timedelta(minutes=5)
"""Time between two 404 answers before a batch counts as forgotten. A single 404 may be an error of one server."""


LISTING_MARGIN = timedelta(hours=1)
"""How far the clock of Evermuse may be behind if the listing is searched for a batch by its time."""

UNKNOWN = "Evermuse answered 404: it does not know this batch"


def poll_due_batch(context: DeliveryContext) -> int:
    """Make one read about accepted batches that are due, and apply the statuses that it brings.

    Return how many due batches the read was about; 0 if none is due or no read is allowed now.
    """
    if not has_due_poll(context):
        return 0
    with workspace_circuit(context, is_read=True) as circuit:
        if not circuit.allows_requests:
            return 0
        with claim_read(context) as run:  # the end of this block plans the next read
            batch = choose_batch(context, run) if run else None
            keyed = key_for_read(context, circuit, batch.api_key) if batch else None
            same_key = (
                {"api_key": batch.api_key} if batch and context.pool and not circuit.keys.lists_all else {}
            )
            polled = _read_and_apply(keyed, run, batch, same_key) if run and batch and keyed else 0
        # If records wait to be sent, a send is the better probe: a read does not show that Evermuse takes records.
        if circuit.probe_until and run and run.reported and not has_work(context):
            context.run_with_retries(resume_workspace, context, by_send=False)
        return polled
    return 0  # the throttle backend did not answer


def has_due_poll(context: DeliveryContext) -> bool:
    """Return whether a batch is due to be polled and the next read is allowed now."""
    due = OutboxBatch.objects.using(context.using).poll_due(context.workspace_name, context.clock.now())
    return context.run_with_retries(due.exists) and is_read_due(context)


def _read_and_apply(
    context: DeliveryContext, run: ReadRun, batch: OutboxBatch, same_key: dict[str, str | None]
) -> int:
    """Read the batch with its listing page, or alone if no other polled batch is on it. Return how many were due.

    ``same_key`` is a filter for the batches that were sent with the same key: the listing of a key may show only these.
    """
    page = ListingPage.load(context, batch.listing_cursor, same_key)
    if page.cursor is None or len(page.batches) <= 1:
        return int(_read_alone(context, run, batch))
    return _read_page(context, run, page, batch)


# --- a listing page -----------------------------------------------------------------------------------


def _read_page(context: DeliveryContext, run: ReadRun, page: ListingPage, batch: OutboxBatch) -> int:
    """Read the page and apply it; if it cannot be read, poll ``batch`` alone. Return how many batches were due."""
    due = page.count_due(context.clock.now())
    permit = acquire_permit(context)
    if permit is None:
        return 0
    run.requests += 1
    listing = get_listing(context, permit, page.cursor or None)
    if listing.page:
        _apply_page(context, run, page, listing.page)
    else:
        _do_without_listing(context, run, page, listing, batch)
    return due


def _apply_page(context: DeliveryContext, run: ReadRun, page: ListingPage, answer: Page) -> None:
    """Apply the statuses of all polled batches in the answer, and move the batches that it does not show."""
    statuses = {status.remote_id: status for status in answer.statuses}
    rows = OutboxBatch.objects.using(context.using).filter(
        workspace=context.workspace_name, remote_id__in=list(statuses)
    )
    shown = context.run_with_retries(list, rows)
    # A batch without a key is of an earlier version, and perhaps was sent with the key of this listing.
    is_of_pool = context.pool and not page.has_all_keys
    if is_of_pool and any(batch.api_key and has_other_key(context, batch) for batch in shown):
        rows_of_workspaces = OutboxWorkspace.objects.using(context.using)
        context.run_with_retries(remember_full_listing, rows_of_workspaces, context.workspace_name)
    reported = [(batch, statuses[batch.remote_id]) for batch in shown if batch.next_poll_at]
    run.reported += len(reported)
    run.typical_seconds = _learn_completion_time(run.typical_seconds, reported, answer, context.clock.now())
    attributes = {"database": context.using, "workspace": context.workspace_name, "batches": len(reported)}
    with span("settle", attributes):
        apply_statuses(context, reported)
    move_missing(context, page, answer, shown)


def _learn_completion_time(
    previous: float, reported: Iterable[tuple[OutboxBatch, Status]], answer: Page, now: datetime
) -> float:
    """Return how many seconds Evermuse typically needs for a batch, corrected by this page."""
    ages: dict[bool, list[float]] = {True: [], False: []}
    for batch, status in reported:
        if batch.state == BatchState.ACCEPTED:
            ages[status.is_over].append(batch.seconds_since_accepted(now))
    return typical_completion_time(
        previous, ages[True], ages[False], any(status.is_over for status in answer.statuses)
    )


def _do_without_listing(
    context: DeliveryContext, run: ReadRun, page: ListingPage, listing: Listing, batch: OutboxBatch
) -> None:
    """Postpone the batches of a page that could not be read, and poll one of them alone.

    So each batch reaches its end even if the listing never works. If the cursor was refused, expect the batches on the
    newest page again.
    """
    if listing.is_refused and page.cursor != NEWEST_PAGE:
        set_cursor(context, page.batches, NEWEST_PAGE)
    can_poll_alone = not isinstance(listing.error, KeyRefused | Throttled)
    others = [other for other in page.batches if not (can_poll_alone and other.pk == batch.pk)]
    postpone(context, others, message=_failure_message(listing.error))
    if can_poll_alone:
        _read_alone(context, run, batch)


# --- one batch ----------------------------------------------------------------------------------------


def _read_alone(context: DeliveryContext, run: ReadRun, batch: OutboxBatch) -> bool:
    """Poll one batch. Return False if no permit was free in time."""
    permit = acquire_permit(context)
    if permit is None:
        return False
    run.requests += 1
    answer = get_status(context, permit, batch)
    if answer.status:
        run.reported += 1
        attributes = describe_batch(context.using, batch) | {"outcome": answer.status.status}
        with span("settle", attributes):
            context.run_with_retries(apply_status, context, batch, answer.status)
    elif answer.is_unknown:
        run.reported += 1
        _handle_unknown(context, batch)
    else:
        postpone(context, [PolledBatch.of(batch)], message=_failure_message(answer.error))
    return True


def _handle_unknown(context: DeliveryContext, batch: OutboxBatch) -> None:
    """Handle a 404 of Evermuse: the batch is forgotten after the second one, if the listing does not show it."""
    now = context.clock.now()
    if batch.unknown_since is None:
        postpone(context, [PolledBatch.of(batch)], message=UNKNOWN, unknown_since=now)
        return
    is_old = timedelta(seconds=batch.seconds_since_accepted(now)) > MIN_AGE_TO_FORGET
    if not is_old or now - batch.unknown_since < FORGOTTEN_AFTER:
        postpone(context, [PolledBatch.of(batch)], message=UNKNOWN)
        return
    try:
        status = _find_in_listing(context, batch)
    except ListingUnreadable as error:
        postpone(
            context,
            [PolledBatch.of(batch)],
            message=f"{UNKNOWN}, and the listing cannot be read: {describe_error(error)}",
        )
        return
    if status:
        context.run_with_retries(apply_status, context, batch, status)
    else:
        context.run_with_retries(_end_forgotten, context, batch)


def _find_in_listing(context: DeliveryContext, batch: OutboxBatch) -> Status | None:
    since = (batch.accepted_at or batch.sealed_at) - LISTING_MARGIN
    for page in walk_listing(context, since):
        for status in page.statuses:
            if status.remote_id == batch.remote_id:
                return status
    return None


def _end_forgotten(context: DeliveryContext, batch: OutboxBatch) -> None:
    """Send the records of a forgotten batch again. If it was complete already, only stop polling its attachments."""
    if batch.state == BatchState.COMPLETE:
        rows = OutboxBatch.objects.using(context.using)
        rows.filter(pk=batch.pk).stop_polling(UNKNOWN)
        return
    with transaction.atomic(using=context.using):
        fail_accepted_batch(context, batch, "Evermuse does not know the batch that it accepted")


def _failure_message(error: object) -> str:
    return f"The last poll failed: {getattr(error, 'message', 'the answer is not readable')}"
