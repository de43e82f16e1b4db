"""The client against a scripted server: every call is bounded, and no doubtful call looks unsent, on every route."""

from __future__ import annotations

import contextlib
import functools
import gzip
import socket
import threading
from dataclasses import replace

import pytest

from evermuse_outbox.evermuse import Unanswered, Unreachable
from evermuse_outbox.evermuse.api import Client, InDoubt, classify_send
from evermuse_outbox.evermuse.api import client as module
from tests.tls import ca_file

from .routes import KEY, ROUTES, Route, ingest

DIRECT = ROUTES[0]

KINDS = ("forwarded", "tunnel", "tunnel over tls")
"""One route of each kind, for tests that wait for a deadline."""


over = functools.partial(pytest.mark.parametrize, "route", ids=lambda route: route.id)
over_all_routes = over(ROUTES)
over_tls = over([route for route in ROUTES if route.tls])
over_direct_routes = over([route for route in ROUTES if route.proxy is None])
over_each_kind_of_route = over([route for route in ROUTES if route.id in ("ipv4", *KINDS)])


@pytest.fixture(autouse=True)
def ca_bundle(monkeypatch):
    """Trust the certificates of the tests."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file())


@contextlib.contextmanager
def server(
    *pieces,
    route: Route = DIRECT,
    wrapped_as=None,
    pause=None,
    timeout=5.0,
    on_request=lambda: None,
    **options,
):
    """Answer one connection with these bytes; wait for ``pause`` between the pieces. Yield a client and requests.

    ``options`` are those of ``Route.client``.
    """
    requests = []
    with route.listen() as listener:
        listener.settimeout(10)

        def serve():
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                accepted = stack.enter_context(listener.accept()[0])
                connection = stack.enter_context((wrapped_as or route).wrap(accepted))
                connection.settimeout(10)
                requests.append(_whole_request(connection))
                on_request()
                for piece in pieces:
                    connection.sendall(piece)
                    if pause:
                        pause.wait(0.05)

        thread = threading.Thread(target=serve)
        thread.start()
        with route.client(listener.getsockname(), timeout, **options) as client:
            yield client, requests
        listener.shutdown(socket.SHUT_RDWR)  # if nothing has connected
        thread.join(15)


def _whole_request(connection):
    """Read head and body, because unread bytes would reset the connection when it is closed."""
    read = connection.recv(65_536)
    while read.startswith(b"POST") and not read.endswith(b"\r\n\r\n{}\n"):
        read += connection.recv(65_536)
    return read


COMPLETE = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}"


@over_all_routes
def test_a_request_has_its_headers_and_returns_the_answer(route):
    with server(COMPLETE, route=route) as (client, requests):
        answer = ingest(client)
    assert (answer.status, answer.body) == (202, b"{}")
    head = requests[0].decode()
    assert head.startswith("POST /api/v1/ingest HTTP/1.1\r\n")
    for line in (f"x-api-key: {KEY}", "Idempotency-Key: k1", "Content-Type: application/x-ndjson"):
        assert line in head
    assert "gzip" not in head


@over_all_routes
def test_a_netrc_entry_does_not_replace_the_key(route, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login user password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with server(COMPLETE, route=route) as (client, requests):
        ingest(client)
    assert f"x-api-key: {KEY}" in requests[0].decode()
    assert "Authorization" not in requests[0].decode()


@over_all_routes
def test_a_redirect_is_not_followed(route):
    reply = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/steal\r\nContent-Length: 0\r\n\r\n"
    with server(reply, route=route) as (client, _):
        assert ingest(client).status == 302


NEVER_SENT = {"refused": "http://127.0.0.1:1", "no such host": "http://nowhere.invalid"}


@pytest.mark.parametrize("url", NEVER_SENT.values(), ids=NEVER_SENT.keys())
def test_a_server_without_a_connection_is_unreachable_and_no_error_shows_the_key(url):
    with contextlib.closing(Client(url, lambda: KEY, 5.0)) as client, pytest.raises(Unreachable) as caught:
        ingest(client)
    assert KEY not in repr(caught.value) + repr(caught.value.__cause__)


@over_tls
def test_a_server_without_tls_is_unreachable(route):
    without_tls = replace(route, tls=False)
    with (
        server(b"HTTP/1.1 400 Bad Request\r\n\r\n", route=route, wrapped_as=without_tls) as (client, _),
        pytest.raises(Unreachable),
    ):
        ingest(client)


@over_tls
def test_a_server_with_an_unknown_certificate_is_unreachable(route, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with (
        server(COMPLETE, route=route) as (client, requests),
        pytest.raises(Unreachable, match=r"(?i)certificate"),
    ):
        ingest(client)
    assert requests == []


UNCLEAR = {
    "closed": b"",
    "half a body": b"HTTP/1.1 202 Accepted\r\nContent-Length: 50\r\n\r\n{",
    "broken chunks": b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "not http": b"\x00\x01\x02 hello\r\n\r\n",
}


@over_all_routes
@pytest.mark.parametrize("reply", UNCLEAR.values(), ids=UNCLEAR.keys())
def test_an_incomplete_answer_is_unanswered(route, reply):
    with server(reply, route=route) as (client, _), pytest.raises(Unanswered):
        ingest(client)


@over_all_routes
def test_a_silent_server_is_cut_at_the_timeout(route):
    silence = threading.Event()
    pieces = [b"HTTP/1.1 202", *[b"" for _ in range(40)]]
    with server(*pieces, route=route, pause=silence, timeout=0.6) as (client, _):
        with pytest.raises(Unanswered):
            ingest(client)
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


@over_each_kind_of_route
@pytest.mark.parametrize("pieces", SLOW_ANSWERS.values(), ids=SLOW_ANSWERS.keys())
def test_an_answer_in_small_pieces_is_cut_at_the_deadline(route, pieces):
    enough = threading.Event()
    with server(*pieces, route=route, pause=enough, timeout=0.6) as (client, _):
        with pytest.raises(Unanswered, match="within"):
            ingest(client)
        enough.set()


@over_tls
def test_a_slow_handshake_is_cut_and_unreachable(route):
    enough = threading.Event()
    pieces = [b"\x16\x03\x03\x40\x00", *[b"\x02"] * 200]
    without_tls = replace(route, tls=False)
    with server(*pieces, route=route, wrapped_as=without_tls, pause=enough, timeout=0.6) as (client, _):
        with pytest.raises(Unreachable, match="within"):
            ingest(client)
        enough.set()


def test_a_name_lookup_that_takes_too_long_is_cut_and_nothing_is_sent(monkeypatch):
    enough = threading.Event()

    def slow_name_server(*_arguments, **_options):
        enough.wait(30)
        raise OSError("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", slow_name_server)
    client = Client("http://api.test:1", lambda: KEY, 0.2, False)
    with contextlib.closing(client), pytest.raises(Unreachable, match="in time"):
        client.batch("b1")
    enough.set()


@over_direct_routes
def test_nothing_is_sent_on_a_connection_from_after_the_deadline(route, monkeypatch):
    with server(route=route) as (client, requests):
        connect = client._watch.take

        def take_late(connection):
            connect(connection)
            client._watch._shut(client._watch._calls)  # what the timer does

        monkeypatch.setattr(client._watch, "take", take_late)
        with pytest.raises(Unreachable, match="in time"):
            client.batch("b1")
    assert b"".join(requests) == b""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_name_with_two_addresses_is_reached_at_the_one_that_answers(monkeypatch, address):
    getaddrinfo = socket.getaddrinfo

    def both_addresses(host, port, *arguments, **options):
        assert host == "localhost"
        found = [getaddrinfo(each, port, *arguments, **options) for each in ("::1", "127.0.0.1")]
        return [entry for entries in found for entry in entries]

    monkeypatch.setattr(socket, "getaddrinfo", both_addresses)
    with server(COMPLETE, route=Route("localhost", "localhost", address)) as (client, _):
        assert ingest(client).status == 202


@over_all_routes
@pytest.mark.parametrize(
    "head", [b"200 OK", b"302 Found\r\nLocation: /elsewhere"], ids=["answer", "redirect"]
)
def test_a_long_answer_is_cut_at_the_maximum_size(route, monkeypatch, head):
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 100_000)
    reply = b"HTTP/1.1 " + head + b"\r\nContent-Length: 10000000\r\n\r\n"
    with (
        server(reply, *[b"x" * 50_000] * 10, route=route) as (client, _),
        pytest.raises(Unanswered, match="more than"),
    ):
        ingest(client)


LONG_HEADS = {
    "status line": [b"HTTP/1.1 202 ", *[b"A" * 50_000] * 10],
    "line of the head": [HEAD, b"X-Long: ", *[b"A" * 50_000] * 10],
    "many lines": [HEAD, *[b"X-One: 1\r\n" * 50] * 10],
    "size of a chunk": [CHUNKED, *[b"0" * 50_000] * 10],
    "many 100": [b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000] * 10,
}


@over_all_routes
@pytest.mark.parametrize("pieces", LONG_HEADS.values(), ids=LONG_HEADS.keys())
def test_a_long_head_is_unanswered(route, pieces):
    with server(*pieces, route=route) as (client, _), pytest.raises(Unanswered) as caught:
        ingest(client)
    assert len(str(caught.value)) < 400


@over_all_routes
def test_a_compressed_answer_is_not_decompressed(route):
    body = gzip.compress(b"0" * 1_000_000)
    head = b"HTTP/1.1 202 Accepted\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    with server(head, body, route=route) as (client, _):
        assert ingest(client).body == body


@contextlib.contextmanager
def scripted_server(route, *answers):
    """Answer complete requests one after the other, on any number of connections. Yield also the connections."""
    requests, connections, left = [], [], list(answers)
    with route.listen() as listener:
        listener.settimeout(10)

        def serve():
            while left:
                connection, _ = listener.accept()
                with contextlib.suppress(OSError), route.wrap(connection) as wrapped:
                    connections.append(wrapped)
                    wrapped.settimeout(10)
                    while left and (request := _whole_request(wrapped)):
                        requests.append(request)
                        wrapped.sendall(left.pop(0))

        thread = threading.Thread(target=serve)
        thread.start()
        with route.client(listener.getsockname()) as client:
            yield client, requests, connections
        thread.join(15)


@over_all_routes
def test_a_final_answer_after_an_interim_one_is_not_the_answer_to_the_next_request(route):
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    # On the same connection, the second request would read the answer to the first.
    with scripted_server(route, interim, COMPLETE) as (client, requests, connections):
        with pytest.raises(Unanswered, match="103"):
            client.batch("first")
        assert client.batch("second").status == 202
    assert (len(requests), len(connections)) == (2, 2)


@over_all_routes
def test_a_connection_is_used_again(route):
    with scripted_server(route, *[COMPLETE] * 3) as (client, requests, connections):
        for name in ("first", "second", "third"):
            assert client.batch(name).status == 202
    assert (len(requests), len(connections)) == (3, 1)


@over_all_routes
def test_a_connection_that_the_server_closed_is_not_used_again(route):
    closing = b"HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    with scripted_server(route, closing, closing) as (client, requests, connections):
        for name in ("first", "second"):
            assert client.batch(name).body == b"{}"
            assert client._watch._connection is None
    assert (len(requests), len(connections)) == (2, 2)


@over_all_routes
def test_a_connection_can_be_opened_before_its_first_request(route):
    with scripted_server(route, COMPLETE, COMPLETE) as (client, requests, connections):
        assert not client.is_connected
        client.connect()
        assert client.is_connected
        assert requests == []
        # The short timeout of connecting does not remain: a large body may take longer to send.
        assert client._watch.owner.sock.gettimeout() == 5.0
        for name in ("first", "second"):
            assert client.batch(name).status == 202
            assert not client.has_connected
    assert (len(requests), len(connections)) == (2, 1)


@over_all_routes
def test_a_request_shows_that_it_had_to_open_a_connection(route):
    closing = b"HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    with scripted_server(route, closing, COMPLETE, COMPLETE) as (client, _, connections):
        client.connect()
        had_to_connect = []
        for name in ("first", "second", "third"):
            assert client.batch(name).status == 202
            had_to_connect.append(client.has_connected)
    assert had_to_connect == [False, True, False]
    assert len(connections) == 2


def test_a_failed_connection_is_reported_by_the_request():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}", lambda: KEY, 5.0, False)
    with contextlib.closing(client):
        client.connect()
        assert not client.is_connected
        with pytest.raises(Unreachable):
            client.batch("b1")


@over_all_routes
def test_cookies_are_not_sent_back(route):
    reply = b"HTTP/1.1 202 Accepted\r\nSet-Cookie: fat=%s; Path=/\r\nContent-Length: 2\r\n\r\n{}" % (
        b"x" * 9_000
    )
    with scripted_server(route, reply, reply) as (client, requests, _):
        client.batch("first")
        client.batch("second")
    assert b"Cookie" not in requests[1]


@over_all_routes
def test_an_incomplete_head_stays_in_doubt(route):
    with server(b"HTTP/1.1 202 Acc", route=route) as (client, _):
        assert isinstance(classify_send(ingest(client), 1), InDoubt)
