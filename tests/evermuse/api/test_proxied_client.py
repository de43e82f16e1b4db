"""The client behind a proxy: what counts as sent, what the proxy answers by itself, and what no text shows."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading

import pytest

from evermuse_outbox.evermuse import Unanswered, Unreachable
from evermuse_outbox.evermuse.api import Client, InDoubt, Unavailable, classify_send
from evermuse_outbox.evermuse.proxies import parse_proxy
from tests.http_proxy import HttpProxy
from tests.tls import ca_file

from .routes import KEY, PROXIED, TUNNELS, ingest
from .test_client import COMPLETE, over, server

PASSWORD = "pa55word-of-the-proxy/@"
QUOTED = "pa55word-of-the-proxy%2F%40"
CREDENTIALS = base64.b64encode(f"user:{PASSWORD}".encode()).decode()

FORWARDED = [route for route in PROXIED if not route.tls]


@pytest.fixture(autouse=True)
def ca_bundle(monkeypatch):
    """Trust the certificates of the tests."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file())


@over(PROXIED)
def test_a_connection_that_is_cut_after_the_request_is_unanswered(route):
    """The API has answered, and the proxy closes instead of passing the answer on."""
    has_arrived = threading.Event()
    with (
        server(COMPLETE, route=route, on_request=has_arrived.set, cut_if=has_arrived.is_set) as (
            client,
            sent,
        ),
        pytest.raises(Unanswered),
    ):
        ingest(client)
    assert len(sent) == 1


@over(TUNNELS)
def test_a_connection_that_is_cut_before_tls_is_unreachable(route):
    with (
        server(COMPLETE, route=route, cut_if=lambda: True) as (client, _),
        pytest.raises(Unreachable),
    ):
        ingest(client)


REFUSALS = {
    "407": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
    "403": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\n<html>",
    "502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>",
    "302": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/login\r\n\r\n",
    "closed": b"",
    "garbage": b"\x00\x01\r\n\r\n",
    "two lines without end": b"HTTP/1.1 200 OK\r\nX: y\r\n",
}


@pytest.mark.parametrize("reply", REFUSALS.values(), ids=REFUSALS.keys())
@over(TUNNELS)
def test_a_tunnel_that_is_refused_is_unreachable(route, reply):
    with (
        route.client(("127.0.0.1", 1), answer=[reply]) as client,
        pytest.raises(Unreachable, match="through the proxy"),
    ):
        ingest(client)


@over(FORWARDED)
def test_the_answer_of_a_forwarding_proxy_is_classified(route):
    outcomes = {"407": Unavailable, "403": Unavailable, "502": InDoubt, "302": Unavailable}
    for name, outcome in outcomes.items():
        with route.client(("127.0.0.1", 1), answer=[REFUSALS[name]]) as client:
            assert type(classify_send(ingest(client), 1)) is outcome


@over(FORWARDED)
def test_a_forwarding_proxy_that_closes_is_unanswered(route):
    with route.client(("127.0.0.1", 1), answer=[b""]) as client, pytest.raises(Unanswered):
        ingest(client)


SLOW_TUNNELS = {
    "silent": [b"", b""],
    "status line": [b"HTTP/1.1 200 ", *[b"A"] * 200],
    "head": [b"HTTP/1.1 200 OK\r\n", *[b"X-Slow: 1\r\n"] * 200],
}


@pytest.mark.parametrize("pieces", SLOW_TUNNELS.values(), ids=SLOW_TUNNELS.keys())
@over(TUNNELS)
def test_a_slow_tunnel_is_cut_at_the_deadline_and_unreachable(route, pieces):
    faults = {"answer": pieces, "pause": 30 if pieces[0] == b"" else 0.05}
    with (
        route.client(("127.0.0.1", 1), timeout=0.6, **faults) as client,
        pytest.raises(Unreachable, match="in time"),
    ):
        ingest(client)
    assert client.seconds < 5  # the proxy goes on for ten


def test_a_proxy_that_cannot_be_reached_is_named():
    client = Client("https://api.test", lambda: KEY, 5, parse_proxy("http://127.0.0.1:1"))
    with (
        contextlib.closing(client),
        pytest.raises(Unreachable, match=r"proxy http://127\.0\.0\.1:1 \(PROXY\)"),
    ):
        ingest(client)


@over(PROXIED)
def test_the_proxy_gets_its_credentials_and_the_api_does_not(route):
    options = {"authorization": f"Basic {CREDENTIALS}", "credentials": f"user:{QUOTED}@"}
    with server(COMPLETE, route=route, **options) as (client, requests):
        assert ingest(client).status == 202
    assert "proxy-authorization" not in requests[0].decode().lower()
    assert CREDENTIALS not in requests[0].decode()


@over(PROXIED)
def test_only_a_forwarding_proxy_sees_the_request(route):
    proxies = []
    with server(COMPLETE, route=route, proxies=proxies) as (client, _):
        assert ingest(client).status == 202
    assert [KEY in head for head in proxies[0].heads] == [not route.tls]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_error_and_no_log_shows_the_credentials(scheme, caplog):
    caplog.set_level("DEBUG")
    texts = []
    for answer in ([REFUSALS["407"]], [b""], [f"HTTP/1.1 403 {PASSWORD} {CREDENTIALS}\r\n\r\n".encode()]):
        with HttpProxy(answer=answer) as proxy:
            url = proxy.url.replace("://", f"://user:{QUOTED}@")
            client = Client(f"{scheme}://api.test", lambda: KEY, 5, parse_proxy(url))
            with contextlib.closing(client):
                try:
                    outcome = classify_send(ingest(client), 1)
                except (Unreachable, Unanswered) as error:
                    outcome = error
                texts += [repr(outcome), repr(client.route), str(client.route)]
    texts += [record.getMessage() for record in caplog.records]
    for secret in (PASSWORD, QUOTED, CREDENTIALS):
        assert secret not in "".join(texts)


def test_a_proxy_with_an_unknown_certificate_gets_nothing(monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    route = next(route for route in FORWARDED if route.proxy)
    with (
        server(COMPLETE, route=route) as (client, requests),
        pytest.raises(Unreachable, match=r"(?i)certificate"),
    ):
        ingest(client)
    assert requests == []


def test_a_proxy_is_not_asked_for_a_loopback_host(monkeypatch):
    with HttpProxy() as proxy:
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, proxy.url)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(10)
            address = listener.getsockname()

            def answer():
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(COMPLETE)

            thread = threading.Thread(target=answer)
            thread.start()
            with contextlib.closing(Client(f"http://127.0.0.1:{address[1]}", lambda: KEY, 5)) as client:
                assert client.batch("b").status == 202
            thread.join(10)
        assert proxy.heads == []
