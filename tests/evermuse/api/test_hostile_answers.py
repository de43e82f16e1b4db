"""Raw bytes from a socket instead of an HTTP answer: only the documented outcomes come out, with clean texts."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import socket
import threading

import pytest

from evermuse_outbox.evermuse import Unanswered, Unreachable
from evermuse_outbox.evermuse.api import (
    Client,
    classify_read,
    classify_send,
    classify_transport_error,
    read_page,
    read_retry_after,
    read_status,
)
from evermuse_outbox.foreign_text import is_clean
from tests.foreign_text.samples import KEY

ODD = (
    b"\0",
    b"\n",
    b"\x1b[31m",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\x9b",
    KEY.encode(),
    b": ",
    b"\r",
    b"\xe2\x80\xae",
    b"'\"",
)

ODD_TEXTS = ("\0", "\ud800", "\n\r", "\x1b]0;x\x07", "\u202e", KEY, "x" * 5_000, "", "\x85", "COMPLETE")


FIELDS = (
    "error",
    "message",
    "retryAfter",
    "details",
    "errors",
    "batchId",
    "acceptedCount",
    "rejectedCount",
    "totalErrorCount",
    "status",
    "type",
    "batches",
    "nextCursor",
    "createdAt",
    "attachmentDownloadStatus",
)


def odd_bytes(rng, count=6):
    return b"".join(rng.choice((*ODD, b"abc", b"17")) for _ in range(rng.randrange(count)))


def odd_value(rng, depth=0):
    simple = [
        *ODD_TEXTS,
        None,
        True,
        -1,
        0,
        3,
        2**31,
        2**70,
        1.5,
        float("nan"),
        float("inf"),
        10**400,
        [],
        {},
    ]
    if depth < 2 and rng.random() < 0.3:
        return rng.choice([[odd_value(rng, depth + 1)], {rng.choice(ODD_TEXTS): odd_value(rng, depth + 1)}])
    return rng.choice(simple)


def odd_json(rng):
    fields = {name: odd_value(rng) for name in rng.sample(FIELDS, rng.randrange(len(FIELDS)))}
    if rng.random() < 0.4:
        fields |= {"error": rng.choice(ODD_TEXTS), "message": rng.choice(ODD_TEXTS)}
    counts = {"acceptedCount": 1, "rejectedCount": 0, "totalErrorCount": 1}
    if rng.random() < 0.4:
        fields |= counts | {"batchId": rng.choice([*ODD_TEXTS, "batch-1"]), "status": rng.choice(ODD_TEXTS)}
    if rng.random() < 0.4:
        entry = {"index": 0, "code": rng.choice(ODD_TEXTS), "message": rng.choice(ODD_TEXTS)}
        fields |= {rng.choice(["errors", "details"]): [entry, odd_value(rng)]}
    if rng.random() < 0.3:
        fields = {"batches": [fields, odd_value(rng)], "nextCursor": rng.choice(ODD_TEXTS)}
    text = json.dumps(fields)
    return text.encode() if rng.random() < 0.8 else text.encode()[: rng.randrange(len(text) + 1)]


def odd_answer(rng):
    """Return the raw bytes of an answer: broken in its status line, its headers, its framing or its JSON."""
    status = rng.choice([200, 202, 400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 503, 100, 304])
    line = f"HTTP/1.1 {status} ".encode() + odd_bytes(rng, 3).replace(b"\n", b"") + b"\r\n"
    body = odd_json(rng)
    length = f"Content-Length: {len(body)}\r\n".encode()
    chunked = b"Transfer-Encoding: chunked\r\n"
    return rng.choice(
        [
            line + length + b"\r\n" + body,
            line + length + b"\r\n" + body,
            line + length + b"\r\n" + body,
            line + b"\r\n" + body,
            odd_bytes(rng) + b"\r\n\r\n" + body,
            b"HTTP/1.1 " + odd_bytes(rng) + b"\r\n" + length + b"\r\n" + body,
            line + b"X-" + odd_bytes(rng) + b": " + odd_bytes(rng) + b"\r\n" + length + b"\r\n" + body,
            line + b"X-Folded: a\r\n  b\x1b\r\n\tc\r\n" + length + b"\r\n" + body,
            line + b"X-Huge: " + b"a" * rng.choice([60_000, 70_000, 200_000]) + b"\r\n\r\n",
            line + b"X: y\r\n" * 300 + b"\r\n",
            line + f"Content-Length: {rng.choice([-1, 10**30, 10_000, 0])}\r\n\r\n".encode() + body,
            line + b"Content-Length: " + odd_bytes(rng) + b"\r\n\r\n" + body,
            line + chunked + b"\r\n" + b"5\r\nab",
            line + chunked + b"\r\n" + odd_bytes(rng) + b"\r\n" + body,
            line + chunked + b"\r\n" + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n",
            line + b"Location: http://" + odd_bytes(rng) + b"\r\n\r\n",
            line + b"Set-Cookie: " + odd_bytes(rng) + b"\r\n" + length + b"\r\n" + body,
            b"",
        ]
    )


@contextlib.contextmanager
def raw_server():
    """Answer each connection with the last bytes of a list. Yield the address and the list."""
    answers = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(10)
                    connection.recv(65_536)
                    connection.sendall(answers[-1])
                    connection.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", answers
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(15)


def texts_of(value):
    """Return every text in a value of the API package."""
    if isinstance(value, str):
        return [value]
    if dataclasses.is_dataclass(value):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    return [text for item in value for text in texts_of(item)] if isinstance(value, list | tuple) else []


@pytest.mark.parametrize("seed", range(3))
def test_only_documented_outcomes_come_out(seed):
    rng = random.Random(seed)
    outcomes = set()
    with raw_server() as (url, answers):
        for _ in range(150):
            answers[:] = [odd_answer(rng)]
            client = Client(url, lambda: KEY, 5)
            call = rng.choice(
                [
                    lambda client=client: client.ingest(
                        b"{}\n", content_type="application/x-ndjson", key="k"
                    ),
                    lambda client=client: client.batch("batch-1"),
                    lambda client=client: client.batches(limit=100),
                ]
            )
            try:
                answer = call()
            except (Unreachable, Unanswered) as error:
                results = [classify_transport_error(error)]
            else:
                results = [
                    classify_send(answer, 1),
                    classify_read(answer),
                    read_status(answer),
                    read_page(answer),
                ]
                read_retry_after(answer)
            finally:
                client.close()
            outcomes |= {type(result).__name__ for result in results}
            for text in texts_of(results):
                assert is_clean(text), text
                assert KEY[6:14] not in text
    assert {"InDoubt", "Unavailable", "Refused", "KeyRefused", "Throttled"} <= outcomes
