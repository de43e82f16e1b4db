"""A sandbox with its control, and requests to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests

from evermuse_outbox.sandbox import Sandbox


class Browser:
    """A client of the control that sends JSON."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.trust_env = False

    def send(self, method: str, path: str, content: Any = None, **headers: str) -> requests.Response:
        """Send a request to a path below ``/sandbox/``."""
        if content is not None:
            headers = {"Content-Type": "application/json", **headers}
        body = None if content is None else json.dumps(content)
        return self.session.request(
            method, f"{self.sandbox.url}/sandbox/{path}", data=body, headers=headers, timeout=5
        )

    def get(self, path: str) -> Any:
        """Return the JSON at a path."""
        response = self.send("GET", path)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture
def sandbox(serve: Callable[..., Sandbox]) -> Sandbox:
    return serve(control=True)


@pytest.fixture
def browser(sandbox: Sandbox) -> Browser:
    return Browser(sandbox)
