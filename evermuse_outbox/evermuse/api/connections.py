"""Connections with one deadline for everything: name lookup, connection, proxy, TLS, request and answer.

The timeout of a socket applies to each operation, so a peer that sends byte by byte would never time out. Therefore a
timer shuts the socket at the deadline. :class:`Watch` also records whether a byte of the request can have been sent.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter
from urllib3.poolmanager import pool_classes_by_scheme
from urllib3.util.proxy import connection_requires_http_tunnel
from urllib3.util.wait import wait_for_read

from ...foreign_text import HiddenBytes
from .. import Proxy


class Watch:
    """The deadline of a client's current call, and its connection.

    Attributes:
        is_sent: whether sending of the request itself has begun. What is sent to set up a tunnel or TLS does not count.
        was_shut: whether the connection was shut at the deadline.
        has_connected: whether the call opened a connection.
        owner: the HTTP connection that opened the watched socket; its ``sock`` is None once it is closed.
    """

    def __init__(self) -> None:
        self.is_sent = False
        self.was_shut = False
        self.has_connected = False
        self.owner: Any = None
        self._deadline = 0.0
        self._calls = 0
        # A duplicate, because TLS replaces the socket object during the handshake. Both are the same connection.
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Shut the connection if the block takes longer than ``seconds``."""
        with self._lock:
            self._calls += 1
            self.is_sent = self.was_shut = self.has_connected = False
            self._deadline = time.monotonic() + seconds
        timer = threading.Timer(seconds, self._shut, [self._calls])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if self.owner is None or self.owner.sock is None:
                self.release()  # otherwise the duplicate would keep a closed connection open

    def remaining(self) -> float:
        """Return the seconds until the deadline. Raise TimeoutError if it has passed."""
        seconds = self._deadline - time.monotonic()
        if self.was_shut or seconds <= 0:
            raise TimeoutError("the deadline has passed")
        return seconds

    @property
    def is_over(self) -> bool:
        """Whether the deadline of the call has passed."""
        return self.was_shut or time.monotonic() >= self._deadline

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open, as far as this side knows."""
        return self.owner is not None and self.owner.is_connected

    def take(self, connection: socket.socket) -> None:
        """Watch a new connection in place of the previous one. Raise TimeoutError if the deadline has passed."""
        with self._lock:
            self._release()
            if self.was_shut:
                raise TimeoutError("the deadline has passed")
            self._connection = connection.dup()
            self.has_connected = True

    def begin_request(self) -> None:
        """Note that the request is sent now. Raise TimeoutError if the deadline has passed before."""
        if not self.is_sent:
            self.remaining()
            self.is_sent = True

    def release(self) -> None:
        """Close the duplicate of a connection that is closed."""
        with self._lock:
            self._release()

    def _release(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _shut(self, call: int) -> None:
        """End every read and write on the connection, unless the call has ended already."""
        with self._lock:
            if call != self._calls:
                return
            self.was_shut = True
            if self._connection is not None:
                with contextlib.suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)


class WatchedAdapter(HTTPAdapter):
    """An adapter with one connection and no retries. ``watch`` watches the connection on every route."""

    def __init__(self, watch: Watch, proxy: Proxy | None) -> None:
        self._pool_classes = {name: _watched(pool, watch) for name, pool in pool_classes_by_scheme.items()}
        self._proxy = proxy
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def connect(self, request: Any, verify: Any, proxies: Any, timeout: float) -> None:
        """Open the connection that ``request`` will use. Raise what connecting raises.

        The steps are those of ``urlopen``, which opens the connection and sends the request in one call.

        Args:
            request: a prepared request; it is not sent.
            verify: whether to verify certificates, or the path of the CA certificates.
            proxies: the proxies of the session.
            timeout: seconds for each operation of the request. Connecting ends at the deadline of the watch.
        """
        pool: Any = self.get_connection_with_tls_context(request, verify, proxies=proxies)
        self.cert_verify(pool, request.url, verify, None)
        connection = pool._get_conn()
        try:
            if pool.proxy is not None and connection_requires_http_tunnel(
                pool.proxy, pool.proxy_config, urlsplit(request.url).scheme
            ):
                pool._prepare_proxy(connection)
            else:
                connection.connect()
            connection.sock.settimeout(timeout)
        except BaseException:
            connection.close()
            raise
        finally:
            pool._put_conn(connection)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Create the manager of direct connections."""
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Return the manager of connections through the proxy."""
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = self._pool_classes
        return manager

    def proxy_headers(self, _proxy: str) -> dict[str, str]:
        """Return the headers that only the proxy gets.

        The URL that urllib3 knows has no credentials, so none of its errors and logs can show them.
        """
        authorization = self._proxy.authorization if self._proxy else ""
        return {"Proxy-Authorization": authorization} if authorization else {}

    def cert_verify(self, conn: Any, _url: str, verify: Any, cert: Any) -> None:
        """Verify each certificate. requests skips that of an https proxy if the URL of the request is http."""
        super().cert_verify(conn, "https:", verify, cert)  # type: ignore[no-untyped-call]


def _watched(pool: Any, watch: Watch) -> Any:
    """Return a subclass of ``pool`` whose connections keep the deadline of ``watch``."""

    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        _is_connecting = False

        @property
        def is_connected(self) -> bool:
            if self.sock is None:
                return False
            return not wait_for_read(self.sock, timeout=0.0) or _has_no_data(self.sock)

        def _new_conn(self) -> socket.socket:
            watch.owner = self
            return _connect(self._dns_host.strip("[]"), self.port, self.socket_options or (), watch)

        def connect(self) -> None:
            self._is_connecting = True
            try:
                super().connect()
            finally:
                self._is_connecting = False

        def send(self, data: Any) -> None:
            if type(data) is bytes:
                data = HiddenBytes(data)  # the headers: an error tracker stores the `repr` of local variables
            if self.sock is None:
                self.connect()
            if not self._is_connecting:
                watch.begin_request()
            super().send(data)

    return type(f"Watched{pool.__name__}", (pool,), {"ConnectionCls": Connection})


def _has_no_data(connection: Any) -> bool:
    """Return whether what can be read belongs to TLS itself: servers send session tickets after the handshake.

    Other data before a request, or the end of the connection, mean that it must not be used again.
    """
    timeout = connection.gettimeout()
    connection.settimeout(0)
    try:
        connection.recv(1)
    except ssl.SSLWantReadError:
        return True
    except OSError:
        return False
    finally:
        connection.settimeout(timeout)
    return False


def _connect(host: str, port: int, options: Any, watch: Watch) -> socket.socket:
    """Connect to the first address of ``host`` that answers. Each address has its share of the time that is left."""
    addresses = _look_up(host, port, watch.remaining())
    error: OSError = OSError("the name has no address")
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = None
        try:
            connection = socket.socket(family, kind, protocol)
            for option in options:
                connection.setsockopt(*option)
            connection.settimeout(watch.remaining() / (len(addresses) - tried))
            connection.connect(address)
            connection.settimeout(watch.remaining())
            watch.take(connection)
            return connection
        except OSError as failure:
            error = failure
            if connection is not None:
                connection.close()
    raise error


def _look_up(host: str, port: int, seconds: float) -> list[Any]:
    """Return the addresses of a host. The lookup has no timeout of its own, so it runs in a thread."""
    addresses: list[Any] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            addresses.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="evermuse-outbox-lookup", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError("the name lookup took too long")
    if failed:
        raise failed[0]
    return addresses
