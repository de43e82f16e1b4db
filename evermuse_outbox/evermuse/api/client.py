"""The three endpoints of Evermuse over HTTP. Returns what came back, or raises; never writes.

Bounded in every direction: one deadline for the whole answer, a largest size for what is read, no
redirect followed (the key would go along), no retry of its own, no compression asked for.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import quote

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from ...version import VERSION
from ..errors import Unanswered, Unreachable

MAX_ANSWER_BYTES = 8_000_000
"""A listing of 100 batches with 20 errors of 2,048 characters each stays under this."""

_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: HTTP status, the body as far as it was read, and how long it took in seconds."""

    status: int
    body: bytes
    seconds: float


class _Key(AuthBase):
    """Puts the key on a request at the last moment, where no netrc entry can replace it."""

    def __init__(self, reveal: Callable[[], str]) -> None:
        self._reveal = reveal

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["x-api-key"] = self._reveal()
        return request


class _Session(requests.Session):
    """Looks at no redirect: only to know where it leads, requests would read the whole answer into memory."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class Client:
    """One key at one address. Use one client for one thread.

    ``timeout`` is in seconds, for a whole call. ``reveal`` gives the API key when it is needed. ``seconds`` are those
    spent in calls so far; ``asked_at`` is when the call under way began, on the monotonic clock, for other threads.
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
        """POST a sealed body under its Idempotency-Key. Raises Unreachable or Unanswered."""
        return self._call(
            "POST",
            self._root,
            data=body,
            params={"format": format_hint} if format_hint else None,
            headers={"Content-Type": content_type, "Idempotency-Key": key},
        )

    def batch(self, remote_id: str) -> Answer:
        """GET the status of one batch. Raises Unreachable or Unanswered."""
        return self._call("GET", f"{self._root}/batches/{quote(remote_id, safe='')}")

    def batches(self, *, limit: int, cursor: str | None = None) -> Answer:
        """GET a page of batches, newest first. Raises Unreachable or Unanswered."""
        params = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        return self._call("GET", f"{self._root}/batches", params=params)

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def _call(self, method: str, url: str, **options: Any) -> Answer:
        self.asked_at = started = time.monotonic()
        # The socket's own timeout bounds each read alone; a drip would go on for ever.
        self._socket.was_shut = False
        deadline = threading.Timer(self._timeout, self._socket.shut)
        deadline.daemon = True
        deadline.start()
        try:
            response = self._session.request(
                method, url, timeout=self._timeout, allow_redirects=False, stream=True, **options
            )
            with response:
                answer = Answer(response.status_code, _read(response), time.monotonic() - started)
        except Exception as error:
            # Whatever it was, it must not look like an answer.
            raise self._explained(error) from error
        finally:
            deadline.cancel()
            self.asked_at = None
            self.seconds += time.monotonic() - started
        if self._socket.was_shut:
            raise self._late()
        return answer

    def _explained(self, error: Exception) -> Unreachable | Unanswered:
        """Whether anything can have reached Evermuse. Where there was a connection, it can."""
        if isinstance(error, Unanswered):
            return error
        if self._socket.is_open and self._socket.was_shut:
            return self._late()
        cause = _root_cause(error)
        said = f"{type(cause).__name__}: {cause}"[:300]
        return Unanswered(said) if self._socket.is_open else Unreachable(said)

    def _late(self) -> Unanswered:
        return Unanswered(f"no whole answer within {self._timeout:g} s")


class _Socket:
    """The socket that a client's one connection uses, for who must close it from outside.

    ``is_open`` from when the connection stands, TLS and all, until another one is begun.
    """

    def __init__(self) -> None:
        self.current: socket.socket | None = None
        self.is_open = False
        self.was_shut = False

    def shut(self) -> None:
        """Ends whatever is being read or written."""
        self.was_shut = True
        if self.current is not None:
            with contextlib.suppress(OSError):
                self.current.shutdown(socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """One connection, no retries, and its socket is told to ``watched``."""

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
    """A pool whose connections tell ``watched`` their socket."""

    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def connect(self) -> None:
            watched.is_open = False
            super().connect()
            watched.current = self.sock
            if watched.was_shut:
                # A slow name server or handshake: nobody is left who would end what begins now.
                self.close()
                raise TimeoutError("no connection in time")
            watched.is_open = True

    return type(f"Watched{pool.__name__}", (pool,), {"ConnectionCls": Connection})


def _read(response: requests.Response) -> bytes:
    if response.status_code < 200:
        # The answer proper may still come, and must not be taken for that of the next request.
        raise Unanswered(f"HTTP {response.status_code}, and no answer")
    body = bytearray()
    while chunk := response.raw.read1(_CHUNK):
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
