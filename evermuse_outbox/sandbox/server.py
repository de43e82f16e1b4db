"""HTTP and nothing else: sockets, keep-alive, bodies of any shape, and the answers of an `Api`."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any

from .responses import Answer, Refusal
from .api import Api, Arrival
from .contract import MAX_BODY_BYTES

# What is thrown away after a refusal that left a body unread. Closing at once would reset the connection,
# and the client would never see why.
LINGER_BYTES = 16 * MAX_BODY_BYTES
LINGER_SECONDS = 2.0


class Connection(BaseHTTPRequestHandler):
    """One connection of a client, kept alive over many requests."""

    protocol_version = "HTTP/1.1"
    server_version = "EvermuseSandbox"
    disable_nagle_algorithm = True  # TCP_NODELAY: small answers leave at once
    wbufsize = -1  # head and body of an answer in one packet
    server: Server

    def serve(self) -> None:
        """Answer one request."""
        api = self.server.api()
        arrival = api.arrive(self.command, self.path, self.headers)
        answer = api.answer(arrival, self._body(arrival))
        self.server.on_event(arrival)
        if answer is None:
            self.close_connection = True
        else:
            self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = serve  # noqa: N815

    def _body(self, arrival: Arrival) -> bytes:
        """The body; empty where it cannot be read, with the refusal in the arrival."""
        try:
            return read_body(self.rfile, self.headers)
        except Refusal as refusal:
            # Whatever else is wrong with it: the rest of this connection cannot be understood.
            self.close_connection = True
            arrival.size = claimed_length(self.headers)
            arrival.refuse(refusal)
            return b""

    def _send(self, answer: Answer) -> None:
        closes = answer.closes or self.close_connection
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        if closes:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        if closes:
            self._linger()

    def _linger(self) -> None:
        """Say that nothing more will come, and let the client finish what it is sending."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(LINGER_SECONDS)
        left = LINGER_BYTES
        while left > 0 and (read := len(self.rfile.read1(65_536))):
            left -= read

    def handle_expect_100(self) -> bool:
        """Let a client that asks first go on, at once: answers are buffered here."""
        goes_on = super().handle_expect_100()
        self.wfile.flush()
        return goes_on

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library finds wrong with a request, in the published envelope."""
        status = 405 if code == 501 else code  # a method that it has never heard of
        self.request_version = self.protocol_version  # or an unreadable line gets an answer without a head
        self.close_connection = True
        self._send(Refusal(status, message or "This is no request that HTTP knows.").answer())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: `on_event` has it all."""


def read_body(stream: BufferedIOBase, headers: Message[str, str]) -> bytes:
    """The body of a request, by its length or in chunks; Refusal (400, 413) with bytes left unread."""
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        return read_chunks(stream)
    length = headers.get("Content-Length", "0").strip()
    if not re.fullmatch(r"[0-9]+", length):
        raise Refusal(400, "Content-Length is no number.", closes=True)
    check_size(int(length))
    return read_exactly(stream, int(length))


def read_chunks(stream: BufferedIOBase) -> bytes:
    """A chunked body; stops reading as soon as it is too large."""
    body = bytearray()
    while size := chunk_size(stream.readline(1_024)):
        check_size(len(body) + size)
        body += read_exactly(stream, size)
        stream.readline(3)  # the line end after a chunk
    while stream.readline(65_536).strip():  # trailers, and the empty line that ends them
        pass
    return bytes(body)


def read_exactly(stream: BufferedIOBase, size: int) -> bytes:
    """`size` bytes; ConnectionError where the client went away first, for half a body is none."""
    body = stream.read(size)
    if len(body) < size:
        raise ConnectionError("the client went away while sending")
    return body


def chunk_size(line: bytes) -> int:
    """The size in bytes that a chunk's first line announces."""
    digits = line.split(b";")[0].strip()
    if not re.fullmatch(rb"[0-9a-fA-F]{1,16}", digits):
        raise Refusal(400, "The chunked body is broken.", closes=True)
    return int(digits, 16)


def check_size(size: int) -> None:
    """Refusal (413) over 5 MB."""
    if size > MAX_BODY_BYTES:
        raise Refusal(413, f"The body is over {MAX_BODY_BYTES} bytes.", closes=True)


def claimed_length(headers: Message[str, str]) -> int:
    """The length that a request says it has; 0 where it says nothing that makes sense."""
    length = headers.get("Content-Length", "").strip()
    return int(length) if re.fullmatch(r"[0-9]{1,18}", length) else 0


class Server(ThreadingHTTPServer):
    """A thread for each connection; `stop` ends them all at once, idle ones too."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], api: Callable[[], Api], on_event: Callable[[Arrival], object]
    ) -> None:
        self.api = api
        self.on_event = on_event
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(address, Connection)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.02,), name="evermuse-sandbox", daemon=True
        )

    def server_bind(self) -> None:
        """Bind without the standard library's look-up of the host's full name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)

    def start(self) -> None:
        """Begin to serve in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and cut every open connection; returns within some hundredths of a second."""
        self.shutdown()
        self.server_close()
        with self._open_lock:
            for connection in self._open:
                cut(connection)
        self._thread.join()

    # Both names are the standard library's.
    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember a connection while it is open."""
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that has ended."""
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is no error; anything else is printed with its traceback."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def cut(connection: socket.socket) -> None:
    """End a connection in both directions, whoever is reading from it."""
    with contextlib.suppress(OSError):  # already gone
        connection.shutdown(socket.SHUT_RDWR)
