"""A small HTTP proxy: it forwards requests and opens tunnels to the servers that it is given, with faults on demand."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit

BYTES = 65_536


class HttpProxy:
    """A proxy on a loopback address. Use it as a context manager.

    Args:
        servers: dict from ``host:port``, as in the request, to the address of the server that takes its place.
        host: the address that it listens on.
        tls: the TLS context of an https proxy; None for http.
        authorization: the value of Proxy-Authorization that it requires; None if it requires none.
        answer: what it answers to each CONNECT or request by itself, in pieces; None if it forwards.
        pause: seconds between these pieces.
        cut_if: it closes both connections instead of passing on an answer while this function returns True.

    Attributes:
        heads: the head of each CONNECT, and of each request that is not in a tunnel.
    """

    def __init__(
        self,
        servers=(),
        *,
        host="127.0.0.1",
        tls=None,
        authorization=None,
        answer=None,
        pause=0,
        cut_if=lambda: False,
    ):
        self.servers = dict(servers)
        self.heads = []
        self._tls, self._authorization = tls, authorization
        self._answer, self._pause, self._cut_if = answer, pause, cut_if
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self._is_closed = threading.Event()
        self._open = set()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._workers = []
        bracketed = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{bracketed}:{self._listener.getsockname()[1]}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._is_closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            _shut(connection)
        self._thread.join(10)
        for worker in self._workers:
            worker.join(10)

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._handle, connection)

    def _start(self, target, *arguments):
        worker = threading.Thread(target=target, args=arguments, daemon=True)
        self._workers.append(worker)
        worker.start()

    def _handle(self, connection):
        self._open.add(connection)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(_shut, connection)
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.add(connection)
            stack.enter_context(connection)
            server = None
            while head := _read_head(connection):
                self.heads.append(head.decode("latin-1"))
                # Unread bytes would reset the connection when it is closed.
                body = _read_body(connection, head)
                if not self._is_authorized(head):
                    connection.sendall(
                        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 6\r\n\r\n<html>"
                    )
                    return
                if self._answer is not None:
                    self._answer_by_itself(connection)
                    return
                is_new, server = server is None, server or self._connect(head)
                if server is None:
                    connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>")
                    return
                if is_new:
                    stack.callback(_shut, server)
                if head.startswith(b"CONNECT "):
                    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    self._start(self._pass_on, server, connection)
                    while data := connection.recv(BYTES):
                        server.sendall(data)
                    return
                if is_new:
                    self._start(self._pass_on, server, connection)
                server.sendall(_as_direct(head) + body)

    def _pass_on(self, server, connection):
        """Copy the bytes of the server to the client."""
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(_shut, connection)
            stack.callback(_shut, server)
            while data := server.recv(BYTES):
                if self._cut_if():
                    return
                connection.sendall(data)

    def _answer_by_itself(self, connection):
        for piece in self._answer:
            connection.sendall(piece)
            if self._is_closed.wait(self._pause):
                return

    def _is_authorized(self, head):
        required = f"Proxy-Authorization: {self._authorization}\r\n".encode()
        return self._authorization is None or required in head

    def _connect(self, head):
        method, target, _ = head.decode("latin-1").split(" ", 2)
        address = self.servers.get(target if method == "CONNECT" else urlsplit(target).netloc)
        if address is None:
            return None
        server = socket.create_connection(address[:2], 10)
        server.settimeout(None)
        self._open.add(server)
        return server


def _read_head(connection):
    """Read up to the empty line, byte by byte, so that nothing of what follows is read."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return b""
        head += byte
    return head


def _read_body(connection, head):
    lines = head.decode("latin-1").lower().split("\r\n")
    length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
    body = b""
    while len(body) < length:
        data = connection.recv(length - len(body))
        if not data:
            break
        body += data
    return body


def _as_direct(head):
    """Return the head as the server must see it: only a path, and nothing that is for the proxy."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ", 2)
    parts = urlsplit(target)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    kept = [line for line in lines if not line.lower().startswith("proxy-")]
    return "\r\n".join([f"{method} {path} {version}", *kept]).encode("latin-1")


def _shut(connection):
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        connection.close()
