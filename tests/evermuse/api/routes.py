"""The routes from the client to a server of a test: direct or through a proxy, with and without TLS, IPv4 and IPv6."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

from evermuse_outbox.evermuse.api import Client
from evermuse_outbox.evermuse.proxies import parse_proxy
from tests.http_proxy import HttpProxy
from tests.tls import server_context

KEY = "em_sk_very_secret"


@dataclass(frozen=True)
class Route:
    """A route. ``name`` is the host in the URL; ``proxy`` has the options of the proxy, or is None."""

    id: str
    name: str
    server: str = "127.0.0.1"
    tls: bool = False
    proxy: dict | None = None

    def listen(self):
        """Return a socket that listens where the route ends."""
        family = socket.AF_INET6 if ":" in self.server else socket.AF_INET
        return socket.create_server((self.server, 0), family=family)

    def wrap(self, connection):
        """Return the connection of the server, after the TLS handshake if the route has one."""
        return server_context().wrap_socket(connection, server_side=True) if self.tls else connection

    @contextlib.contextmanager
    def client(self, address, timeout=5.0, *, credentials="", proxies=None, **faults):
        """Yield a client that reaches the server at ``address`` by this route.

        ``credentials`` is ``user:password@`` for the proxy. The proxy is added to ``proxies``, and ``faults`` are
        options of it.
        """
        url = f"{'https' if self.tls else 'http'}://{self.name}:{address[1]}"
        with contextlib.ExitStack() as stack:
            proxy = False
            if self.proxy is not None:
                servers = {f"{self.name}:{address[1]}": address}
                through = stack.enter_context(HttpProxy(servers, **self.proxy | faults))
                proxy = parse_proxy(through.url.replace("://", f"://{credentials}"))
                if proxies is not None:
                    proxies.append(through)
            client = Client(url, lambda: KEY, timeout, proxy)
            stack.callback(client.close)
            yield client


ROUTES = (
    Route("ipv4", "127.0.0.1"),
    Route("ipv6", "[::1]", "::1"),
    Route("tls", "localhost", tls=True),
    Route("forwarded", "api.test", proxy={}),
    Route("forwarded over tls", "api.test", proxy={"tls": server_context()}),
    Route("tunnel", "api.test", tls=True, proxy={}),
    Route("tunnel over ipv6", "[2001:db8::1]", "::1", tls=True, proxy={"host": "::1"}),
    Route("tunnel over tls", "api.test", tls=True, proxy={"tls": server_context()}),
)
PROXIED = tuple(route for route in ROUTES if route.proxy is not None)
TUNNELS = tuple(route for route in PROXIED if route.tls)


def ingest(client):
    """Send a batch."""
    return client.ingest(b"{}\n", content_type="application/x-ndjson", key="k1")
