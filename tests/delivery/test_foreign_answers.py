"""Answers that a table could refuse or that forge a line of a log: each is settled, and no log shows its text."""

from __future__ import annotations

import dataclasses
import json
import logging
import random

import pytest

from evermuse_outbox.delivery.loop import send_next
from evermuse_outbox.evermuse.api import Client
from evermuse_outbox.foreign_text import hide_secret
from evermuse_outbox.models import OutboxAttempt, OutboxBatch, OutboxGroup, OutboxRejection, OutboxWorkspace
from tests.evermuse.api.test_hostile_answers import odd_answer, raw_server
from tests.foreign_text.samples import KEY, is_printable_line
from tests.records import enqueue

PAYLOAD = "the-payload-of-a-customer"

ODD = f"a\0b\ud800c\x1b[31m\nWARNING forged\x85\u202e {PAYLOAD} {KEY}"
ODD_BYTES = b"a\0b\xff\x1b[31m WARNING \x85 " + f"{PAYLOAD} {KEY}".encode()


def http(status, **fields):
    body = json.dumps(fields).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


ANSWERS = {
    "status line": ODD_BYTES + b"\r\n\r\n",
    "header": b"HTTP/1.1 500 X\r\n" + ODD_BYTES + b"\r\n\r\n" + ODD_BYTES,
    "length": b"HTTP/1.1 202 X\r\nContent-Length: " + ODD_BYTES + b"\r\n\r\n{}",
    "chunk": b"HTTP/1.1 202 X\r\nTransfer-Encoding: chunked\r\n\r\n" + ODD_BYTES + b"\r\n",
    "html": b"HTTP/1.1 502 X\r\n\r\n<html>" + ODD_BYTES,
    "refused": http(400, error=ODD, message=ODD, errors=[{"index": 0, "code": ODD, "message": ODD}]),
    "refused without names": http(400, error=ODD, message=ODD),
    "key": http(401, error=ODD, message=ODD),
    "no right": http(403, error="FORBIDDEN", message=ODD),
    "throttled": http(429, error=ODD, message=ODD, retryAfter=2),
    "too large": http(413, error=ODD, message=ODD),
    "server error": http(500, error=ODD, message=ODD),
    "id": http(202, batchId=ODD, acceptedCount=1, rejectedCount=0, totalErrorCount=0, errors=[]),
}


def stored_texts(alias):
    models = (OutboxAttempt, OutboxBatch, OutboxGroup, OutboxRejection, OutboxWorkspace)
    rows = [row for model in models for row in model.objects.using(alias).values()]
    return [str(value) for row in rows for value in row.values()]


def check(alias, caplog):
    for text in stored_texts(alias):
        assert is_printable_line(text.replace("\n", ""))
        assert KEY[6:14] not in text
    for record in caplog.records:
        line = logging.Formatter().format(record)
        assert is_printable_line(record.getMessage())
        assert PAYLOAD not in line
        assert "forged" not in line
        assert KEY[6:14] not in line


def send_with(context, raw):
    """Send the next batch to a server that answers with these bytes."""
    with raw_server() as (url, answers):
        answers[:] = [raw]
        client = Client(url, lambda: KEY, 5)
        try:
            send_next(dataclasses.replace(context, client=client))
        finally:
            client.close()


@pytest.mark.parametrize("name", ANSWERS)
def test_each_answer_is_settled_and_no_log_shows_its_text(alias, context, caplog, name):
    caplog.set_level(logging.DEBUG, "evermuse_outbox")
    enqueue(alias, name)
    send_with(context, ANSWERS[name])
    attempt = OutboxAttempt.objects.using(alias).get()
    batch = OutboxBatch.objects.using(alias).latest("pk")
    assert attempt.outcome != "accepted"
    assert batch.state != "sending"
    check(alias, caplog)


def test_any_bytes_are_settled(alias, context, clock, caplog):
    hide_secret(KEY)
    rng = random.Random(11)
    for number in range(25):
        enqueue(alias, f"record-{number}")
        send_with(context, odd_answer(rng))
        clock.move(100_000)
    assert OutboxAttempt.objects.using(alias).count() >= 20
    assert not OutboxBatch.objects.using(alias).filter(state="sending").exists()
    check(alias, caplog)
