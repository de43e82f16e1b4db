"""POST a sealed batch and tell what its answer means."""

from __future__ import annotations

from functools import partial

from ...evermuse.errors import Unanswered, Unreachable
from ...evermuse.outcomes import Outcome, of_error, of_ingest
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
        outcome = of_ingest(answer, len(sealed.members))
    except (Unreachable, Unanswered) as error:
        outcome = of_error(error)
    return outcome, Attempt.of("ingest", started_at, outcome, answer)
