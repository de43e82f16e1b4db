"""URLs of attachments are renewed before a batch is sent; if that fails, only the record concerned is affected."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils.module_loading import import_string

from evermuse_outbox.delivery.loop import relay, seal_next, send_next
from evermuse_outbox.delivery.loop.relay import Step
from evermuse_outbox.delivery.sending import renew_urls, renewal
from evermuse_outbox.delivery.sending.renewal import IMPORT_PAUSE
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxRecord
from evermuse_outbox.sandbox import Fault
from tests.delivery.helpers import batches, posts, sent_keys, state_of
from tests.records import enqueue, record

PATH = f"{__name__}.renew_url"
TTL = 300

calls: list[tuple[dict, dict]] = []
failing: dict[str, object] = {}
"""What the function does in place of its work, by the file's name: an exception, or the value that it returns."""


def renew_url(attachment, record):
    """Return a URL that shows how often this function was called."""
    calls.append((attachment, record))
    result = failing.get(attachment["filename"])
    if callable(result):
        failing.pop(attachment["filename"])()
        result = None
    if isinstance(result, Exception):
        raise result
    return result or f"https://storage.example/{attachment['filename']}?signature={len(calls)}"


@pytest.fixture
def renewing(context, sandbox, outbox_settings, reopen):
    """A context whose settings name the function above."""
    calls.clear()
    failing.clear()
    keys = {"API_URL": sandbox.url, "API_KEY": "em_sk_sandbox", "RENEW_URL": PATH, "RENEWED_URL_TTL": TTL}

    def use(**changes):
        outbox_settings(**(keys | changes))
        return reopen()

    return use


def attachment(name):
    return {"type": "file", "filename": name, "vendor_url": f"https://storage.example/{name}?signature=old"}


def enqueue_with_files(alias, *names):
    """Enqueue one record for each name, with a file of that name."""
    for name in names:
        enqueue(alias, name, _attachments=[attachment(name)])
    return list(OutboxRecord.rows.using(alias).order_by("-pk")[: len(names)])[::-1]


def urls(sandbox):
    """Return the URLs that the sandbox has, by file."""
    stored = [each.record for each in sandbox.records()]
    return {file["filename"]: file["vendor_url"] for each in stored for file in each.get("_attachments", ())}


def test_the_batch_is_sent_with_new_urls_and_all_other_bytes_unchanged(renewing, alias, sandbox):
    context = renewing()
    plain, *_ = enqueue(alias, "plain", data={"number": 1.50, "text": "ä\u2028"})
    a, _ = enqueue_with_files(alias, "a", "b")
    before = a.payload
    relay(context, 60)
    assert urls(sandbox) == {
        "a": "https://storage.example/a?signature=1",
        "b": "https://storage.example/b?signature=2",
    }
    (batch,) = batches(alias)
    a.refresh_from_db()
    assert a.payload == before.replace("signature=old", "signature=1")
    assert a.size == len(a.payload.encode())
    assert (batch.state, batch.record_count, batch.urls_renewed_at) == (
        BatchState.ACCEPTED,
        3,
        context.clock.now(),
    )
    assert [given["filename"] for given, _ in calls] == ["a", "b"]
    assert calls[0][1] == json.loads(before)
    assert state_of(plain) == "in_flight"


def test_a_batch_without_attachments_needs_no_further_statement(renewing, alias, sandbox):
    counts = []
    for path in (None, None, PATH):  # the first batch also creates the row of the workspace
        context = renewing(RENEW_URL=path)
        enqueue(alias, len(counts))
        with CaptureQueriesContext(connections[alias]) as captured:
            relay(context, 60)
        counts.append(len(captured))
    assert counts[1] == counts[2]
    assert (calls, len(posts(sandbox))) == ([], 3)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (PermissionError("no such bucket"), "PermissionError: no such bucket"),
        ("storage/file", "Not an absolute URI"),
        (5, "Not text"),
        ("https://x.example/" + "x" * 3_000, "Too many characters"),
    ],
    ids=["exception", "relative", "number", "long"],
)
def test_if_the_function_fails_only_that_record_is_rejected(renewing, alias, sandbox, result, reason):
    context = renewing()
    failing["bad"] = result
    good, bad, other = enqueue_with_files(alias, "good", "bad", "other")
    relay(context, 60)
    assert set(urls(sandbox)) == {"good", "other"}
    assert [state_of(row) for row in (good, bad, other)] == ["in_flight", "rejected", "in_flight"]
    rejection = bad.rejections.get()
    assert rejection.code == "URL_NOT_RENEWED"
    assert reason in rejection.message
    assert re.search(r"[^.]\. Nothing of the record was sent\.$", rejection.message)
    first, second = batches(alias)
    assert (first.state, first.message) == (BatchState.SPLIT, "RENEW_URL gave no URL for 1 of its records.")
    assert (second.state, second.record_count) == (BatchState.ACCEPTED, 2)
    assert len(calls) == 3  # the parts of the batch keep their new URLs
    assert len(posts(sandbox)) == 1


def test_a_retry_of_the_rejected_record_calls_the_function_again(renewing, alias, sandbox):
    context = renewing()
    failing["a"] = OSError("down")
    (row,) = enqueue_with_files(alias, "a")
    relay(context, 60)
    assert (state_of(row), posts(sandbox)) == ("rejected", [])
    failing.clear()
    OutboxRecord.rows.using(alias).reopen([row.pk])
    relay(context, 60)
    assert (state_of(row), urls(sandbox)) == ("in_flight", {"a": "https://storage.example/a?signature=2"})


def test_a_batch_that_evermuse_refused_to_take_gets_new_urls_only_after_a_while(
    renewing, alias, sandbox, clock
):
    context = renewing(BACKOFF_CAP=10)
    enqueue_with_files(alias, "a")
    sandbox.fail_next(Fault(status=418))
    sandbox.fail_next(Fault(status=418))
    relay(context, 1)
    clock.move(20)
    relay(context, 1)
    clock.move(TTL)
    relay(context, 60)
    keys = sent_keys(sandbox)
    assert keys[0] == keys[1] != keys[2]
    assert len(calls) == 2
    assert urls(sandbox) == {"a": "https://storage.example/a?signature=2"}


def test_a_batch_in_doubt_keeps_its_bytes_and_key(renewing, alias, sandbox, clock):
    context = renewing(BACKOFF_CAP=10)
    enqueue_with_files(alias, "a")
    sandbox.fail_next(Fault.drop_before())
    relay(context, 1)
    clock.move(2 * TTL)
    relay(context, 60)
    first, second = sent_keys(sandbox)
    assert first == second
    assert len(calls) == 1


def test_a_request_that_becomes_too_large_is_divided(renewing, alias, sandbox):
    context = renewing(MAX_BATCH_BYTES=2_000)
    for name in ("a", "b"):
        failing[name] = f"https://storage.example/{name}?{'x' * 1_000}"
    enqueue_with_files(alias, "a", "b")
    relay(context, 60)
    assert [arrival.size < 2_000 for arrival in posts(sandbox)] == [True, True]
    assert set(urls(sandbox)) == {"a", "b"}
    assert batches(alias)[0].message == "With the new URLs of its attachments, the request was too large."
    assert len(calls) == 2


def test_the_connection_is_released_before_each_call(renewing, alias, sandbox, monkeypatch):
    context = renewing()
    released = []
    monkeypatch.setattr(renewal, "release_connections", lambda: released.append(len(calls)))
    enqueue_with_files(alias, "a", "b")
    relay(context, 60)
    assert (released, len(calls)) == ([0, 1], 2)


def test_many_slow_calls_do_not_outlast_the_lease(renewing, alias, sandbox, clock):
    context = renewing()
    for name in ("a", "b", "c", "d"):
        failing[name] = lambda: clock.move(context.settings.lease * 0.4)
    enqueue_with_files(alias, "a", "b", "c", "d")
    relay(context, 600)
    assert len(urls(sandbox)) == 4
    assert len(calls) == 4


def test_a_call_that_outlasts_the_lease_changes_nothing(renewing, alias, sandbox, clock):
    context = renewing()
    (row,) = enqueue_with_files(alias, "a")
    sealed = seal_next(context)

    def lose_lease():
        clock.move(context.settings.lease + 1)
        rows = OutboxBatch.objects.using(alias)
        rows.filter(pk=sealed.batch.pk).update(leased_until=clock.now() - timedelta(seconds=1))
        rows.mark_in_doubt(rows.get())

    failing["a"] = lose_lease
    assert renew_urls(context, sealed) is None
    before = row.payload
    row.refresh_from_db()
    assert row.payload == before
    assert batches(alias)[0].key == sealed.batch.key


def test_a_line_that_was_altered_meanwhile_is_not_sent(renewing, alias, sandbox):
    context = renewing()

    def alter():
        rows = OutboxRecord.rows.using(alias).filter(payload__contains="Hello other")
        rows.update(payload=rows.get().payload.replace("Hello other", "Hello 0ther"))

    failing["a"] = alter
    a, other = enqueue_with_files(alias, "a", "other")
    failing["other"] = None
    relay(context, 60)
    assert (state_of(a), state_of(other)) == ("in_flight", "rejected")
    assert other.rejections.get().code == "NOT_SENDABLE"
    assert set(urls(sandbox)) == {"a"}


@pytest.mark.parametrize(
    "path", ["tests.no_such_module.renew_url", "tests.delivery.sending.broken.renew_url"]
)
def test_while_the_function_cannot_be_imported_only_batches_with_attachments_wait(
    renewing, alias, sandbox, clock, monkeypatch, caplog, path
):
    monkeypatch.setattr(renewal, "import_string", import_or_raise)
    context = renewing(RENEW_URL=path)
    (row,) = enqueue_with_files(alias, "a")
    assert send_next(context) is Step.RESEALED
    (batch,) = batches(alias)
    assert (batch.state, batch.in_doubt) == (BatchState.SEALED, False)
    assert "RENEW_URL" in batch.message
    assert "RENEW_URL" in caplog.text
    (plain,) = enqueue(alias, "plain")
    relay(context, 60)
    assert (state_of(plain), state_of(row), len(posts(sandbox))) == ("in_flight", "in_flight", 1)
    context = renewing()
    clock.move(IMPORT_PAUSE)
    relay(context, 60)
    assert urls(sandbox) == {"a": "https://storage.example/a?signature=1"}


def import_or_raise(path):
    """Import as Django does, and raise what the module of a host may raise."""
    if "broken" in path:
        raise KeyError("AWS_SECRET")
    return import_string(path)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, SoftTimeLimitExceeded])
def test_a_run_that_ends_during_the_call_gives_the_batch_back(renewing, alias, sandbox, stop):
    context = renewing()

    def end():
        raise stop

    failing["a"] = end
    (row,) = enqueue_with_files(alias, "a")
    with pytest.raises(stop):
        send_next(context)
    (batch,) = batches(alias)
    assert (batch.state, batch.in_doubt, row.rejections.count()) == (BatchState.SEALED, False, 0)
    relay(context, 60)
    assert urls(sandbox) == {"a": "https://storage.example/a?signature=2"}


def test_an_attachment_without_a_url_is_left_alone(renewing, alias, sandbox):
    context = renewing()
    upload = {"type": "file", "filename": "a", "upload_intent_id": "intent-1"}
    enqueue(alias, 1, _attachments=[upload, attachment("b")])
    relay(context, 60)
    (stored,) = sandbox.records()
    assert stored.record["_attachments"][0] == record(_attachments=[upload])["_attachments"][0]
    assert [given["filename"] for given, _ in calls] == ["b"]
