"""POST a sealed batch and classify its answer."""

from __future__ import annotations

from functools import partial

from ...evermuse import Unanswered, Unreachable
from ...evermuse.api import Outcome, classify_send, classify_transport_error
from ..context import Attempt, DeliveryContext
from ..gates import call_with_permit
from ..sealing import SealedBatch


def post(context: DeliveryContext, sealed: SealedBatch, permit: str) -> tuple[Outcome, Attempt]:
    """POST a leased batch under its idempotency key. Return the outcome and the attempt to log.

    No transaction is open during the request.
    """
    batch = sealed.batch
    request = partial(
        context.client.ingest,
        sealed.body,
        content_type=sealed.content_type,
        key=batch.key,
        format_hint=batch.format_hint,
    )
    started_at, answer = context.clock.now(), None
    try:
        answer = call_with_permit(context, permit, request, is_send=True)
        outcome = classify_send(answer, len(sealed.members))
    except (Unreachable, Unanswered) as error:
        outcome = classify_transport_error(error)
    return outcome, Attempt.of("ingest", started_at, outcome, answer)
