"""Records by identity, and the life of batches."""

from __future__ import annotations

import json

import pytest

from evermuse_outbox.sandbox import Fault

from .conftest import Client
from .published import MEETING, record

URL = "https://example.com/file"


def test_a_later_arrival_overwrites(sandbox, client):
    first = client.post([record(data={"version": 1})]).json()["batchId"]
    second = client.post([record(data={"version": 2})]).json()["batchId"]
    (stored,) = sandbox.records()
    assert stored.record["data"] == {"version": 2}
    assert (stored.times, stored.batch_ids) == (2, [first, second])


def test_within_one_request_the_last_wins(sandbox, client):
    client.post([record(data={"version": number}) for number in (1, 3, 2)])
    assert (sandbox.records()[0].record["data"], sandbox.records()[0].times) == ({"version": 2}, 3)


@pytest.mark.parametrize(
    "fields",
    [{"_event_at": "2026-02-24T12:34:56.999Z"}, {"_type": "MESSAGE"}, {"_product_id": "other"}],
)
def test_the_same_identity(sandbox, client, fields):
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
def test_another_identity(sandbox, client, fields):
    client.post([record()])
    client.post([record(**fields)])
    assert [stored.times for stored in sandbox.records()] == [1, 1]


def test_the_order_of_vendor_ids_is_no_difference(sandbox, client):
    client.post([record(_vendor_ids={"a": "1", "b": "2"})])
    client.post([record(_vendor_ids={"b": "2", "a": "1"})])
    assert sandbox.record("Message", {"b": "2", "a": "1"}, "2026-02-24T12:34:56.5Z").times == 2
    assert sandbox.record("email", {"b": "2", "a": "1"}, "2026-02-24T12:34:56Z") is None


def test_a_line_is_kept_as_it_came(sandbox, client):
    line = (
        b'  {"data":{"n":1.50, "n\\u0061me":"\xc3\xa9"},' + json.dumps(record(data=None)).encode()[1:] + b"\r"
    )
    assert client.post(line + b"\n", headers={"Content-Type": "application/x-ndjson"}).status_code == 202
    (stored,) = sandbox.records()
    assert stored.line == line
    assert stored.record["data"] == {"n": 1.5, "name": "é"}
    client.post([record()])
    assert (sandbox.records()[0].line, sandbox.records()[0].record) == (None, record())


def test_a_long_run_keeps_counts_only(serve):
    sandbox = serve(keep_records=False)
    Client(sandbox).post_lines([record()])
    (stored,) = sandbox.records()
    assert (stored.times, stored.line, stored.record) == (1, None, None)
    assert list(sandbox.arrivals[0].headers) == []


# --- the life of a batch ----------------------------------------------------------------------


def walk(client, clock, batch_id, steps):
    """The status after each of these many seconds."""
    for seconds in steps:
        clock.pass_(seconds)
        yield client.status(batch_id)


def test_a_batch_lives_by_its_age(serve, clock):
    client = Client(serve(batch_seconds=4))
    batch_id = client.post([record()]).json()["batchId"]
    seen = [
        status["status"] for status in walk(client, clock, batch_id, [0, 0.99, 0.01, 1, 1.99, 0.01, 9_999])
    ]
    assert seen == ["LANDING", "LANDING", "LANDED", "PROCESSING", "PROCESSING", "COMPLETE", "COMPLETE"]
    assert "attachmentDownloadStatus" not in client.status(batch_id)


def test_a_batch_can_be_complete_at_once(serve):
    client = Client(serve(batch_seconds=0))
    batch_id = client.post([record(_attachments=[{"type": "file", "vendor_url": URL}])]).json()["batchId"]
    status = client.status(batch_id)
    assert (status["status"], status["attachmentDownloadStatus"]) == ("COMPLETE", "COMPLETE")


def test_a_batch_can_fail(sandbox, client, clock):
    sandbox.fail_next(Fault.failed_batch())
    batch_id = client.post([record()]).json()["batchId"]
    seen = [status["status"] for status in walk(client, clock, batch_id, [0, 0.5, 0.5, 1])]
    assert seen == ["LANDING", "LANDED", "PROCESSING", "FAILED"]
    assert sandbox.records() == []  # what failed never reached the lake
    client.post([record()])
    assert sandbox.records()[0].times == 1


def attached(*urls):
    return record(_attachments=[{"type": "file", "vendor_url": f"{URL}/{number}"} for number in urls])


def test_attachments_go_on_after_the_batch(serve, clock):
    client = Client(serve(batch_seconds=4, attachment_seconds=9))
    batch_id = client.post([attached(1, 2, 3, 4)]).json()["batchId"]
    seen = [
        (
            status["status"],
            status["attachmentDownloadStatus"],
            status["attachmentDownloadComplete"],
            status["attachmentDownloadFailed"],
            status["attachmentDownloadTotal"],
        )
        for status in walk(client, clock, batch_id, [0, 1, 2, 1, 4.99, 0.01])
    ]
    assert seen == [
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
def test_attachments_can_fail(sandbox, client, clock, failing, expected):
    sandbox.fail_next(Fault.failed_attachments(failing))
    batch_id = client.post([attached(1, 2, 3)]).json()["batchId"]
    clock.pass_(3)
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
