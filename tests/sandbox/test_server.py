"""HTTP: connections, bodies with a length or in chunks, and malformed requests."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from contextlib import ExitStack

import pytest
import requests

from evermuse_outbox.sandbox import server

from .conftest import BATCHES, INGEST, Client
from .published import record, records

HEAD = f"POST {INGEST} HTTP/1.1\r\nHost: localhost\r\nx-api-key: em_sk_sandbox\r\nContent-Type: application/json\r\n"


@pytest.fixture
def exchange(sandbox):
    """Return a function that sends bytes and returns all bytes until the server closes the connection."""

    def send(*parts: bytes) -> bytes:
        with socket.create_connection((sandbox.host, sandbox.port), timeout=5) as connection:
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65_536), b""))

    return send


def request(body: bytes, *headers: str) -> bytes:
    """Return the bytes of a POST with further headers."""
    return (HEAD + "".join(f"{header}\r\n" for header in headers) + "\r\n").encode() + body


BODY = json.dumps([record()]).encode()


def chunked(body: bytes, size: int = 50) -> bytes:
    """Return a body in chunks of ``size`` bytes."""
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def test_one_connection_serves_many_requests(sandbox, exchange):
    answer = exchange(request(BODY, f"Content-Length: {len(BODY)}") * 3)
    assert answer.count(b"HTTP/1.1 202 ") == 3
    assert len(sandbox.batches()) == 3


def test_a_long_path_or_query_is_refused_and_not_kept(sandbox, client):
    for target in (f"{BATCHES}/{'a' * 9_000}", f"{BATCHES}?{'a=&' * 3_000}"):
        assert client.send("GET", target).status_code == 414
    assert sandbox.arrivals == []


def test_a_refused_request_keeps_the_connection(client):
    adapter_pools = client.session.adapters["http://"].poolmanager
    for content in (b"{", [record()], b"", [record()]):
        client.post(content)
    (pool,) = [adapter_pools.pools[key] for key in adapter_pools.pools.keys()]  # noqa: SIM118
    assert (pool.num_connections, pool.num_requests) == (1, 4)


def test_a_chunked_body_is_accepted(exchange):
    assert b" 202 " in exchange(request(chunked(BODY), "Transfer-Encoding: chunked"))


@pytest.mark.parametrize("body", [b"zz\r\n", b"-5\r\nabc\r\n", b"\r\n"])
def test_malformed_chunks_are_refused(exchange, body):
    answer = exchange(request(body, "Transfer-Encoding: chunked"))
    assert b" 400 " in answer
    assert b"Connection: close" in answer


def test_a_chunked_body_that_is_too_large_is_refused(exchange):
    answer = exchange(request(chunked(b" " * 5_000_001, 1_000_000), "Transfer-Encoding: chunked"))
    assert b" 413 " in answer
    assert b'"PAYLOAD_TOO_LARGE"' in answer


def test_a_body_that_is_too_large_is_refused_before_it_is_read(sandbox):
    with socket.create_connection((sandbox.host, sandbox.port), timeout=5) as connection:
        connection.sendall(request(b"", "Content-Length: 900000000000"))
        assert b" 413 " in connection.recv(65_536)
    (arrival,) = sandbox.violations
    assert arrival.size == 900_000_000_000


def test_a_client_that_sends_the_body_first_still_receives_the_refusal(exchange):
    body = b" " * 30_000_000  # larger than the buffers of both sockets
    assert b" 413 " in exchange(request(body, f"Content-Length: {len(body)}"))


@pytest.mark.parametrize("length", ["-1", "ten", "1_0", "٣"])
def test_a_malformed_length_is_refused(exchange, length):
    assert b" 400 " in exchange(request(BODY, f"Content-Length: {length}".encode().decode("latin-1")))


def test_a_request_without_a_length_has_an_empty_body(exchange):
    assert b" 400 " in exchange(request(b""))


def test_an_incomplete_body_is_not_processed(sandbox, exchange):
    assert exchange(request(BODY, f"Content-Length: {len(BODY) + 1}")) == b""
    assert (sandbox.batches(), sandbox.arrivals[0].status) == ([], None)


def test_expect_100_continue_is_answered_at_once(sandbox):
    with socket.create_connection((sandbox.host, sandbox.port), timeout=5) as connection:
        connection.sendall(request(b"", f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert b" 202 " in connection.recv(65_536)


@pytest.mark.parametrize(
    "line", [b"BREW /api/v1/ingest HTTP/1.1\r\nHost: localhost\r\n\r\n", b"nonsense of four words\r\n\r\n"]
)
def test_a_malformed_request_gets_the_error_envelope(exchange, line):
    answer = exchange(line)
    assert b'{"error":' in answer
    assert answer.split()[1] in (b"405", b"400")


def test_the_response_to_head_has_no_body(exchange):
    answer = exchange(f"HEAD {INGEST} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.endswith(b"\r\n\r\n")


def test_a_stopped_sandbox_starts_again_on_the_same_port(serve):
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


def test_a_stop_closes_open_connections(serve):
    sandbox = serve()
    clients = [Client(sandbox) for _ in range(5)]
    for client in clients:
        client.post([record()])
    sandbox.stop()  # a stop that waited for idle connections would not return
    with pytest.raises(requests.ConnectionError):
        clients[0].post([record()])


def test_a_request_close_to_all_limits_is_accepted(client):
    content = records(1_000, data={"text": "x" * 1_350})
    lines = b"".join(json.dumps(item).encode() + b"\n" for item in content)
    response = client.post(lines, headers={"Content-Type": "application/x-ndjson"})
    assert response.json()["acceptedCount"] == 1_000


# --- Hostile clients ----------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8787", "[::1]:8787", "LOCALHOST:1", "a.localhost"])
def test_requests_to_this_machine_are_served(exchange, host):
    assert b" 405 " in exchange(f"GET {INGEST} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())


@pytest.mark.parametrize(
    "hosts",
    [["evil.example"], ["evil.example:8787"], ["localhost.evil.example"], [], ["localhost", "evil.example"]],
)
def test_requests_for_another_host_are_refused(sandbox, exchange, hosts):
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    answer = exchange(f"GET {INGEST} HTTP/1.1\r\n{lines}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 421 ")
    assert sandbox.arrivals == []


HOSTILE = {
    "no request": b"\r\n\r\n",
    "binary": bytes(range(256)) * 10,
    "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    "a long request line": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "a wrong version": b"GET / HTTP/9.9\r\n\r\n",
    "many headers": HEAD.encode() + b"a: b\r\n" * 500 + b"\r\n",
    "long headers": HEAD.encode() + b"".join(b"a%d: %s\r\n" % (n, b"x" * 9_000) for n in range(20)) + b"\r\n",
    "a header without a colon": HEAD.encode() + b"nonsense\r\n\r\n",
    "a length of thousands of digits": request(b"", f"Content-Length: {'9' * 6_000}"),
    "a negative length": request(b"", "Content-Length: -5"),
    "endless trailers": request(b"0\r\n" + b"a: b\r\n" * 500 + b"\r\n", "Transfer-Encoding: chunked"),
    "a chunk of a huge size": request(b"ffffffffffffffff\r\nabc", "Transfer-Encoding: chunked"),
    "garbage in chunks": request(b"\xff\xfe\x00\r\n", "Transfer-Encoding: chunked"),
    "deep JSON": request(b"[" * 100_000, "Content-Length: 100000"),
    "the end in the middle": request(b"[", "Content-Length: 100"),
}


@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_request_leaves_no_traceback_and_no_thread(sandbox, exchange, client, capfd, sent):
    with contextlib.suppress(OSError):  # the server may close before everything is sent
        exchange(sent)
    assert client.post([record()]).status_code == 202
    client.session.close()
    wait_until(lambda: not connection_threads())
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_client_that_resets_the_connection_leaves_no_traceback(sandbox, client, capfd):
    for _ in range(20):
        connection = socket.create_connection((sandbox.host, sandbox.port), timeout=5)
        connection.sendall(request(BODY, f"Content-Length: {len(BODY)}") + b"GET")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert client.post([record()]).status_code == 202
    client.session.close()
    wait_until(lambda: not connection_threads())
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("sent", [b"", b"POST /api", HEAD.encode(), request(b"[", "Content-Length: 100")])
def test_a_silent_client_is_disconnected(sandbox, monkeypatch, sent):
    monkeypatch.setattr(server.RequestHandler, "timeout", 0.2)
    with socket.create_connection((sandbox.host, sandbox.port), timeout=10) as connection:
        connection.sendall(sent)
        assert connection.recv(1) == b""
    wait_until(lambda: not connection_threads())


def test_the_number_of_connections_is_bounded(sandbox, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 5)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(socket.create_connection((sandbox.host, sandbox.port), timeout=10))
        wait_until(lambda: len(connection_threads()) == 5)
        surplus = stack.enter_context(socket.create_connection((sandbox.host, sandbox.port), timeout=10))
        assert surplus.recv(1) == b""
    wait_until(lambda: not connection_threads())


def connection_threads():
    return [thread for thread in threading.enumerate() if "process_request_thread" in thread.name]


def wait_until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
