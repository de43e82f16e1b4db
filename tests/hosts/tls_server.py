"""A server that ends TLS in front of another server, as the real API has it."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator

from tests.tls import server_context

BYTES = 65_536


@contextlib.contextmanager
def tls_in_front_of(address: tuple[str, int]) -> Iterator[tuple[str, int]]:
    """Yield the address of a TLS server that passes each connection on to ``address``."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                contextlib.suppress(OSError),
                server_context().wrap_socket(self.request, server_side=True) as client,
                socket.create_connection(address) as server,
            ):
                back = threading.Thread(target=copy, args=(server, client), daemon=True)
                back.start()
                copy(client, server)
                back.join(10)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as front:
        front.daemon_threads = True
        threading.Thread(target=front.serve_forever, daemon=True).start()
        yield front.server_address[:2]
        front.shutdown()


def copy(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until the source ends; then end the target."""
    with contextlib.suppress(OSError):
        while data := source.recv(BYTES):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
