"""Fixtures: a sandbox with a controlled clock, and a client that compares each response with its published schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from evermuse_outbox.sandbox import DEFAULT_KEY, Sandbox

from .published import RESPONSE_SCHEMAS

INGEST = "/api/v1/ingest"
BATCHES = "/api/v1/ingest/batches"


class Clock:
    """A clock in seconds since the epoch that only moves when :meth:`advance` is called."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.now += seconds


class Client:
    """An HTTP client of a sandbox with one API key.

    Each response must have its published shape, except with ``has_published_shape=False``.
    """

    def __init__(self, sandbox: Sandbox, key: str | None = DEFAULT_KEY) -> None:
        self.sandbox = sandbox
        self.key = key
        self.session = requests.Session()
        self.session.trust_env = False

    def send(
        self,
        method: str,
        path: str,
        *,
        data: Any = None,
        headers: dict[str, str] | None = None,
        params: Any = None,
        has_published_shape: bool = True,
    ) -> requests.Response:
        """Send a request and return its response."""
        all_headers = {**({"x-api-key": self.key} if self.key is not None else {}), **(headers or {})}
        response = self.session.request(
            method, self.sandbox.url + path, data=data, headers=all_headers, params=params, timeout=10
        )
        if has_published_shape:
            check_shape(response, path)
        return response

    def post(self, content: Any, **options: Any) -> requests.Response:
        """Post a JSON body: bytes as they are, anything else encoded."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        return self.send("POST", INGEST, data=body, headers=headers, **options)

    def post_lines(self, records: list[Any], **options: Any) -> requests.Response:
        """Post records as NDJSON."""
        body = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        return self.post(body, headers={"Content-Type": "application/x-ndjson"}, **options)

    def status(self, batch_id: str) -> dict[str, Any]:
        """Return the status of a batch."""
        response = self.send("GET", f"{BATCHES}/{batch_id}")
        assert response.status_code == 200, response.text
        return response.json()

    def page(self, **params: Any) -> dict[str, Any]:
        """Return a page of the listing of batches."""
        response = self.send("GET", BATCHES, params=params)
        assert response.status_code == 200, response.text
        return response.json()


def check_shape(response: requests.Response, path: str) -> None:
    """Fail if a response does not match its published schema exactly."""
    assert response.headers["Content-Type"] == "application/json"
    name = (
        "error" if response.status_code >= 400 else {INGEST: "accepted", BATCHES: "page"}.get(path, "status")
    )
    RESPONSE_SCHEMAS[name].validate(response.json())
    assert ("retryAfter" in response.json()) == (response.status_code == 429)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def serve(clock: Clock) -> Iterator[Callable[..., Sandbox]]:
    """Return a function that starts a sandbox with options. By default, the rate limit is very high."""
    with ExitStack() as stack:

        def start(**options: Any) -> Sandbox:
            return stack.enter_context(Sandbox(**{"clock": clock, "rate_limit": 100_000, **options}))

        yield start


@pytest.fixture
def sandbox(serve: Callable[..., Sandbox]) -> Sandbox:
    return serve()


@pytest.fixture
def client(sandbox: Sandbox) -> Client:
    return Client(sandbox)


@pytest.fixture
def openapi(serve: Callable[..., Sandbox]) -> Client:
    """A client of a sandbox with the contract of the OpenAPI document."""
    return Client(serve(contract="openapi"))
