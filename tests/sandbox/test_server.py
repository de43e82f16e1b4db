"""HTTP itself: connections, bodies of every shape, and what is no HTTP at all."""

from __future__ import annotations

import json
import socket
import time

import pytest
import requests

from .conftest import INGEST, Client
from .published import record, records

HEAD = f"POST {INGEST} HTTP/1.1\r\nHost: x\r\nx-api-key: em_sk_sandbox\r\nContent-Type: application/json\r\n"


@pytest.fixture
def talk(sandbox):
    """Send bytes, get everything back until the server closes."""

    def say(*parts: bytes, pause: float = 0.0) -> bytes:
        with socket.create_connection((sandbox.host, sandbox.port), timeout=5) as connection:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65_536), b""))

    return say


def request(body: bytes, *headers: str) -> bytes:
    return (HEAD + "".join(f"{header}\r\n" for header in headers) + "\r\n").encode() + body


BODY = json.dumps([record()]).encode()


def chunked(body: bytes, size: int = 50) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def test_one_connection_serves_many_requests(sandbox, talk):
    one = request(BODY, f"Content-Length: {len(BODY)}")
    answer = talk(one * 3)
    assert answer.count(b"HTTP/1.1 202 ") == 3
    assert len(sandbox.batches()) == 3


def test_a_refusal_keeps_the_connection(client):
    adapter_pools = client.session.adapters["http://"].poolmanager
    for content in (b"{", [record()], b"", [record()]):
        client.post(content)
    (pool,) = [adapter_pools.pools[key] for key in adapter_pools.pools.keys()]  # noqa: SIM118
    assert (pool.num_connections, pool.num_requests) == (1, 4)


def test_a_chunked_body(talk):
    assert b" 202 " in talk(request(chunked(BODY), "Transfer-Encoding: chunked"))


@pytest.mark.parametrize("body", [b"zz\r\n", b"-5\r\nabc\r\n", b"\r\n"])
def test_broken_chunks(talk, body):
    answer = talk(request(body, "Transfer-Encoding: chunked"))
    assert b" 400 " in answer
    assert b"Connection: close" in answer


def test_a_chunked_body_too_large(talk):
    answer = talk(request(chunked(b" " * 5_000_001, 1_000_000), "Transfer-Encoding: chunked"))
    assert b" 413 " in answer
    assert b'"PAYLOAD_TOO_LARGE"' in answer


def test_too_large_is_said_before_the_body_is_read(sandbox):
    with socket.create_connection((sandbox.host, sandbox.port), timeout=5) as connection:
        connection.sendall(request(b"", "Content-Length: 900000000000"))
        assert b" 413 " in connection.recv(65_536)
    (arrival,) = sandbox.violations
    assert arrival.size == 900_000_000_000


def test_a_client_that_sends_it_all_first_still_hears_why(talk):
    body = b" " * 30_000_000  # more than the buffers of both sockets hold
    assert b" 413 " in talk(request(body, f"Content-Length: {len(body)}"))


@pytest.mark.parametrize("length", ["-1", "ten", "1_0", "٣"])
def test_a_length_that_is_none(talk, length):
    assert b" 400 " in talk(request(BODY, f"Content-Length: {length}".encode().decode("latin-1")))


def test_no_length_is_an_empty_body(talk):
    assert b" 400 " in talk(request(b""))


def test_half_a_body_is_none(sandbox, talk):
    assert talk(request(BODY, f"Content-Length: {len(BODY) + 1}")) == b""
    assert (sandbox.batches(), sandbox.arrivals[0].status) == ([], None)


def test_a_client_that_asks_before_it_sends(sandbox):
    with socket.create_connection((sandbox.host, sandbox.port), timeout=5) as connection:
        connection.sendall(request(b"", f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert b" 202 " in connection.recv(65_536)


@pytest.mark.parametrize("line", [b"BREW /api/v1/ingest HTTP/1.1\r\n\r\n", b"nonsense of four words\r\n\r\n"])
def test_no_http(talk, line):
    answer = talk(line)
    assert b'{"error":' in answer
    assert answer.split()[1] in (b"405", b"400")


def test_head_has_no_body(talk):
    answer = talk(f"HEAD {INGEST} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.endswith(b"\r\n\r\n")


def test_an_outage_and_its_end(serve):
    sandbox = serve()
    client = Client(sandbox)
    client.post([record()])
    url = sandbox.url
    sandbox.stop()
    with pytest.raises(requests.ConnectionError):
        client.post([record()])
    sandbox.start()
    assert sandbox.url == url
    client.post([record()])
    assert sandbox.records()[0].times == 2


def test_stopping_is_quick_with_connections_open(serve):
    sandbox = serve()
    clients = [Client(sandbox) for _ in range(5)]
    for client in clients:
        client.post([record()])
    sandbox.stop()  # would wait for ever for connections that stay open
    with pytest.raises(requests.ConnectionError):
        clients[0].post([record()])


def test_a_full_request_is_taken(client):
    given = records(1_000, data={"text": "x" * 1_350})
    lines = b"".join(json.dumps(one).encode() + b"\n" for one in given)
    response = client.post(lines, headers={"Content-Type": "application/x-ndjson"})
    assert response.json()["acceptedCount"] == 1_000
