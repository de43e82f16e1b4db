"""The client against a server that answers whatever it is told, over a socket: bounded, and clear about doubt."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from evermuse_outbox.evermuse import client as module
from evermuse_outbox.evermuse.client import Client
from evermuse_outbox.evermuse.errors import Unanswered, Unreachable

KEY = "em_sk_very_secret"


@contextlib.contextmanager
def server(*pieces, pause=None):
    """Answers one connection with those bytes; ``pause`` is waited for between the pieces."""
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
    """Head and body: what is left unread at close would reset the connection."""
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


def test_what_is_sent_and_what_comes_back():
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
    netrc.write_text("default login somebody password else\n")
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
def test_where_nothing_was_sent_there_is_no_doubt(url):
    with pytest.raises(Unreachable):
        ingest(url)


def test_no_tls_there_means_nothing_was_sent():
    with server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (url, _), pytest.raises(Unreachable):
        ingest(url.replace("http:", "https:"))


UNCLEAR = {
    "closed": b"",
    "half a body": b"HTTP/1.1 202 Accepted\r\nContent-Length: 50\r\n\r\n{",
    "broken chunks": b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "not http": b"\x00\x01\x02 hello\r\n\r\n",
}


@pytest.mark.parametrize("reply", UNCLEAR.values(), ids=UNCLEAR.keys())
def test_where_something_was_sent_it_may_have_been_taken(reply):
    with server(reply) as (url, _), pytest.raises(Unanswered):
        ingest(url)


def test_a_silent_server_is_waited_for_no_longer_than_the_timeout():
    silence = threading.Event()
    with server(b"HTTP/1.1 202", *[b"" for _ in range(8)], pause=silence) as (url, _):
        with pytest.raises(Unanswered):
            ingest(url, timeout=0.2)
        silence.set()


def test_a_drip_is_cut_at_the_deadline():
    enough = threading.Event()
    head = b"HTTP/1.1 202 Accepted\r\nContent-Length: 1000\r\n\r\n"
    with server(head, *[b"x"] * 200, pause=enough) as (url, _):
        with pytest.raises(Unanswered, match="within"):
            ingest(url, timeout=0.3)
        enough.set()


def test_an_endless_answer_is_cut_at_a_size(monkeypatch):
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 100_000)
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n"
    with server(reply, *[b"x" * 50_000] * 10) as (url, _), pytest.raises(Unanswered, match="more than"):
        ingest(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nowhere.invalid"])
def test_no_error_shows_the_key(url):
    with pytest.raises(Unreachable) as caught:
        ingest(url)
    assert KEY not in repr(caught.value) + repr(caught.value.__cause__)


def test_half_a_head_reads_as_an_answer_without_a_body_and_so_stays_in_doubt():
    from evermuse_outbox.evermuse.outcomes import InDoubt, of_ingest

    with server(b"HTTP/1.1 202 Acc") as (url, _):
        assert isinstance(of_ingest(ingest(url), 1), InDoubt)


def test_a_head_that_drips_is_cut_at_the_deadline():
    enough = threading.Event()
    pieces = [b"HTTP/1.1 202 Accepted\r\n", *[b"X-Slow: 1\r\n"] * 80]
    with server(*pieces, pause=enough) as (url, _):
        with pytest.raises(Unanswered, match="within"):
            ingest(url, timeout=0.3)
        enough.set()
