"""Traces with OpenTelemetry's SDK: spans of a real delivery, links to the enqueues, and nothing without the package."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from django.db import DatabaseError, connections
from django.test.utils import CaptureQueriesContext
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import relay, traces
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.models import insert as package
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.tracing import spans as tracing
from tests.delivery.helpers import batches, deliver
from tests.records import enqueue, record

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def tracer(monkeypatch, exporter):
    """A tracer of the host, which the outbox uses, too. It exports into memory."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("host")
    monkeypatch.setattr(tracing, "_tracer", lambda: tracer)
    return tracer


@pytest.fixture
def spans(tracer, exporter):
    """Return a function that returns the ended spans of a name, in order."""

    def ended(name):
        return [span for span in exporter.get_finished_spans() if span.name == f"evermuse_outbox.{name}"]

    return ended


@pytest.fixture
def without_the_package(monkeypatch):
    monkeypatch.setattr(tracing, "trace", None)


def trace_of(span):
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def stored_traces(alias):
    return list(OutboxRecord.rows.using(alias).order_by("pk").values_list("trace_context", flat=True))


def common(alias, batch):
    return {
        "evermuse_outbox.database": alias,
        "evermuse_outbox.workspace": "default",
        "evermuse_outbox.batch_id": batch.pk,
        "evermuse_outbox.type": "message",
        "evermuse_outbox.records": batch.record_count,
        "evermuse_outbox.bytes": batch.byte_count,
    }


# --- enqueue ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["SQL", "ORM"])
def test_the_active_trace_is_stored_with_the_record(alias, tracer, monkeypatch, implementation):
    if implementation == "ORM":
        monkeypatch.setattr(package, "SQL", {})
    with tracer.start_as_current_span("request") as request:
        row = outbox.enqueue(record(1), using=alias)
        outbox.enqueue_many([record(2), record(3)], using=alias)
    outbox.enqueue(record(4), using=alias)
    outbox.enqueue_many([record(5)], using=alias)
    expected = trace_of(request)
    assert row.trace_context == expected
    assert len(expected) == tracing.TRACEPARENT_LENGTH
    assert stored_traces(alias) == [expected, expected, expected, None, None]
    first, second, *_ = OutboxRecord.rows.using(alias).order_by("pk")
    assert json.loads(second.payload)["_vendor_ids"] == {"message_id": "msg-2"}
    assert (first.size, first.workspace) == (row.size, "default")


def test_without_an_active_trace_the_statements_are_as_before(alias, tracer):
    with CaptureQueriesContext(connections[alias]) as captured:
        outbox.enqueue(record(1), using=alias)
        outbox.enqueue_many([record(2)], using=alias)
    assert not [query for query in captured if "trace_context" in query["sql"]]


# --- the spans of a delivery --------------------------------------------------------------------------


def test_a_delivery_makes_a_span_of_each_step(context, alias, clock, spans):
    enqueue(alias, 1, 2)
    deliver(context, clock)
    (batch,) = batches(alias)
    (seal,), (send,) = spans("seal"), spans("send")
    assert seal.attributes == common(alias, batch)
    accepted = {"evermuse_outbox.outcome": "accepted"}
    assert send.attributes == common(alias, batch) | accepted | {"http.response.status_code": 202}
    (poll,), (of_post, of_poll) = spans("poll"), spans("settle")
    assert of_post.attributes == common(alias, batch) | accepted
    assert of_poll.attributes == common(alias, batch) | {"evermuse_outbox.outcome": "COMPLETE"}
    assert poll.attributes["http.response.status_code"] == 200
    assert {span.parent.span_id for span in (send, of_post)} == {seal.get_span_context().span_id}
    assert {span.status.status_code for span in (seal, send, of_post, poll, of_poll)} == {StatusCode.UNSET}


def test_a_listing_page_is_one_span_for_all_its_batches(context, alias, clock, spans):
    for number in range(3):
        enqueue(alias, number, _product_id=f"prod-{number}")
    deliver(context, clock)
    (poll,) = spans("poll")
    assert poll.attributes["evermuse_outbox.call"] == "listing"
    assert spans("settle")[-1].attributes["evermuse_outbox.batches"] == 3


def test_the_sealing_links_to_the_traces_of_the_enqueues(context, alias, tracer, spans):
    expected = set()
    for number in range(3):
        with tracer.start_as_current_span("request") as request:
            outbox.enqueue_many([record(f"{number}a"), record(f"{number}b")], using=alias)
            expected.add(trace_of(request))
    outbox.enqueue(record("without a trace"), using=alias)
    relay(context, 1)
    (seal,) = spans("seal")
    assert {trace_of_context(link.context) for link in seal.links} == expected
    assert len(seal.links) == 3


def trace_of_context(context):
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def test_the_number_of_links_is_bounded(context, alias, spans):
    rows = enqueue(alias, *range(40))
    for number, row in enumerate(rows, 1):
        OutboxRecord.rows.using(alias).filter(pk=row.pk).update(
            trace_context=f"00-{number:032x}-{number:016x}-01"
        )
    relay(context, 1)
    (seal,) = spans("seal")
    assert len(seal.links) == tracing.MAX_LINKS == 32


def test_a_failure_marks_the_span_and_a_batch_that_is_sent_again_has_no_seal_span(
    context, alias, sandbox, clock, spans
):
    enqueue(alias, 1)
    sandbox.fail_next(Fault.server_error())
    relay(context, 1)
    clock.move(context.settings.backoff_cap)
    relay(context, 1)
    assert len(spans("seal")) == 1
    failed, accepted = spans("send")
    assert failed.attributes["evermuse_outbox.outcome"] == "in_doubt"
    assert failed.attributes["http.response.status_code"] == 500
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, None)
    assert accepted.status.status_code is StatusCode.UNSET
    assert accepted.parent is None


def test_a_span_has_no_key_and_no_payload(context, alias, spans, exporter):
    enqueue(alias, 1, _product_id="prod-secret", data={"text": "private words"})
    relay(context, 1)
    (batch,) = batches(alias)
    exported = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert not [text for text in (batch.key, "private words", "em_sk_", "msg-1") if text in exported]


def test_without_pending_records_there_is_no_span(context, spans, exporter):
    relay(context, 1)
    assert exporter.get_finished_spans() == ()


def test_links_that_cannot_be_read_do_not_stop_the_delivery(context, alias, spans, monkeypatch):
    def fail(*args):
        raise DatabaseError("deadlock")

    monkeypatch.setattr(traces, "_read_traces", fail)
    enqueue(alias, 1)
    relay(context, 1)
    assert [batch.state for batch in batches(alias)] == ["accepted"]
    assert len(spans("seal")) == 1


# --- the module ---------------------------------------------------------------------------------------


def test_an_exception_marks_the_span_without_its_text(tracer, exporter):
    with pytest.raises(ZeroDivisionError), tracing.span("send", {"batch_id": 1}):
        1 / 0  # noqa: B018
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.events, span.status.description) == ((), None)


@pytest.mark.parametrize(
    "traceparent", ["", "00-xyz", TRACEPARENT + "0", TRACEPARENT.upper(), "00-" + "0" * 32 + TRACEPARENT[35:]]
)
def test_a_stored_trace_that_is_not_valid_is_no_link(tracer, exporter, traceparent):
    span = tracing.start_span("seal")
    span.link_to([traceparent, TRACEPARENT])
    span.end()
    (ended,) = exporter.get_finished_spans()
    assert [trace_of_context(link.context) for link in ended.links] == [TRACEPARENT]


def test_without_the_package_everything_is_delivered(without_the_package, context, alias, clock):
    (row,) = enqueue(alias, 1)
    deliver(context, clock)
    row.refresh_from_db()
    assert (row.state, row.trace_context) == ("delivered", None)


def test_without_the_package_a_span_does_nothing(without_the_package):
    assert tracing.current_traceparent() is None
    with tracing.span("send", {"batch_id": 1}) as span:
        span.set(outcome="accepted")
        span.set_http_status(202)
        span.link_to([TRACEPARENT])
        span.fail()
    started = tracing.start_span("seal")
    started.end()
    assert started is tracing.NO_SPAN
    assert (started.is_recording, started.context) == (False, None)


def test_the_module_imports_without_the_package():
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from evermuse_outbox.tracing import spans; print(spans.trace)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "None\n"
