"""Decide whether a key may be used at an address. Pure.

Test data must not reach production because a setting was forgotten. So three things are refused: the key of the sandbox
at Evermuse, a process in debug mode that reaches Evermuse only by the default of ``API_URL``, and any test run at
Evermuse.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

PRODUCTION_URL = "https://api.evermuse.com"
"""Address of the API. Source: OpenAPI document, servers."""

PRODUCTION_DOMAIN = "evermuse.com"

SANDBOX_URL = "http://127.0.0.1:8787"
"""Address on which ``evermuse_sandbox`` listens by default."""

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
"""Hosts to which plain http is allowed, because such a request does not leave the machine."""

SANDBOX_KEY_PREFIX = "em_sk_sandbox"
"""How each key of a sandbox begins. The rest is free, as in ``em_sk_sandbox-eu``."""


class Refusal(NamedTuple):
    """Why a key is not used at an address, and what to do. ``kind`` is sandbox_key, debug, test_run or plain_http."""

    kind: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.message} {self.hint}"


def is_sandbox_key(key: str) -> bool:
    """Return whether a key is one of the sandbox: one that begins with ``em_sk_sandbox``."""
    return key.startswith(SANDBOX_KEY_PREFIX)


def is_production(url: str) -> bool:
    """Return whether an address is at Evermuse."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    return host == PRODUCTION_DOMAIN or host.endswith(f".{PRODUCTION_DOMAIN}")


def is_plain_http(url: str) -> bool:
    """Return whether a request to this address would cross a network without encryption."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS


def find_refusal(
    url: str, key: str, *, is_url_set: bool, is_debug: bool, is_test_run: bool
) -> Refusal | None:
    """Return why ``key`` is not used at ``url``; None if it may be used.

    Args:
        url: the address of the API.
        key: the API key.
        is_url_set: whether the project has set the address. If not, it is the default, which is production.
        is_debug: whether the process runs with ``DEBUG = True``.
        is_test_run: whether the process runs tests.
    """
    if is_production(url) and is_sandbox_key(key):
        return Refusal(
            "sandbox_key",
            "API_KEY is the key of the sandbox, but API_URL is that of Evermuse. Nothing is sent.",
            f'Set API_URL to the address of the sandbox, "{SANDBOX_URL}", or set API_KEY to a key of Evermuse.',
        )
    if is_production(url) and is_test_run:
        return Refusal(
            "test_run",
            "A test run never sends to Evermuse.",
            f'Set API_URL to the address of a sandbox, "{SANDBOX_URL}", or use evermuse_outbox.testing.',
        )
    if is_debug and not is_url_set:
        return Refusal(
            "debug",
            "DEBUG is True and API_URL is not set. Nothing is sent, because test data could reach production.",
            f'Set API_URL: "{SANDBOX_URL}" for the sandbox, or "{PRODUCTION_URL}" to send to production on purpose.',
        )
    if is_plain_http(url) and not is_sandbox_key(key):
        return Refusal(
            "plain_http", "Plain http would send the API key in clear text.", "Use https in API_URL."
        )
    return None
