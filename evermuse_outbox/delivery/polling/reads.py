"""Questions to Evermuse: paced and told in an attempt like every other request, and harmless when they fail."""

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
    Throttled,
    classify_failed_read,
    classify_transport_error,
    read_page,
)
from ..context import Attempt, DeliveryContext
from ..gates import (
    acquire_permit,
    block_for_retry_after,
    call_with_permit,
    pause_workspace,
)


class Listing(NamedTuple):
    """A page of the listing, or the trouble that came in its place. ``is_refused`` where that is an answer which says
    nothing of the key: the cursor may be to blame."""

    page: Page | None
    trouble: Outcome | None
    is_refused: bool = False


def read_listing(context: DeliveryContext, cursor: str | None) -> Listing | None:
    """The page behind ``cursor``, the newest batches first; None where no slot is soon."""
    permit = acquire_permit(context)
    if permit is None:
        return None
    started = context.clock.now()
    answer, trouble = ask(
        context, permit, partial(context.client.batches, limit=limits.MAX_LISTING, cursor=cursor)
    )
    attempt = Attempt.of("listing", started, trouble, answer)
    context.run_with_retries(attempt.save, context, None)
    page = read_page(answer) if answer and not trouble else None
    trouble = trouble if page or trouble else InDoubt("the listing cannot be read")
    is_refused = bool(answer and trouble and not isinstance(trouble, KeyRefused | Throttled))
    return Listing(page, trouble, is_refused)


def ask(
    context: DeliveryContext, permit: str, request: Callable[[], Answer]
) -> tuple[Answer | None, Outcome | None]:
    """One read. Only what concerns the key holds an open workspace: a failed read costs no record anything."""
    try:
        answer = call_with_permit(context, permit, request, is_send=False)
    except (Unreachable, Unanswered) as error:
        return None, classify_transport_error(error)
    outcome = classify_failed_read(answer)
    # What a send came to is decided in settle; a read can only tell something of the key.
    match outcome:
        case Throttled(seconds, message):
            context.run_with_retries(block_for_retry_after, context, seconds, message)
        case KeyRefused(401, message):
            context.run_with_retries(pause_workspace, context, message)
    return answer, outcome
