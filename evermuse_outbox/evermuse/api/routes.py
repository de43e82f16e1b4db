"""Choose the route to the API: directly, or through an HTTP proxy."""

from __future__ import annotations

import ipaddress
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import urlsplit
from urllib.request import getproxies

from requests.utils import should_bypass_proxies

from .. import InvalidProxy, Proxy, is_loopback, parse_proxy

ProxySetting: TypeAlias = Proxy | Literal[False] | None
"""A proxy, False for none, or None if the environment variables decide."""


@dataclass(frozen=True, slots=True)
class Route:
    """How requests reach the API.

    Attributes:
        proxy: the proxy; None if requests go directly.
        source: the setting or environment variable that names the proxy; empty without one.
        problem: why the proxy cannot be used; empty if it can.
        hint: what to do about the problem.
    """

    proxy: Proxy | None = None
    source: str = ""
    problem: str = ""
    hint: str = ""

    def __str__(self) -> str:
        if self.problem:
            return f"nothing, because of {self.source}: {self.problem}"
        return f"through the proxy {self.proxy} ({self.source})" if self.proxy else "without a proxy"


def find_route(url: str, setting: ProxySetting = None) -> Route:
    """Return the route to ``url``. It contains no credentials in its text.

    A loopback host is always reached directly: a proxy would receive the API key in clear text, and it could not reach
    this machine. Otherwise the setting decides. Without it, the environment variables decide: ``HTTPS_PROXY`` or
    ``HTTP_PROXY`` by the scheme of ``url``, then ``ALL_PROXY``, except for the hosts in ``NO_PROXY``.
    """
    if setting is False or is_loopback(urlsplit(url).hostname or ""):
        return Route()
    if setting is not None:
        return Route(setting, "PROXY")
    return _from_environment(url)


def find_ca_bundle() -> str | None:
    """Return the path of the CA certificates that the environment names; None for those of ``certifi``."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None


def _from_environment(url: str) -> Route:
    proxies = getproxies()
    name = next((name for name in (urlsplit(url).scheme, "all") if name in proxies), None)
    if name is None or _is_excepted(url):
        return Route()
    variables = (f"{name}_proxy", f"{name}_proxy".upper())
    source = next((variable for variable in variables if os.environ.get(variable)), "the system's settings")
    try:
        return Route(parse_proxy(proxies[name], is_strict=False), source)
    except InvalidProxy as error:
        return Route(source=source, problem=error.message, hint=error.hint)


def _is_excepted(url: str) -> bool:
    """Return whether ``NO_PROXY`` names the host. requests does not compare IPv6 addresses and networks."""
    return should_bypass_proxies(url, no_proxy=None) or _is_excepted_address(urlsplit(url).hostname or "")


def _is_excepted_address(host: str) -> bool:
    entries = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        return any(_contains(entry.strip(), address) for entry in entries.split(","))
    return False


def _contains(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    with suppress(ValueError):
        return address in ipaddress.ip_network(entry.replace("[", "").replace("]", ""), strict=False)
    return False
