"""Spans of OpenTelemetry. Without its API package, nothing is traced.

Install the extra ``opentelemetry`` and configure an SDK in the host. A span names its batch by id and has no payload
and no API key. The trace that is active at an enqueue is stored with the record, and the span of the sealing links to
it. ``docs/how-to/monitor.md`` lists the spans and their attributes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from ..version import VERSION

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.trace import Span
else:
    try:
        from opentelemetry import trace
    except ImportError:
        trace = None

MAX_LINKS = 32
"""Links of one span. The records of a batch may come from a thousand traces."""

TRACEPARENT_LENGTH = 55
"""Characters of a ``traceparent``. Source: W3C Trace Context, version 00."""

PREFIX = "evermuse_outbox."

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

SpanContext: TypeAlias = "trace.SpanContext | None"
"""Identifies a span that another one belongs to, although it is not the active one. It may have ended."""


def current_traceparent() -> str | None:
    """Return the active span as W3C ``traceparent``; None if no span is active."""
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


class TraceSpan:
    """A span that may not exist. Every method is safe to call without the package, and then does nothing."""

    __slots__ = ("_span",)

    def __init__(self, span: Span | None) -> None:
        self._span = span

    @property
    def is_recording(self) -> bool:
        """Whether attributes and links are kept. If not, do not read them from the database."""
        return self._span is not None and self._span.is_recording()

    @property
    def context(self) -> SpanContext:
        """This span as the parent of later ones, also after its end; None without an SDK."""
        context = self._span.get_span_context() if self._span else None
        return context if context and context.is_valid else None

    def set(self, **attributes: Any) -> None:
        """Set attributes; those that are None are left out. The name gets the prefix ``evermuse_outbox.``."""
        if self._span and self.is_recording:
            self._span.set_attributes(_prefixed(attributes))

    def set_http_status(self, status: int | None) -> None:
        """Set the status of the answer under the name of OpenTelemetry's conventions."""
        if self._span and status is not None:
            self._span.set_attribute("http.response.status_code", status)

    def link_to(self, traceparents: Iterable[str]) -> None:
        """Link to the spans that were active when records were enqueued; up to ``MAX_LINKS`` of them."""
        if self._span is None:
            return
        for traceparent, _ in zip(traceparents, range(MAX_LINKS), strict=False):
            if context := _read_traceparent(traceparent):
                self._span.add_link(context)

    def fail(self) -> None:
        """Mark the span as failed."""
        if self._span:
            self._span.set_status(trace.StatusCode.ERROR)

    def end(self) -> None:
        """End the span. A span that is not ended is never exported."""
        if self._span:
            self._span.end()


NO_SPAN = TraceSpan(None)


def start_span(name: str) -> TraceSpan:
    """Start a span that does not become the active one. Call ``end`` if its work is worth a span."""
    return TraceSpan(_tracer().start_span(PREFIX + name)) if trace else NO_SPAN


@contextmanager
def span(
    name: str, attributes: Mapping[str, Any], *, parent: SpanContext = None, is_request: bool = False
) -> Iterator[TraceSpan]:
    """Make a span active inside of the block. An exception marks it as failed, without its text.

    Args:
        name: what is done; the name of the span gets the prefix ``evermuse_outbox.``.
        attributes: as for :meth:`TraceSpan.set`.
        parent: the span that this one belongs to; by default the active one.
        is_request: whether the block makes an HTTP request.
    """
    if trace is None:
        yield NO_SPAN
        return
    context = trace.set_span_in_context(trace.NonRecordingSpan(parent)) if parent else None
    with _tracer().start_as_current_span(
        PREFIX + name,
        context=context,
        kind=trace.SpanKind.CLIENT if is_request else trace.SpanKind.INTERNAL,
        attributes=_prefixed(attributes),
        record_exception=False,  # the text of an exception may contain payload
        set_status_on_exception=False,
    ) as active:
        traced = TraceSpan(active)
        try:
            yield traced
        except BaseException:
            traced.fail()
            raise


def describe_batch(using: str, batch: Any) -> dict[str, Any]:
    """Return the attributes of a span that is about one batch."""
    return {
        "database": using,
        "workspace": batch.workspace,
        "batch_id": batch.pk,
        "type": batch.type,
        "records": batch.record_count,
        "bytes": batch.byte_count,
    }


def _tracer() -> trace.Tracer:
    return trace.get_tracer("evermuse_outbox", VERSION)


def _prefixed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {PREFIX + name: value for name, value in attributes.items() if value is not None}


def _read_traceparent(traceparent: str) -> SpanContext:
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in match.groups())
    context = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(flags))
    return context if context.is_valid else None
