"""GET requests to Evermuse. Each needs a permit and is logged as an attempt, and a failed read changes no batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ...evermuse import Unanswered, Unreachable, limits
from ...evermuse.api import (
    Answer,
    InDoubt,
    KeyRefused,
    Outcome,
    Page,
    Status,
    Throttled,
    classify_read,
    classify_transport_error,
    read_error_envelope,
    read_page,
    read_status,
)
from ...models import OutboxBatch
from ...tracing import describe_batch, span
from ..context import Attempt, DeliveryContext
from ..gates import block_for_retry_after, call_with_permit, pause_workspace


class Listing(NamedTuple):
    """A page of the listing, or the error that came instead.

    ``is_refused`` is true for an answer that says nothing about the API key. The cursor may be the cause.
    """

    page: Page | None
    error: Outcome | None
    is_refused: bool = False


class SingleStatus(NamedTuple):
    """The status of one batch, or the error that came instead. Both are None if the answer is not readable.

    ``is_unknown`` is true if Evermuse answered 404. The 404 of a proxy says nothing about the batch.
    """

    status: Status | None
    error: Outcome | None
    is_unknown: bool = False


def get_listing(context: DeliveryContext, permit: str, cursor: str | None) -> Listing:
    """GET the page of batches behind ``cursor``; None for the newest page."""
    request = partial(context.client.batches, limit=limits.MAX_LISTING, cursor=cursor)
    answer, error = _get(context, permit, "listing", request)
    page = read_page(answer) if answer and not error else None
    if page is None and error is None:
        error = InDoubt("the listing cannot be read")
    is_refused = bool(answer and error and not isinstance(error, KeyRefused | Throttled))
    return Listing(page, error, is_refused)


def get_status(context: DeliveryContext, permit: str, batch: OutboxBatch) -> SingleStatus:
    """GET the status of one batch."""
    answer, error = _get(context, permit, "status", partial(context.client.batch, batch.remote_id), batch)
    status = read_status(answer) if answer and not error else None
    if status and status.remote_id != batch.remote_id:
        status = None
    return SingleStatus(status, error, is_unknown=answer is not None and _is_not_found(answer))


def _is_not_found(answer: Answer) -> bool:
    return answer.status == 404 and read_error_envelope(answer) is not None


def _get(
    context: DeliveryContext,
    permit: str,
    call: str,
    request: Callable[[], Answer],
    batch: OutboxBatch | None = None,
) -> tuple[Answer | None, Outcome | None]:
    """Make the request and log it. Return the answer, and the error if it is not a 200."""
    started_at = context.clock.now()
    attributes = describe_batch(context.using, batch) if batch else {}
    attributes |= {"database": context.using, "workspace": context.workspace_name, "call": call}
    with span("poll", attributes, is_request=True) as poll_span:
        answer, error = send_request(context, permit, request)
        attempt = Attempt.of(call, started_at, error, answer)
        poll_span.set(outcome=attempt.outcome)
        poll_span.set_http_status(attempt.status)
        if error:
            poll_span.fail()
    context.run_with_retries(attempt.save, context, batch)
    return answer, error


def send_request(
    context: DeliveryContext, permit: str, request: Callable[[], Answer]
) -> tuple[Answer | None, Outcome | None]:
    """Make one GET request. A 401 or 429 blocks the workspace, because it concerns the key and so also the sends.

    Other errors do not: ``settle`` decides what a failed send means, and a failed read harms no record.
    """
    try:
        answer = call_with_permit(context, permit, request, is_send=False)
    except (Unreachable, Unanswered) as error:
        return None, classify_transport_error(error)
    outcome = classify_read(answer)
    match outcome:
        case Throttled(seconds, message):
            context.run_with_retries(block_for_retry_after, context, seconds, message)
        case KeyRefused(401, message):
            context.run_with_retries(pause_workspace, context, message)
    return answer, outcome
