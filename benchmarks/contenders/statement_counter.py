"""Count the SQL statements that any process sends to PostgreSQL, with any driver.

A proxy passes the bytes between the processes and the database, and reads the answers of the database. PostgreSQL
answers each completed statement with exactly one ``CommandComplete`` message, which contains the statement's name
(PostgreSQL documentation, "Message Formats"). Only the database URL of the processes must be changed.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

TRANSACTION_STATEMENTS = frozenset({"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "START"})
"""Statements that only begin and end transactions and savepoints."""

ENCRYPTION_REQUESTS = (80877103, 80877104)
"""Codes of SSLRequest and GSSENCRequest. The proxy refuses them, so that it can read the messages."""


class Tally:
    """Counts the statements by name in a stream of messages from the database."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._buffer = b""

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the stream. They can end inside of a message."""
        self._buffer += data
        start = 0
        while (end := self._end(start)) is not None:
            if self._buffer[start : start + 1] == b"C":
                self._counts[self._buffer[start + 5 : end - 1].split(b" ")[0].decode()] += 1
            start = end
        self._buffer = self._buffer[start:]

    def _end(self, start: int) -> int | None:
        """Return the end of the message at ``start``, or None if the message is not complete yet."""
        if len(self._buffer) < start + 5:
            return None
        end = start + 1 + int.from_bytes(self._buffer[start + 1 : start + 5], "big")
        return end if end <= len(self._buffer) else None


def split(counts: Counter[str]) -> tuple[int, int]:
    """Return the number of other statements, and the number of transaction statements."""
    transactional = sum(counts[name] for name in TRANSACTION_STATEMENTS)
    return counts.total() - transactional, transactional


@contextmanager
def counting(database_url: str) -> Iterator[tuple[str, Counter[str]]]:
    """Run a proxy in a thread. Yield its database URL, and a counter of the statements by name."""
    database = urlsplit(database_url)
    proxy = _Proxy(database.hostname or "127.0.0.1", database.port or 5432)
    thread = threading.Thread(target=lambda: asyncio.run(proxy.serve()), daemon=True)
    thread.start()
    credentials = database.netloc.rpartition("@")[0]
    try:
        yield (
            urlunsplit(database._replace(netloc=f"{credentials}@127.0.0.1:{proxy.port.result()}")),
            proxy.counts,
        )
    finally:
        proxy.stop()
        thread.join()


class _Proxy:
    """A proxy server before the database. The result of ``port`` is set when the server listens."""

    def __init__(self, *database: str | int) -> None:
        self.counts: Counter[str] = Counter()
        self.port: Future[int] = Future()
        self._database = database

    async def serve(self) -> None:
        """Accept connections until :meth:`stop` is called. Then all connections are closed."""
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port.set_result(server.sockets[0].getsockname()[1])
        await self._stopped.wait()

    def stop(self) -> None:
        """Stop the server. Call it from another thread."""
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_database, to_database = await asyncio.open_connection(*self._database)
        with suppress(asyncio.CancelledError, asyncio.IncompleteReadError):
            await _refuse_encryption(reader, writer, to_database)
            await asyncio.gather(_copy(reader, to_database), _copy(from_database, writer, Tally(self.counts)))


async def _refuse_encryption(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: asyncio.StreamWriter
) -> None:
    """Refuse all requests for encryption, then pass the start-up message on."""
    while True:
        head = await reader.readexactly(8)
        if int.from_bytes(head[4:], "big") not in ENCRYPTION_REQUESTS:
            upstream.write(head)
            return
        writer.write(b"N")


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tally: Tally | None = None
) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            if tally:
                tally.feed(data)
            writer.write(data)
            await writer.drain()
    with suppress(ConnectionError, RuntimeError):
        writer.close()
