"""The HTTP client for the three endpoints of Evermuse.

Every call has one deadline for the complete answer and a maximum size for its body. Without them, a slow or broken
server could block a sender for longer than its lease, or fill its memory. A call follows no redirect, because that
would send the API key to another address. It does not retry, and it requests no compression.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import quote

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from ...foreign_text import describe_error, gate_logs_of
from ...version import VERSION
from .. import Unanswered, Unreachable
from .answers import Answer

MAX_ANSWER_BYTES = 8_000_000
"""Maximum bytes of an answer. The largest documented one has 100 batches with 20 errors of 2,048 characters each:
about 4 MB in ASCII."""

LOGGERS = ("urllib3.connection", "urllib3.connectionpool")
"""Loggers that quote parts of an answer, for example a header that cannot be parsed."""

READ_BYTES = 65_536
"""Maximum bytes of one read from the socket."""


class _Key(AuthBase):
    """Set the API key on a request last, so that no entry of a netrc file replaces it."""

    def __init__(self, reveal: Callable[[], str]) -> None:
        self._reveal = reveal

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["x-api-key"] = self._reveal()
        return request


class _Session(requests.Session):
    """Ignore redirects. To find their target, requests would read an answer of any size into memory."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class Client:
    """A client for one API key at one address. Use each client in one thread only.

    Every call returns an :class:`Answer` of any HTTP status, or raises one of two errors: ``Unreachable`` if nothing
    can have reached the server, ``Unanswered`` if the server may have processed the request.

    Args:
        api_url: the base URL, without a slash at its end.
        reveal: returns the API key; it is called for each request.
        timeout: the maximum seconds of a call, from the connection to the end of the body.

    Attributes:
        seconds: the total seconds spent in calls.
        asked_at: the start of the current call in seconds on the monotonic clock; None between calls. Other threads
            may read it.
    """

    def __init__(self, api_url: str, reveal: Callable[[], str], timeout: float) -> None:
        self._root = f"{api_url}/api/v1/ingest"
        self._timeout = timeout
        self.seconds = 0.0
        self.asked_at: float | None = None
        self._session = _Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self._session.auth = _Key(reveal)
        self._session.headers.update(
            {
                "User-Agent": f"evermuse-outbox/{VERSION}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            }
        )
        self._socket = _Socket()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(self._socket))

    def ingest(self, body: bytes, *, content_type: str, key: str, format_hint: str = "") -> Answer:
        """POST the body of a batch with its Idempotency-Key.

        Args:
            body: the exact bytes.
            content_type: the Content-Type of the body.
            key: the Idempotency-Key.
            format_hint: the query parameter ``format``; it is left out if empty.
        """
        return self._call(
            "POST",
            self._root,
            data=body,
            params={"format": format_hint} if format_hint else None,
            headers={"Content-Type": content_type, "Idempotency-Key": key},
        )

    def batch(self, remote_id: str) -> Answer:
        """GET the status of the batch that Evermuse calls ``remote_id``."""
        return self._call("GET", f"{self._root}/batches/{quote(remote_id, safe='')}")

    def batches(self, *, limit: int, cursor: str | None = None) -> Answer:
        """GET a page of the listing of batches, newest first.

        Args:
            limit: maximum number of batches, 1 to 100.
            cursor: the ``nextCursor`` of the previous page; None for the first page.
        """
        params = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        return self._call("GET", f"{self._root}/batches", params=params)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _call(self, method: str, url: str, **options: Any) -> Answer:
        self.asked_at = started = time.monotonic()
        # The timeout of a socket applies to each read, so an answer that arrives byte by byte would never time out.
        # The timer ends it.
        self._socket.was_shut = False
        deadline = threading.Timer(self._timeout, self._socket.shut)
        deadline.daemon = True
        deadline.start()
        try:
            with gate_logs_of(*LOGGERS), self._request(method, url, options) as response:
                answer = Answer(response.status_code, _read(response), time.monotonic() - started)
        except Exception as error:
            # Every exception, because after an unknown one the request may have been sent.
            raise self._as_transport_error(error) from error
        finally:
            deadline.cancel()
            self.asked_at = None
            self.seconds += time.monotonic() - started
        if self._socket.was_shut:
            raise self._timed_out()
        return answer

    def _request(self, method: str, url: str, options: dict[str, Any]) -> requests.Response:
        return self._session.request(
            method, url, timeout=self._timeout, allow_redirects=False, stream=True, **options
        )

    def _as_transport_error(self, error: Exception) -> Unreachable | Unanswered:
        """Return ``Unanswered`` if there was a connection, because the request may have been sent over it."""
        if isinstance(error, Unanswered):
            return error
        if self._socket.is_open and self._socket.was_shut:
            return self._timed_out()
        message = describe_error(_root_cause(error))
        return Unanswered(message) if self._socket.is_open else Unreachable(message)

    def _timed_out(self) -> Unanswered:
        return Unanswered(f"no complete answer within {self._timeout:g} s")


class _Socket:
    """The socket of a client's connection, so that the timer of the deadline can shut it from another thread.

    ``is_open`` is True from the end of the TLS handshake until a new connection is started.
    """

    def __init__(self) -> None:
        self.current: socket.socket | None = None
        self.is_open = False
        self.was_shut = False

    def shut(self) -> None:
        """End every read and write on the socket."""
        self.was_shut = True
        if self.current is not None:
            with contextlib.suppress(OSError):
                self.current.shutdown(socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """An adapter with one connection and no retries, which puts its socket into ``watched``."""

    def __init__(self, watched: _Socket) -> None:
        self._watched = watched
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {
            "http": _watching(urllib3.HTTPConnectionPool, self._watched),
            "https": _watching(urllib3.HTTPSConnectionPool, self._watched),
        }


def _watching(pool: Any, watched: _Socket) -> Any:
    """Return a subclass of ``pool`` that puts the socket of each connection into ``watched``."""

    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def connect(self) -> None:
            watched.is_open = False
            super().connect()
            watched.current = self.sock
            if watched.was_shut:
                # The name lookup or the handshake took too long. The timer has fired already, so it cannot end the
                # request any more.
                self.close()
                raise TimeoutError("no connection in time")
            watched.is_open = True

    return type(f"Watched{pool.__name__}", (pool,), {"ConnectionCls": Connection})


def _read(response: requests.Response) -> bytes:
    if response.status_code < 200:
        # The final answer may still come. On a reused connection it would look like the answer to the next request.
        raise Unanswered(f"HTTP {response.status_code} without a final answer")
    body = bytearray()
    while chunk := response.raw.read1(READ_BYTES):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise Unanswered(
                f"HTTP {response.status_code} with an answer of more than {MAX_ANSWER_BYTES:,} bytes"
            )
    return bytes(body)


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return error
