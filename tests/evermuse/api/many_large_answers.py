"""Print by how many megabytes a process grows in which many senders get hostile answers of 8 MB at the same time.

Run it with ``python -m tests.evermuse.api.many_large_answers 16``; the number is that of the senders.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
import threading

from evermuse_outbox.evermuse import TransportError
from evermuse_outbox.evermuse.api import Client, classify_send
from evermuse_outbox.evermuse.api.client import MAX_ANSWER_BYTES

BODY = b'{"a":[' + b'{"":0},' * ((MAX_ANSWER_BYTES - 20) // 7) + b"0]}"
HEAD = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY)


def serve(listener):
    """Answer each connection in a thread of its own."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=[connection], daemon=True).start()


def answer(connection):
    """Read a request and send the hostile answer."""
    with contextlib.suppress(OSError), connection:
        connection.recv(65_536)
        connection.sendall(HEAD)
        connection.sendall(BODY)


def send(port):
    """Send twice, and classify what comes."""
    client = Client(f"http://127.0.0.1:{port}", lambda: "em_sk_x", 30)
    for _ in range(2):
        with contextlib.suppress(TransportError):
            classify_send(client.ingest(b"{}\n", content_type="application/x-ndjson", key="k"), 1)
    client.close()


def peak():
    """Return the largest size of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main():
    """Run the senders and print the growth."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    threading.Thread(target=serve, args=[listener], daemon=True).start()
    before, senders = peak(), int(sys.argv[1])
    threads = [threading.Thread(target=send, args=[listener.getsockname()[1]]) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(f"{peak() - before}\n")


if __name__ == "__main__":
    main()
