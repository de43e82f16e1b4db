"""Control a sandbox that runs in another process, over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import requests
from django.core.management.base import CommandError

from .. import USAGE

TIMEOUT = 5.0
"""Seconds to wait for an answer. The sandbox answers at once, because the rate limit does not count its control."""


class SandboxClient:
    """A connection to the control of a sandbox.

    Args:
        url: Base URL of the sandbox.
        token: Its token, or an empty text if it requires none.

    Raises:
        CommandError: The URL has no scheme, a method cannot reach the sandbox, or the sandbox refuses.
    """

    def __init__(self, url: str, token: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise CommandError(f"{url} is no URL: use http://{url}", returncode=USAGE)
        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy cannot reach this machine's loopback address
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def add_fault(self, fields: Mapping[str, Any]) -> None:
        """Inject a fault."""
        self._send("POST", "faults", fields)

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._send("DELETE", "faults")

    def set_random_faults(self, percent: float) -> None:
        """Set the share of random faults."""
        self._send("PUT", "random-faults", {"percent": percent})

    def set_keys(self, content: Mapping[str, Any]) -> None:
        """Change what API keys share, and which are refused."""
        self._send("PUT", "keys", content)

    def describe_faults(self) -> list[str]:
        """Return a line for each fault that waits."""
        state = self._send("GET", "state")
        lines = [f"Random faults: {state['random_faults']:g} %"]
        if refused := state["keys"]["refused"]:
            lines.append(f"Refused API keys: {', '.join(map(str, refused))}")
        return [*lines, *(describe(fault) for fault in state["faults"])]

    def _send(self, method: str, path: str, content: object = None) -> Any:
        try:
            response = self._session.request(
                method, f"{self.url}/sandbox/{path}", json=content, timeout=TIMEOUT, allow_redirects=False
            )
            answer = response.json()
        except (requests.RequestException, ValueError) as error:
            raise CommandError(f"No sandbox answers at {self.url}: {error.__class__.__name__}") from error
        if response.status_code == 401:
            raise CommandError("The sandbox requires its token: use --control-token-file.")
        if response.status_code >= 400:
            raise CommandError(f"The sandbox answered {response.status_code}: {answer.get('message')}")
        return answer


def describe(fault: Mapping[str, Any]) -> str:
    """Return the line of a fault: its number, what it does, and how long it lasts."""
    lasts = [f"{fault['count']} requests" if fault["count"] is not None else ""]
    lasts.append(f"{fault['seconds']:g} s" if fault["seconds"] is not None else "")
    rest = " and ".join(filter(None, lasts)) or "until removed"
    return f"{fault['id']}: {fault['description']}; {rest}"
