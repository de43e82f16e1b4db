"""The HTTP client for the three endpoints of Evermuse.

Every call has one deadline for the complete answer and a maximum size for its body. Without them, a slow or broken
server could block a sender for longer than its lease, or fill its memory. A call follows no redirect, because that
would send the API key to another address. It does not retry, and it requests no compression. All of that is the same
directly and through a proxy.
"""

from __future__ import annotations

import copy
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import quote

import requests
from requests.auth import AuthBase

from ...foreign_text import HiddenText, describe_error, gate_logs_of
from ...version import VERSION
from .. import Unanswered, Unreachable
from .answers import Answer
from .budget import SMALL_ANSWER, take_place
from .connections import Watch, WatchedAdapter
from .routes import ProxySetting, find_ca_bundle, find_route

MAX_CONNECT_SECONDS = 2.0
"""Maximum seconds for opening a connection before a request. The request itself tries for longer."""

MAX_ANSWER_BYTES = 8_000_000
"""Maximum bytes of an answer. The largest documented one has 100 batches with 20 errors of 2,048 characters each:
about 4 MB in ASCII."""

LOGGERS = ("urllib3.connection", "urllib3.connectionpool")
"""Loggers that quote parts of an answer, for example a header that cannot be parsed."""

READ_BYTES = 65_536
"""Maximum bytes of one read from the socket."""


class _Key(AuthBase):
    """Set the API key on a request last, so that nothing replaces it."""

    def __init__(self, reveal: Callable[[], str]) -> None:
        self._reveal = reveal

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Hidden, because error trackers store the `repr` of the local variables of requests and urllib3, too.
        request.headers["x-api-key"] = HiddenText(self._reveal())
        return request


class _Use:
    """The time that the calls of a client take, whatever key they carry."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.asked_at: float | None = None


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
        timeout: the maximum seconds of a call, from the name lookup to the end of the body.
        proxy: the proxy; False for none, None if the environment variables decide. See :func:`find_route`.

    Attributes:
        route: how requests reach the API.
    """

    def __init__(
        self, api_url: str, reveal: Callable[[], str], timeout: float, proxy: ProxySetting = None
    ) -> None:
        self._root = f"{api_url}/api/v1/ingest"
        self._timeout = timeout
        self.route = find_route(api_url, proxy)
        self._use = _Use()
        self._session = _Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self._key = _Key(reveal)
        self._session.headers.update(
            {
                "User-Agent": f"evermuse-outbox/{VERSION}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            }
        )
        # The environment is read here, so that requests does not read it in its own way: with netrc files, with proxies
        # for loopback hosts, and again for each request.
        self._session.trust_env = False
        self._session.verify = find_ca_bundle() or True
        if self.route.proxy is not None:
            self._session.proxies = {"all": self.route.proxy.url}
        self._watch = Watch()
        self._adapter = WatchedAdapter(self._watch, self.route.proxy)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._adapter)

    @property
    def seconds(self) -> float:
        """The total seconds spent in calls."""
        return self._use.seconds

    @property
    def asked_at(self) -> float | None:
        """The start of the current call on the monotonic clock; None between calls. Other threads may read it."""
        return self._use.asked_at

    def with_key(self, reveal: Callable[[], str]) -> Client:
        """Return a client that sends another key over the same connection, and counts into the same times."""
        client = copy.copy(self)
        client._key = _Key(reveal)
        return client

    @property
    def has_connected(self) -> bool:
        """Whether the last call had to open a connection first."""
        return self._watch.has_connected

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open, as far as this side knows."""
        return self._watch.is_connected

    def connect(self) -> None:
        """Open a connection, so that the next request leaves without delay.

        An error has no effect here. The request tries again, and reports it.
        """
        if self.route.problem:
            return
        request = requests.Request("GET", self._root).prepare()
        with (
            suppress(Exception),
            gate_logs_of(*LOGGERS),
            self._watch.limit(min(self._timeout, MAX_CONNECT_SECONDS)),
        ):
            self._adapter.connect(request, self._session.verify, self._session.proxies, self._timeout)

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
        self._watch.release()

    def _call(self, method: str, url: str, **options: Any) -> Answer:
        if self.route.problem:
            raise Unreachable(f"{self.route.source}: {self.route.problem} {self.route.hint}")
        self._use.asked_at = started = time.monotonic()
        try:
            with (
                self._watch.limit(self._timeout),
                gate_logs_of(*LOGGERS),
                self._request(method, url, options) as response,
            ):
                answer = self._read(response, started)
        except Exception as error:
            # Every exception, because after an unknown one the request may have been sent.
            raise self._as_transport_error(error) from error
        finally:
            self._use.asked_at = None
            self._use.seconds += time.monotonic() - started
        if self._watch.was_shut:
            raise self._timed_out()
        return answer

    def _request(self, method: str, url: str, options: dict[str, Any]) -> requests.Response:
        return self._session.request(
            method,
            url,
            auth=self._key,
            timeout=self._timeout,
            allow_redirects=False,
            stream=True,
            **options,
        )

    def _read(self, response: requests.Response, started: float) -> Answer:
        """Read the answer. A large one keeps its place in the memory budget until nothing uses it any more."""
        give_back: Callable[[], None] | None = None
        try:
            body = bytearray()
            for chunk in _chunks(response):
                body += chunk
                if give_back is None and len(body) > SMALL_ANSWER:
                    give_back = take_place(self._watch.remaining())
            answer = Answer(response.status_code, bytes(body), time.monotonic() - started)
        except BaseException:
            if give_back is not None:
                give_back()
            raise
        if give_back is not None:
            weakref.finalize(answer, give_back).atexit = False
        return answer

    def _as_transport_error(self, error: Exception) -> Unreachable | Unanswered:
        """Return ``Unreachable`` only if no byte of the request can have been sent, to a proxy or to the API."""
        if isinstance(error, Unanswered):
            return error
        if self._watch.is_over:
            return self._timed_out()
        message = describe_error(_root_cause(error))
        if self.route.proxy is not None:
            message = f"{message} ({self.route})"
        return Unanswered(message) if self._watch.is_sent else Unreachable(message)

    def _timed_out(self) -> Unreachable | Unanswered:
        way = f" ({self.route})" if self.route.proxy is not None else ""
        if self._watch.is_sent:
            return Unanswered(f"no complete answer within {self._timeout:g} s{way}")
        return Unreachable(f"no connection in time, within {self._timeout:g} s{way}")


def _chunks(response: requests.Response) -> Iterator[bytes]:
    if response.status_code < 200:
        # The final answer may still come. On a reused connection it would look like the answer to the next request.
        raise Unanswered(f"HTTP {response.status_code} without a final answer")
    size = 0
    while chunk := response.raw.read1(READ_BYTES):
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise Unanswered(
                f"HTTP {response.status_code} with an answer of more than {MAX_ANSWER_BYTES:,} bytes"
            )
        yield chunk


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return error
