"""A sandbox with a clock that stands still, and a client that holds every answer to the published shapes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from evermuse_outbox.sandbox import DEFAULT_KEY, Sandbox

from .published import SHAPES

INGEST = "/api/v1/ingest"
BATCHES = "/api/v1/ingest/batches"


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


class Client:
    """One key's view of a sandbox, over HTTP."""

    def __init__(self, sandbox: Sandbox, key: str | None = DEFAULT_KEY) -> None:
        self.sandbox = sandbox
        self.key = key
        self.session = requests.Session()
        self.session.trust_env = False

    def ask(
        self,
        method: str,
        path: str,
        *,
        data: Any = None,
        headers: dict[str, str] | None = None,
        params: Any = None,
        shaped: bool = True,
    ) -> requests.Response:
        sent = {**({"x-api-key": self.key} if self.key is not None else {}), **(headers or {})}
        response = self.session.request(
            method, self.sandbox.url + path, data=data, headers=sent, params=params, timeout=10
        )
        if shaped:
            hold_to_contract(response, path)
        return response

    def post(self, content: Any, **options: Any) -> requests.Response:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        return self.ask("POST", INGEST, data=body, headers=headers, **options)

    def post_lines(self, records: list[Any], **options: Any) -> requests.Response:
        body = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        return self.post(body, headers={"Content-Type": "application/x-ndjson"}, **options)

    def status(self, batch_id: str) -> dict[str, Any]:
        response = self.ask("GET", f"{BATCHES}/{batch_id}")
        assert response.status_code == 200, response.text
        return response.json()

    def page(self, **params: Any) -> dict[str, Any]:
        response = self.ask("GET", BATCHES, params=params)
        assert response.status_code == 200, response.text
        return response.json()


def hold_to_contract(response: requests.Response, path: str) -> None:
    """Fail where an answer is not exactly of its published shape."""
    assert response.headers["Content-Type"] == "application/json"
    shape = (
        "refused"
        if response.status_code >= 400
        else {INGEST: "accepted", BATCHES: "page"}.get(path, "status")
    )
    SHAPES[shape].validate(response.json())
    assert ("retryAfter" in response.json()) == (response.status_code == 429)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def serve(clock: Clock) -> Iterator[Callable[..., Sandbox]]:
    """Start a sandbox with these arguments; without a rate limit that matters unless given."""
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
    """A client of a sandbox that serves the OpenAPI document."""
    return Client(serve(contract="openapi"))
