"""Records by identity, and the lifecycle of batches."""

from __future__ import annotations

import gc
import json
import socket
from types import FrameType, FunctionType, ModuleType, TracebackType

import pytest

from evermuse_outbox.sandbox import Fault, api, store

from .conftest import BATCHES, INGEST, Client
from .published import MEETING, record

URL = "https://example.com/file"


def test_a_later_record_overwrites(sandbox, client):
    first = client.post([record(data={"version": 1})]).json()["batchId"]
    second = client.post([record(data={"version": 2})]).json()["batchId"]
    (stored,) = sandbox.records()
    assert stored.record["data"] == {"version": 2}
    assert (stored.times, stored.batch_ids) == (2, [first, second])


def test_in_one_request_the_last_record_wins(sandbox, client):
    client.post([record(data={"version": number}) for number in (1, 3, 2)])
    assert (sandbox.records()[0].record["data"], sandbox.records()[0].times) == ({"version": 2}, 3)


@pytest.mark.parametrize(
    "fields",
    [{"_event_at": "2026-02-24T12:34:56.999Z"}, {"_type": "MESSAGE"}, {"_product_id": "other"}],
)
def test_these_records_have_the_same_identity(sandbox, client, fields):
    client.post([record()])
    client.post([record(**fields)])
    (stored,) = sandbox.records()
    assert stored.record["_event_at"] == "2026-02-24T12:34:56Z"
    assert stored.record["_type"] == "message"
    assert stored.times == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"_event_at": "2026-02-24T12:34:57Z"},
        {"_type": "email"},
        {"_vendor_ids": {"id": "m-2"}},
        {"_vendor_ids": {"id": "m-1", "more": "1"}},
    ],
)
def test_these_records_have_another_identity(sandbox, client, fields):
    client.post([record()])
    client.post([record(**fields)])
    assert [stored.times for stored in sandbox.records()] == [1, 1]


def test_the_order_of_vendor_ids_does_not_matter(sandbox, client):
    client.post([record(_vendor_ids={"a": "1", "b": "2"})])
    client.post([record(_vendor_ids={"b": "2", "a": "1"})])
    assert sandbox.record("Message", {"b": "2", "a": "1"}, "2026-02-24T12:34:56.5Z").times == 2
    assert sandbox.record("email", {"b": "2", "a": "1"}, "2026-02-24T12:34:56Z") is None


def test_a_line_is_stored_byte_for_byte(sandbox, client):
    line = (
        b'  {"data":{"n":1.50, "n\\u0061me":"\xc3\xa9"},' + json.dumps(record(data=None)).encode()[1:] + b"\r"
    )
    assert client.post(line + b"\n", headers={"Content-Type": "application/x-ndjson"}).status_code == 202
    (stored,) = sandbox.records()
    assert stored.line == line
    assert stored.record["data"] == {"n": 1.5, "name": "é"}
    client.post([record()])
    assert (sandbox.records()[0].line, sandbox.records()[0].record) == (None, record())


def test_without_keep_records_only_counts_are_stored(serve):
    sandbox = serve(keep_records=False)
    Client(sandbox).post_lines([record()])
    (stored,) = sandbox.records()
    assert (stored.times, stored.line, stored.record) == (1, None, None)
    assert list(sandbox.arrivals[0].headers) == []


def reachable_from(root):
    """Yield every object that ``root`` keeps alive, but no code."""
    seen, waiting = set(), [root]
    while waiting:
        found = waiting.pop()
        if id(found) in seen or isinstance(found, type | ModuleType | FunctionType):
            continue
        seen.add(id(found))
        waiting += gc.get_referents(found)
        yield found


LONG = "x" * 50_000


@pytest.mark.parametrize("keep_records", [True, False])
def test_the_log_of_requests_keeps_no_body_and_no_record(serve, keep_records):
    sandbox = serve(keep_records=keep_records, rate_limit=12)
    client = Client(sandbox)
    wrong = [record(_type=LONG, _product_id=LONG, data={"text": LONG})]
    client.post([record(data={"text": LONG})])
    client.post(wrong)
    client.post([{**record(), "n": number} for number in range(1_000)])
    client.post(
        json.dumps([LONG]).encode()[:-1]
    )  # the cause of the refusal contains the text that is no JSON
    client.post(b"x" * 5_000_001)
    client.post([record()], headers={"Idempotency-Key": "y" * 10_000})
    for number in range(2):
        client.post([record(data={"text": LONG, "n": number})], headers={"Idempotency-Key": "used"})
    client.send("GET", f"{BATCHES}/{'z' * 8_000}")
    Client(sandbox, "unknown").post(wrong)
    for _ in range(6):
        client.post(wrong)  # the last one exceeds the rate limit
    assert {arrival.status for arrival in sandbox.arrivals} == {202, 400, 401, 404, 409, 413, 429}
    found = list(reachable_from(sandbox.arrivals))
    limit = 20_000 if keep_records else 2_000
    assert not [value for value in found if isinstance(value, str | bytes) and len(value) > limit]
    assert not [value for value in found if isinstance(value, BaseException | FrameType | TracebackType)]
    assert len(found) < 100 * len(sandbox.arrivals)


def test_a_request_whose_client_is_lost_keeps_no_headers(serve):
    sandbox = serve(keep_records=False)
    head = (
        f"POST {INGEST} HTTP/1.1\r\nHost: localhost\r\nx-api-key: {'k' * 9_000}\r\nContent-Length: 9\r\n\r\n"
    )
    with socket.create_connection((sandbox.host, sandbox.port), timeout=5) as connection:
        connection.sendall(head.encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    (arrival,) = sandbox.arrivals
    assert (list(arrival.headers), arrival.refusal) == ([], None)
    assert len(arrival.key) < 9_000


# --- The lifecycle of a batch ----------------------------------------------------------------------


def statuses(client, clock, batch_id, steps):
    """Advance the clock by each number of seconds and yield the status after it."""
    for seconds in steps:
        clock.advance(seconds)
        yield client.status(batch_id)


def test_the_status_depends_on_the_age_of_the_batch(serve, clock):
    client = Client(serve(batch_seconds=4))
    batch_id = client.post([record()]).json()["batchId"]
    progress = [
        status["status"]
        for status in statuses(client, clock, batch_id, [0, 0.99, 0.01, 1, 1.99, 0.01, 9_999])
    ]
    assert progress == ["LANDING", "LANDING", "LANDED", "PROCESSING", "PROCESSING", "COMPLETE", "COMPLETE"]
    assert "attachmentDownloadStatus" not in client.status(batch_id)


def test_with_zero_seconds_a_batch_is_complete_at_once(serve):
    client = Client(serve(batch_seconds=0))
    batch_id = client.post([record(_attachments=[{"type": "file", "vendor_url": URL}])]).json()["batchId"]
    status = client.status(batch_id)
    assert (status["status"], status["attachmentDownloadStatus"]) == ("COMPLETE", "COMPLETE")


def test_a_batch_can_fail(sandbox, client, clock):
    sandbox.fail_next(Fault.failed_batch())
    batch_id = client.post([record()]).json()["batchId"]
    progress = [status["status"] for status in statuses(client, clock, batch_id, [0, 0.5, 0.5, 1])]
    assert progress == ["LANDING", "LANDED", "PROCESSING", "FAILED"]
    assert sandbox.records() == []  # the records of a failed batch are not stored
    client.post([record()])
    assert sandbox.records()[0].times == 1


def record_with_attachments(*numbers):
    """Return a record with an attachment for each number."""
    return record(_attachments=[{"type": "file", "vendor_url": f"{URL}/{number}"} for number in numbers])


def test_downloads_continue_after_the_batch_is_complete(serve, clock):
    client = Client(serve(batch_seconds=4, attachment_seconds=9))
    batch_id = client.post([record_with_attachments(1, 2, 3, 4)]).json()["batchId"]
    progress = [
        (
            status["status"],
            status["attachmentDownloadStatus"],
            status["attachmentDownloadComplete"],
            status["attachmentDownloadFailed"],
            status["attachmentDownloadTotal"],
        )
        for status in statuses(client, clock, batch_id, [0, 1, 2, 1, 4.99, 0.01])
    ]
    assert progress == [
        ("LANDING", "PENDING", 0, 0, 4),
        ("LANDED", "IN_PROGRESS", 0, 0, 4),
        ("PROCESSING", "IN_PROGRESS", 1, 0, 4),
        ("COMPLETE", "IN_PROGRESS", 1, 0, 4),
        ("COMPLETE", "IN_PROGRESS", 3, 0, 4),
        ("COMPLETE", "COMPLETE", 4, 0, 4),
    ]


@pytest.mark.parametrize(
    ("failing", "expected"),
    [(1, ("PARTIAL_FAILURE", 2, 1)), (3, ("FAILED", 0, 3)), (9, ("FAILED", 0, 3))],
)
def test_downloads_can_fail(sandbox, client, clock, failing, expected):
    sandbox.fail_next(Fault.failed_attachments(failing))
    batch_id = client.post([record_with_attachments(1, 2, 3)]).json()["batchId"]
    clock.advance(3)
    status = client.status(batch_id)
    assert status["status"] == "COMPLETE"
    assert expected == (
        status["attachmentDownloadStatus"],
        status["attachmentDownloadComplete"],
        status["attachmentDownloadFailed"],
    )


def test_only_attachments_with_a_url_are_downloaded(openapi):
    uploaded = {**MEETING, "_attachments": [{"type": "file", "upload_intent_id": "u-1"}]}
    batch_id = openapi.post([MEETING, {**uploaded, "_vendor_ids": {"meeting_id": "2"}}]).json()["batchId"]
    assert openapi.status(batch_id)["attachmentDownloadTotal"] == 1


def test_the_oldest_batches_keys_and_records_are_forgotten(monkeypatch, client):
    monkeypatch.setattr(store, "MAX_BATCHES", 10)
    monkeypatch.setattr(store, "MAX_IDEMPOTENCY_KEYS", 10)
    monkeypatch.setattr(store, "MAX_RECORDS_KEPT", 10)
    for number in range(30):
        headers = {"Idempotency-Key": f"k{number}"}
        assert client.post([record(_vendor_ids={"id": f"r{number}"})], headers=headers).status_code == 202
    sandbox = client.sandbox
    assert [len(sandbox.batches()), len(sandbox.records())] == [10, 10]
    assert sandbox.records()[0].identity.vendor_ids == (("id", "r20"),)
    first = client.page(limit=4)
    client.post([record(_vendor_ids={"id": "new"})])
    second = client.page(limit=4, cursor=first["nextCursor"])
    listed = [batch["batchId"] for page in (first, second) for batch in page["batches"]]
    assert listed == [batch.id for batch in sandbox.batches()][-2:0:-1][:8]
    assert client.page(limit=100)["nextCursor"] is None


def test_the_oldest_requests_are_forgotten(monkeypatch, serve):
    monkeypatch.setattr(api, "MAX_ARRIVALS", 5)
    sandbox = serve()
    client = Client(sandbox)
    for number in range(8):
        client.send("GET", f"{BATCHES}/{number}")
    assert [arrival.path[-1] for arrival in sandbox.arrivals] == ["3", "4", "5", "6", "7"]
