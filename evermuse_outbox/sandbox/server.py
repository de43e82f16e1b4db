"""HTTP for an :class:`Api`: sockets, keep-alive, request bodies, and the bytes of responses."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Collection
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from ipaddress import ip_address
from typing import Any

from .api import Api, Arrival
from .contract import MAX_BODY_BYTES
from .control import Control, ControlRequest
from .responses import RequestRefused, Response

# Limits of a lingering close: after a refusal, the server reads and discards the rest of the body. An immediate close
# would reset the connection, and the client would not receive the response.
LINGER_BYTES = 16 * MAX_BODY_BYTES  # maximum bytes that are read
LINGER_SECONDS = 2.0  # maximum pause of the client

LINGER_TOTAL_SECONDS = 10.0  # time for all of it

MAX_CONNECTIONS = 500
"""Open connections. Each has a thread. A further one is closed at once."""

IDLE_SECONDS = 120.0
"""Pause of a client after which its connection is closed, also in the middle of a request."""

MAX_HEADER_BYTES = 65_536
"""Bytes of all headers of a request. They are kept with the arrival."""

MAX_TARGET = 8_192
"""Characters of path and query of a request. They are kept with the arrival, as its headers."""

MAX_TRAILERS = 100

SHUTDOWN_POLL_SECONDS = 0.02
"""Seconds between two checks whether the server must stop. The default of 0.5 would slow down tests."""


# --- Requests -----------------------------------------------------------------------------------


class RequestHandler(BaseHTTPRequestHandler):
    """One connection of a client. With keep-alive, it serves many requests."""

    protocol_version = "HTTP/1.1"
    server_version = "EvermuseSandbox"
    disable_nagle_algorithm = True  # TCP_NODELAY: send small responses without delay
    wbufsize = -1  # buffered: send the headers and the body of a response in one packet
    timeout = IDLE_SECONDS
    server: Server

    def parse_request(self) -> bool:
        """Read the request line and the headers; refuse them if they are too long or for another host."""
        if not super().parse_request():
            return False
        if len(self.path) > MAX_TARGET:
            self.send_error(414, f"Path and query take at most {MAX_TARGET} characters.")
            return False
        if sum(len(name) + len(value) for name, value in self.headers.items()) > MAX_HEADER_BYTES:
            self.send_error(431, "The headers are too long.")
            return False
        hosts = self.headers.get_all("Host", [])
        if len(hosts) > 1 or not is_own_host(
            "".join(hosts), {self.server.server_name, *self.server.allowed_hosts}
        ):
            # A web page can make a browser send requests here, under a name of its own that points to this machine.
            self.send_error(
                421,
                "The Host header must be localhost, an IP address or the address of the sandbox. "
                "The option --allow-host adds a name.",
            )
            return False
        return True

    def serve_request(self) -> None:
        """Process one request and send its response."""
        control = self.server.control
        if control is not None and control.handles(self.path):
            self._send(self._control(control))
            return
        response = self._call_api()
        if response is None:
            self.close_connection = True
        else:
            self._send(response)

    def _call_api(self) -> Response | None:
        """Process a request to the API. Keep it in the history, also if its body or its client is lost."""
        api, history = self.server.current_api(), self.server.history
        arrival = api.receive(self.command, self.path, self.headers)
        entry = history.begin(arrival) if history else None
        body, response = b"", None
        try:
            body = self._read_body(arrival)
            response = api.respond(arrival, body)
        finally:
            if history and entry:
                history.finish(entry, body, response.body if response else b"")
            api.release(arrival)
        self.server.on_event(arrival)
        return response

    def _control(self, control: Control) -> Response:
        try:
            body = read_body(self.rfile, self.headers)
        except RequestRefused as refusal:
            self.close_connection = True
            return refusal.to_response()
        return control.respond(ControlRequest(self.command, self.path, self.headers, body))

    # BaseHTTPRequestHandler calls a method of this name for each HTTP method.
    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = serve_request  # noqa: N815

    def _read_body(self, arrival: Arrival) -> bytes:
        """Return the body, or no bytes if it cannot be read. Then the arrival contains the refusal."""
        try:
            return read_body(self.rfile, self.headers)
        except RequestRefused as refusal:
            # The end of the body is unknown, so the rest of the connection cannot be parsed.
            self.close_connection = True
            arrival.size = declared_length(self.headers)
            arrival.refuse(refusal)
            return b""

    def _send(self, response: Response) -> None:
        closes_connection = response.closes_connection or self.close_connection
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        if closes_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)
        if closes_connection:
            self._close_lingering()

    def _close_lingering(self) -> None:
        """Close the sending direction, then read what the client still sends, within limits."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(LINGER_SECONDS)
        remaining, end = LINGER_BYTES, time.monotonic() + LINGER_TOTAL_SECONDS
        while remaining > 0 and time.monotonic() < end and (read := len(self.rfile.read1(65_536))):
            remaining -= read

    def handle_expect_100(self) -> bool:
        """Send ``100 Continue`` immediately. Responses are buffered, so a flush is necessary."""
        can_continue = super().handle_expect_100()
        self.wfile.flush()
        return can_continue

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send an error that the standard library detects, in the published envelope."""
        status = 405 if code == 501 else code  # the standard library sends 501 for an unknown method
        # After an unreadable request line, the version would be HTTP/0.9, whose responses have no status and headers.
        self.request_version = self.protocol_version
        self.close_connection = True
        self._send(RequestRefused(status, message or "This is not a valid HTTP request.").to_response())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Write no log. The callback ``on_event`` receives every request."""


def read_body(stream: BufferedIOBase, headers: Message[str, str]) -> bytes:
    """Read the body of a request, of a declared length or in chunks.

    Raises:
        RequestRefused: 400, if its length or chunks are malformed. 413, if it is too large. The rest is not read.
        ConnectionError: The client closed the connection before the end of the body.
    """
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        return read_chunks(stream)
    length = headers.get("Content-Length", "0").strip()
    if not re.fullmatch(r"[0-9]+", length):
        raise RequestRefused(400, "Content-Length must be a number.", closes_connection=True)
    size = int(length[:MAX_DIGITS])
    check_size(size)
    return read_exactly(stream, size)


MAX_DIGITS = 18
"""Digits of a length that are read: Python refuses to convert thousands, and all that are longer are too large."""


def is_own_host(host: str, names: Collection[str]) -> bool:
    """Return whether a Host header names this machine: localhost, a name of the server, or any IP address."""
    name = host.rpartition(":")[0] if re.search(r":[0-9]*\Z", host) and not host.endswith("]") else host
    name = name.lower().rstrip(".")
    if name in {"localhost", *(allowed.lower() for allowed in names)} or name.endswith(".localhost"):
        return True
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def read_chunks(stream: BufferedIOBase) -> bytes:
    """Read a chunked body. Stop as soon as it is too large."""
    body = bytearray()
    while size := parse_chunk_size(stream.readline(1_024)):
        check_size(len(body) + size)
        body += read_exactly(stream, size)
        stream.readline(3)  # the line end after a chunk
    for _ in range(MAX_TRAILERS):
        if not stream.readline(1_024).strip():  # the empty line that ends the trailers
            return bytes(body)
    raise RequestRefused(400, "The chunked body has too many trailers.", closes_connection=True)


def read_exactly(stream: BufferedIOBase, size: int) -> bytes:
    """Read ``size`` bytes.

    Raises:
        ConnectionError: The client closed the connection earlier. An incomplete body is not processed.
    """
    body = stream.read(size)
    if len(body) < size:
        raise ConnectionError("the client closed the connection before the end of the body")
    return body


def parse_chunk_size(line: bytes) -> int:
    """Return the size in bytes from the first line of a chunk.

    Raises:
        RequestRefused: 400, if it is not a hexadecimal number.
    """
    digits = line.split(b";")[0].strip()
    if not re.fullmatch(rb"[0-9a-fA-F]{1,16}", digits):
        raise RequestRefused(400, "The chunked body is malformed.", closes_connection=True)
    return int(digits, 16)


def check_size(size: int) -> None:
    """Refuse a body (413) that is larger than the contract allows."""
    if size > MAX_BODY_BYTES:
        raise RequestRefused(413, f"The body is over {MAX_BODY_BYTES} bytes.", closes_connection=True)


def declared_length(headers: Message[str, str]) -> int:
    """Return the Content-Length of a request, or 0 if it is missing or not a number."""
    length = headers.get("Content-Length", "").strip()
    return int(length) if re.fullmatch(r"[0-9]{1,18}", length) else 0


# --- The server ---------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """A server with one thread for each connection. Unlike its base class, it can close open connections.

    Args:
        address: Host and port to listen on. Port 0 means any free port.
        current_api: Function that returns the :class:`Api` for the next request.
        on_event: Function that is called with each arrival after its response is known.
        allowed_hosts: Names in the Host header that are accepted beside those of this machine.
        control: The control of the sandbox, or None to serve only the API.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        current_api: Callable[[], Api],
        on_event: Callable[[Arrival], object],
        allowed_hosts: Collection[str] = (),
        control: Control | None = None,
    ) -> None:
        self.allowed_hosts = allowed_hosts
        self.control = control
        self.history = control.history if control else None
        self.current_api = current_api
        self.on_event = on_event
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__(address, RequestHandler)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(SHUTDOWN_POLL_SECONDS,), name="evermuse-sandbox", daemon=True
        )

    def server_bind(self) -> None:
        """Bind the socket without the DNS lookup of the base class, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)

    def start(self) -> None:
        """Serve requests in a background thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and close every open connection, idle ones too."""
        self.shutdown()
        self.server_close()
        with self._connections_lock:
            for connection in self._connections:
                disconnect(connection)
        self._thread.join()

    # In the next three methods, the standard library calls a connection a request.

    def process_request(self, request: Any, client_address: Any) -> None:
        """Register a new connection and serve it in a thread."""
        with self._connections_lock:
            is_full = len(self._connections) >= MAX_CONNECTIONS
            if not is_full:
                self._connections.add(request)
        if is_full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Unregister a connection that has ended."""
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the traceback of an error, unless the client only closed the connection."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def disconnect(connection: socket.socket) -> None:
    """Shut down both directions of a connection. A thread that reads from it gets the end of the stream."""
    with contextlib.suppress(OSError):  # it is already closed
        connection.shutdown(socket.SHUT_RDWR)
