"""Spans of the path of a batch: seal, send, settle. ``evermuse_outbox/tracing`` explains traces."""

from __future__ import annotations

from dataclasses import replace

from ...evermuse.api import Accepted, Outcome
from ...models import OutboxRecord
from ...tracing import MAX_LINKS, TraceSpan, describe_batch, span
from ..context import Attempt, DeliveryContext, isolate_database_errors
from ..sealing import SealedBatch
from ..sending import post
from ..settling import settle


def end_seal_span(context: DeliveryContext, seal_span: TraceSpan, sealed: SealedBatch) -> SealedBatch:
    """End the span of a sealing, with links to the enqueues. Return the batch with this span as its trace."""
    if seal_span.is_recording:
        seal_span.set(**describe_batch(context.using, sealed.batch))
        with isolate_database_errors(str(context.queue_key)):
            seal_span.link_to(context.run_with_retries(_read_traces, context, sealed))
    seal_span.end()
    return replace(sealed, trace=seal_span.context)


def post_in_span(context: DeliveryContext, sealed: SealedBatch, permit: str) -> tuple[Outcome, Attempt]:
    """POST the batch in a span of its own."""
    attributes = describe_batch(context.using, sealed.batch)
    with span("send", attributes, parent=sealed.trace, is_request=True) as send_span:
        outcome, attempt = post(context, sealed, permit)
        send_span.set(outcome=attempt.outcome)
        send_span.set_http_status(attempt.status)
        if not isinstance(outcome, Accepted):
            send_span.fail()
    return outcome, attempt


def settle_in_span(
    context: DeliveryContext, sealed: SealedBatch, outcome: Outcome, attempt: Attempt, *, failures: int
) -> None:
    """Settle the outcome in a span of its own."""
    attributes = describe_batch(context.using, sealed.batch) | {"outcome": attempt.outcome}
    with span("settle", attributes, parent=sealed.trace):
        settle(context, sealed, outcome, attempt, failures=failures)


def _read_traces(context: DeliveryContext, sealed: SealedBatch) -> list[str]:
    rows = OutboxRecord.rows.using(context.using).filter(batch=sealed.batch, trace_context__isnull=False)
    traces = rows.order_by().values_list("trace_context", flat=True).distinct()
    return [trace for trace in traces[:MAX_LINKS] if trace]
