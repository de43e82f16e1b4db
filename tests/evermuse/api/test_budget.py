"""The memory for hostile answers: a bound for the process, and a bound for what JSON becomes."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import tracemalloc

import pytest

from evermuse_outbox.evermuse import Unanswered
from evermuse_outbox.evermuse.api import budget, read_page
from evermuse_outbox.evermuse.api.answers import MAX_VALUES, Answer, parse_object

from .routes import ROUTES, ingest
from .test_client import server

pytestmark = pytest.mark.long

LARGE = b"x" * (budget.SMALL_ANSWER + 1)


def reply(body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.fixture
def few_places(monkeypatch):
    """Leave two places."""
    monkeypatch.setattr(budget, "_places", threading.BoundedSemaphore(2))


def answer_with(body, timeout=5.0):
    with server(reply(body), route=ROUTES[0], timeout=timeout) as (client, _):
        return ingest(client)


def test_large_answers_share_the_places_of_the_process(few_places):
    kept = [answer_with(LARGE), answer_with(LARGE)]
    with pytest.raises(Unanswered):
        answer_with(LARGE, timeout=0.4)
    assert len(answer_with(b"x" * budget.SMALL_ANSWER).body) == budget.SMALL_ANSWER
    kept.pop()
    gc.collect()
    assert len(answer_with(LARGE).body) == len(LARGE)


def test_a_place_is_given_back_after_an_incomplete_answer(few_places):
    incomplete = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + LARGE
    for _ in range(4):
        with server(incomplete) as (client, _), pytest.raises(Unanswered):
            ingest(client)
        gc.collect()
    assert len(answer_with(LARGE).body) == len(LARGE)


SIZE = 4_000_000
HOSTILE = {
    "lists": b'{"a":[' + b"[]," * (SIZE // 3) + b"0]}",
    "objects": b'{"a":[' + b'{"":0},' * (SIZE // 7) + b"0]}",
    "numbers": b'{"a":[' + b"1.5," * (SIZE // 4) + b"0]}",
    "keys": b"{" + b",".join(b'"%d":0' % number for number in range(SIZE // 12)) + b"}",
    "deep": b'{"a":' + b"[" * SIZE,
    "text without end": b'{"a":["' + b'\\"' * (SIZE // 2) + b"," * MAX_VALUES,
    "utf-16": ('{"a":[' + "[]," * (SIZE // 6) + "0]}").encode("utf-16"),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_answer_does_not_grow_in_memory(body):
    tracemalloc.start()
    try:
        assert parse_object(body) is None
        assert tracemalloc.get_traced_memory()[1] < 5 * SIZE
    finally:
        tracemalloc.stop()


def test_the_largest_documented_answer_is_read():
    error = {"index": 999, "code": "VALIDATION_ERROR", "message": '[{",\\' * 409}
    entry = {
        "batchId": "b" * 60,
        "status": "COMPLETE",
        "type": "feedback",
        "recordCount": 1000,
        "acceptedCount": 980,
        "rejectedCount": 20,
        "totalErrorCount": 20,
        "errors": [error] * 20,
        "createdAt": "2026-01-01T00:00:00Z",
    }
    body = json.dumps({"batches": [entry] * 100, "nextCursor": None}).encode()
    assert body.count(b",") > MAX_VALUES
    page = read_page(Answer(200, body, 1.0))
    assert len(page.statuses) == 100


def test_a_process_with_many_senders_stays_small():
    """Without the bounds, it grows by about 1,900 MB."""
    command = [sys.executable, "-m", "tests.evermuse.api.many_large_answers", "16"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert int(result.stdout) < 400
