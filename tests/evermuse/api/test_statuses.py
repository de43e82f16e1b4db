"""The answers to reads: what is unreadable is left out, and the rest is kept."""

from __future__ import annotations

import json

import pytest

from evermuse_outbox.evermuse.api import Answer, Page, Status, read_page, read_status

GOOD = {"batchId": "b1", "acceptedCount": 2, "rejectedCount": 1, "totalErrorCount": 1}


def answer(status, body):
    return Answer(status, json.dumps(body).encode(), 0.1)


def status_created_at(milliseconds):
    return Status("b1", "COMPLETE", 1, 0, 0, (), created_at=milliseconds)


def test_an_unreadable_batch_is_left_out_of_a_page():
    status = GOOD | {"status": "COMPLETE", "createdAt": 1709282096000}
    page = read_page(answer(200, {"batches": [None, status, {}], "nextCursor": "c"}))
    assert [status.remote_id for status in page.statuses] == ["b1"]
    assert page.next_cursor == "c"


@pytest.mark.parametrize(
    "created",
    [10**400, -(10**400), float("nan"), float("inf"), True, "now", -1, {}],
    ids=lambda value: str(value)[:12],
)
def test_a_creation_time_that_is_no_timestamp_is_left_out(created):
    page = read_page(answer(200, {"batches": [GOOD | {"status": "COMPLETE", "createdAt": created}]}))
    assert page.statuses[0].created_at is None


def test_a_page_is_read_up_to_its_maximum_length():
    status = GOOD | {"status": "COMPLETE"}
    page = read_page(answer(200, {"batches": [status] * 5_000, "nextCursor": None}))
    assert len(page.statuses) == 100


@pytest.mark.parametrize(("status", "is_over"), [("COMPLETE", True), ("FAILED", True), ("PROCESSING", False)])
def test_a_batch_is_over_once_it_is_complete_or_failed(status, is_over):
    assert read_status(answer(200, GOOD | {"status": status})).is_over == is_over


@pytest.mark.parametrize(("created_at", "reaches"), [(999_000, True), (1_000_000, False), (None, False)])
def test_a_page_reaches_a_time_with_a_batch_from_before_it(created_at, reaches):
    assert Page((status_created_at(created_at),), None).reaches(1_000) == reaches


def test_attachment_counts_that_are_no_numbers_are_left_out():
    fields = GOOD | {"status": "COMPLETE", "attachmentDownloadTotal": "2", "attachmentDownloadComplete": 1}
    status = read_status(answer(200, fields))
    assert (status.attachment_total, status.attachment_complete, status.attachment_failed) == (None, 1, None)


@pytest.mark.parametrize("cursor", ["", "x" * 257, 7, None])
def test_a_cursor_that_cannot_be_used_ends_the_listing(cursor):
    assert read_page(answer(200, {"batches": [], "nextCursor": cursor})).next_cursor is None
