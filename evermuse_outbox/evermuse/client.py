"""The three endpoints of Evermuse over HTTP. Returns what came back, or raises; never writes.

Bounded in every direction: one deadline for the whole answer, a largest size for what is read, no
redirect followed (the key would go along), no retry of its own, no compression asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from ..version import VERSION
from .errors import Unanswered, Unreachable

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


class Client:
    """One key at one address. Use one client for one thread.

    ``timeout`` is in seconds, for a whole call. ``reveal`` gives the API key when it is needed.
    """

    def __init__(self, api_url: str, reveal: Callable[[], str], timeout: float) -> None:
        self._root = f"{api_url}/api/v1/ingest"
        self._timeout = timeout
        self._session = requests.Session()
        self._session.auth = _Key(reveal)
        self._session.headers.update(
            {
                "User-Agent": f"evermuse-outbox/{VERSION}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            }
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0))

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
        started = time.monotonic()
        try:
            response = self._session.request(
                method, url, timeout=self._timeout, allow_redirects=False, stream=True, **options
            )
            with response:
                body = _read(response, deadline=started + self._timeout)
                return Answer(response.status_code, body, time.monotonic() - started)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _explained(error) from error


def _read(response: requests.Response, deadline: float) -> bytes:
    body = bytearray()
    while chunk := response.raw.read1(_CHUNK):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise Unanswered(
                f"HTTP {response.status_code} with an answer of more than {MAX_ANSWER_BYTES:,} bytes"
            )
        if time.monotonic() > deadline:
            raise Unanswered(f"HTTP {response.status_code}, and the answer was not whole in time")
    return bytes(body)


def _explained(error: Exception) -> Unreachable | Unanswered:
    """Whether anything can have reached Evermuse. In doubt, it can."""
    if isinstance(error, Unanswered):
        return error
    cause = _root_cause(error)
    said = f"{type(cause).__name__}: {cause}"[:300]
    return Unreachable(said) if _never_sent(error) else Unanswered(said)


_NEVER_SENT = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.NameResolutionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.SSLError,
    requests.exceptions.ConnectTimeout,
    requests.exceptions.SSLError,
    requests.exceptions.ProxyError,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)


def _never_sent(error: Exception) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, _NEVER_SENT) or isinstance(reason, _NEVER_SENT)


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return error
