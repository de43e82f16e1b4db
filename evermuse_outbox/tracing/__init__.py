"""Traces for OpenTelemetry: a span for each sealing, request and settling, and the trace of each enqueue.

This package must not put a payload, a key or the text of an answer into a span, and it must cost nothing without
OpenTelemetry. Its public interface is ``span`` and ``start_span``, ``describe_batch`` for the attributes of a span,
``current_traceparent``, and the classes and the limit that their callers need.
"""

from .spans import (
    MAX_LINKS,
    SpanContext,
    TraceSpan,
    current_traceparent,
    describe_batch,
    span,
    start_span,
)

__all__ = [
    "MAX_LINKS",
    "SpanContext",
    "TraceSpan",
    "current_traceparent",
    "describe_batch",
    "span",
    "start_span",
]
