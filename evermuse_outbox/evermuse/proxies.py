"""HTTP proxies: check the address of a proxy, hide its password, and recognise hosts of this machine.

This module loads no HTTP library, because the settings import it at every start of the host.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from ..foreign_text import hide_secret

SCHEMES = {"http": 80, "https": 443}
"""Schemes of a proxy, and the port of each if an environment variable names none."""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.IGNORECASE)


class InvalidProxy(ValueError):
    """The address of a proxy cannot be used. ``message`` says why, without the address; ``hint`` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        url: scheme, host and port, without credentials. It may be shown.
        authorization: the value of ``Proxy-Authorization``; empty without credentials. It is a secret.
    """

    url: str
    authorization: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.url


def parse_proxy(text: str, *, is_strict: bool = True) -> Proxy:
    """Return the proxy with this URL. Its password is hidden from every text from now on.

    Args:
        text: the URL, for instance ``http://user:password@proxy.example:3128``.
        is_strict: whether scheme and port are required. Environment variables often omit them.

    Raises:
        InvalidProxy: The text is not the URL of an HTTP proxy.
    """
    if not is_strict and "://" not in text:
        text = f"http://{text}"
    _hide_credentials(text)
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidProxy(
            "the URL of the proxy contains white space or characters that a URL cannot contain.",
            "Percent-encode special characters in user and password.",
        )
    parts = _split(text)
    if parts is not None and parts.scheme.startswith("socks"):
        raise InvalidProxy(
            "the proxy is a SOCKS proxy, which is not supported.",
            'Name an HTTP proxy that allows CONNECT, for instance "http://proxy.example:3128".',
        )
    if parts is None or parts.scheme not in SCHEMES or not is_host(parts.hostname or ""):
        raise InvalidProxy(
            "the value is not the URL of an HTTP proxy.",
            'Use for instance "http://proxy.example:3128". Percent-encode special characters in user and password.',
        )
    if parts.path not in ("", "/") or "?" in text or "#" in text:
        raise InvalidProxy(
            "the URL of the proxy contains more than scheme, user, password, host and port.",
            "Remove path, query and fragment.",
        )
    if parts.port is None and is_strict:
        raise InvalidProxy(
            "the URL of the proxy has no port.", 'Use for instance "http://proxy.example:3128".'
        )
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return Proxy(f"{parts.scheme}://{host}:{parts.port or SCHEMES[parts.scheme]}", _authorization(parts))


def is_host(host: str) -> bool:
    """Return whether ``host`` is the name of a host or an address, without brackets."""
    if ":" in host:
        try:
            return ipaddress.ip_address(host).version == 6
        except ValueError:
            return False
    return _HOST_NAME.fullmatch(host) is not None


def is_loopback(host: str) -> bool:
    """Return whether ``host`` names this machine: localhost, or a loopback address in any notation."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        mapped = getattr(address, "ipv4_mapped", None)
        return bool((mapped or address).is_loopback)
    with suppress(OSError, UnicodeError):
        # Short and numeric notations, such as 127.1 or 2130706433. Name resolution accepts them.
        return ipaddress.ip_address(socket.inet_aton(host)).is_loopback
    return False


def _split(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        return None if parts.port == 0 or parts.netloc.endswith(":") else parts
    except ValueError:
        return None


def _authorization(parts: SplitResult) -> str:
    if parts.username is None and parts.password is None:
        return ""
    credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + b64encode(credentials.encode()).decode()


def _hide_credentials(text: str) -> None:
    """Hide user and password of a URL, also if the URL is not valid: an error may quote it."""
    credentials, at, _ = text.partition("://")[2].rpartition("@")
    if at:
        password = credentials.partition(":")[2]
        for secret in (credentials, unquote(credentials), password, unquote(password)):
            hide_secret(secret)
