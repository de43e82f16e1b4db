"""The client against a scripted server on a socket: every call is bounded, and no doubtful call looks unsent."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading

import pytest

from evermuse_outbox.evermuse import Unanswered, Unreachable
from evermuse_outbox.evermuse.api import Client
from evermuse_outbox.evermuse.api import client as module

KEY = "em_sk_very_secret"


@contextlib.contextmanager
def server(*pieces, pause=None):
    """Answer one connection with these bytes; wait for ``pause`` between the pieces."""
    requests = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve():
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                requests.append(_whole_request(connection))
                for piece in pieces:
                    connection.sendall(piece)
                    if pause:
                        pause.wait(0.05)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
        thread.join(15)


def _whole_request(connection):
    """Read head and body, because unread bytes would reset the connection when it is closed."""
    read = connection.recv(65_536)
    while read.startswith(b"POST") and not read.endswith(b"\r\n\r\n{}\n"):
        read += connection.recv(65_536)
    return read


def ingest(url, timeout=5.0):
    client = Client(url, lambda: KEY, timeout)
    try:
        return client.ingest(b"{}\n", content_type="application/x-ndjson", key="k1")
    finally:
        client.close()


def test_a_request_has_its_headers_and_returns_the_answer():
    with server(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}") as (url, requests):
        answer = ingest(url)
    assert (answer.status, answer.body) == (202, b"{}")
    head = requests[0].decode()
    assert head.startswith("POST /api/v1/ingest HTTP/1.1\r\n")
    for line in (f"x-api-key: {KEY}", "Idempotency-Key: k1", "Content-Type: application/x-ndjson"):
        assert line in head
    assert "gzip" not in head


def test_a_netrc_entry_does_not_replace_the_key(tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login user password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with server(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}") as (url, requests):
        ingest(url)
    assert f"x-api-key: {KEY}" in requests[0].decode()
    assert "Authorization" not in requests[0].decode()


def test_a_redirect_is_not_followed():
    reply = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/steal\r\nContent-Length: 0\r\n\r\n"
    with server(reply) as (url, _):
        assert ingest(url).status == 302


NEVER_SENT = {"refused": "http://127.0.0.1:1", "no such host": "http://nowhere.invalid"}


@pytest.mark.parametrize("url", NEVER_SENT.values(), ids=NEVER_SENT.keys())
def test_a_server_without_a_connection_is_unreachable(url):
    with pytest.raises(Unreachable):
        ingest(url)


def test_a_server_without_tls_is_unreachable():
    with server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (url, _), pytest.raises(Unreachable):
        ingest(url.replace("http:", "https:"))


UNCLEAR = {
    "closed": b"",
    "half a body": b"HTTP/1.1 202 Accepted\r\nContent-Length: 50\r\n\r\n{",
    "broken chunks": b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "not http": b"\x00\x01\x02 hello\r\n\r\n",
}


@pytest.mark.parametrize("reply", UNCLEAR.values(), ids=UNCLEAR.keys())
def test_an_incomplete_answer_is_unanswered(reply):
    with server(reply) as (url, _), pytest.raises(Unanswered):
        ingest(url)


def test_a_silent_server_is_cut_at_the_timeout():
    silence = threading.Event()
    with server(b"HTTP/1.1 202", *[b"" for _ in range(8)], pause=silence) as (url, _):
        with pytest.raises(Unanswered):
            ingest(url, timeout=0.2)
        silence.set()


HEAD = b"HTTP/1.1 202 Accepted\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SLOW_ANSWERS = {
    "status line": [b"HTTP/1.1 202 ", *[b"A"] * 200],
    "head": [HEAD, *[b"X-Slow: 1\r\n"] * 90],
    "body": [HEAD + b"Content-Length: 1000\r\n\r\n", *[b"x"] * 200],
    "body without a length": [HEAD + b"\r\n", *[b"x"] * 200],
    "chunks": [CHUNKED, *[b"1\r\nx\r\n"] * 200],
    "size of a chunk": [CHUNKED, *[b"0"] * 200],
    "trailers": [CHUNKED + b"0\r\n", *[b"X-Slow: 1\r\n"] * 200],
    "100 without end": [b"HTTP/1.1 100 Continue\r\n\r\n"] * 200,
}


@pytest.mark.parametrize("pieces", SLOW_ANSWERS.values(), ids=SLOW_ANSWERS.keys())
def test_an_answer_in_small_pieces_is_cut_at_the_deadline(pieces):
    enough = threading.Event()
    with server(*pieces, pause=enough) as (url, _):
        with pytest.raises(Unanswered, match="within"):
            ingest(url, timeout=0.2)
        enough.set()


def test_a_slow_handshake_is_cut_and_unreachable():
    enough = threading.Event()
    with server(b"\x16\x03\x03\x40\x00", *[b"\x02"] * 200, pause=enough) as (url, _):
        with pytest.raises(Unreachable):
            ingest(url.replace("http:", "https:"), timeout=0.2)
        enough.set()


def test_nothing_is_sent_on_a_connection_from_after_the_deadline(monkeypatch):
    getaddrinfo = socket.getaddrinfo
    with server() as (url, requests):
        client = Client(url, lambda: KEY, 5.0)

        def slow_name_server(*arguments, **options):
            client._socket.shut()  # what the deadline does
            return getaddrinfo(*arguments, **options)

        monkeypatch.setattr(socket, "getaddrinfo", slow_name_server)
        with pytest.raises(Unreachable, match="in time"):
            client.batch("b1")
    assert requests == [b""]


def test_a_long_answer_is_cut_at_the_maximum_size(monkeypatch):
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 100_000)
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n"
    with server(reply, *[b"x" * 50_000] * 10) as (url, _), pytest.raises(Unanswered, match="more than"):
        ingest(url)


def test_a_long_redirect_is_cut_at_the_maximum_size(monkeypatch):
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 100_000)
    reply = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 10000000\r\n\r\n"
    with server(reply, *[b"x" * 50_000] * 10) as (url, _), pytest.raises(Unanswered, match="more than"):
        ingest(url)


LONG_HEADS = {
    "status line": [b"HTTP/1.1 202 ", *[b"A" * 50_000] * 10],
    "line of the head": [HEAD, b"X-Long: ", *[b"A" * 50_000] * 10],
    "many lines": [HEAD, *[b"X-One: 1\r\n" * 50] * 10],
    "size of a chunk": [CHUNKED, *[b"0" * 50_000] * 10],
    "many 100": [b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000] * 10,
}


@pytest.mark.parametrize("pieces", LONG_HEADS.values(), ids=LONG_HEADS.keys())
def test_a_long_head_is_unanswered(pieces):
    with server(*pieces) as (url, _), pytest.raises(Unanswered) as caught:
        ingest(url)
    assert len(str(caught.value)) < 400


def test_a_compressed_answer_is_not_decompressed():
    body = gzip.compress(b"0" * 1_000_000)
    head = b"HTTP/1.1 202 Accepted\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    with server(head, body) as (url, _):
        assert ingest(url).body == body


@contextlib.contextmanager
def scripted_server(*answers):
    """Answer complete requests one after the other, on any number of connections."""
    requests, left = [], list(answers)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve():
            while left:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(10)
                    while left and (request := _whole_request(connection)):
                        requests.append(request)
                        connection.sendall(left.pop(0))

        thread = threading.Thread(target=serve)
        thread.start()
        client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}", lambda: KEY, 5.0)
        yield client, requests
        client.close()
        thread.join(15)


def test_a_final_answer_after_an_interim_one_is_not_the_answer_to_the_next_request():
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    # On the same connection, the second request would read the answer to the first.
    late = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}"
    with scripted_server(interim, late) as (client, requests):
        with pytest.raises(Unanswered, match="103"):
            client.batch("first")
        first_socket = client._socket.current
        assert client.batch("second").status == 202
        assert client._socket.current is not first_socket
    assert len(requests) == 2


def test_cookies_are_not_sent_back():
    reply = b"HTTP/1.1 202 Accepted\r\nSet-Cookie: fat=%s; Path=/\r\nContent-Length: 2\r\n\r\n{}" % (
        b"x" * 9_000
    )
    with scripted_server(reply, reply) as (client, requests):
        client.batch("first")
        client.batch("second")
    assert b"Cookie" not in requests[1]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nowhere.invalid"])
def test_no_error_shows_the_key(url):
    with pytest.raises(Unreachable) as caught:
        ingest(url)
    assert KEY not in repr(caught.value) + repr(caught.value.__cause__)


def test_an_incomplete_head_stays_in_doubt():
    from evermuse_outbox.evermuse.api import InDoubt, classify_send

    with server(b"HTTP/1.1 202 Acc") as (url, _):
        assert isinstance(classify_send(ingest(url), 1), InDoubt)
