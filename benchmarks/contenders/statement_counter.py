"""Counts every SQL statement on its way to PostgreSQL, whoever sends it and by whatever driver.

It stands between as a server of its own and reads what the database answers: each statement that came to its
end is told by exactly one ``CommandComplete`` with its name (PostgreSQL's documentation, "Message Formats").
Nothing is configured on the server, and nothing in the processes that are counted.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

AROUND = frozenset({"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "START"})
"""Statements that only hold others together."""

ENCRYPTION = (80877103, 80877104)
"""Codes of SSLRequest and GSSENCRequest: refused, so that the rest can be read."""


class Tally:
    """The names of the statements in a stream of a server's messages, fed in pieces."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """The next bytes from the server."""
        self._rest += data
        start = 0
        while (end := self._end(start)) is not None:
            if self._rest[start : start + 1] == b"C":
                self._counts[self._rest[start + 5 : end - 1].split(b" ")[0].decode()] += 1
            start = end
        self._rest = self._rest[start:]

    def _end(self, start: int) -> int | None:
        """Where the message at ``start`` ends; None while it is not all here."""
        if len(self._rest) < start + 5:
            return None
        end = start + 1 + int.from_bytes(self._rest[start + 1 : start + 5], "big")
        return end if end <= len(self._rest) else None


def split(counts: Counter[str]) -> tuple[int, int]:
    """Statements that do something, and those that only hold them together."""
    around = sum(counts[name] for name in AROUND)
    return counts.total() - around, around


@contextmanager
def counting(database_url: str) -> Iterator[tuple[str, Counter[str]]]:
    """A URL that leads to the same database, and the counts so far, by name."""
    at = urlsplit(database_url)
    between = _Between(at.hostname or "127.0.0.1", at.port or 5432)
    thread = threading.Thread(target=lambda: asyncio.run(between.serve()), daemon=True)
    thread.start()
    who = at.netloc.rpartition("@")[0]
    try:
        yield urlunsplit(at._replace(netloc=f"{who}@127.0.0.1:{between.port.result()}")), between.counts
    finally:
        between.end()
        thread.join()


class _Between:
    """The server in between; ``port`` is known once it serves."""

    def __init__(self, *database: str | int) -> None:
        self.counts: Counter[str] = Counter()
        self.port: Future[int] = Future()
        self._database = database

    async def serve(self) -> None:
        """Until it is told to end; then all its connections end, too."""
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port.set_result(server.sockets[0].getsockname()[1])
        await self._over.wait()

    def end(self) -> None:
        """For another thread."""
        self._loop.call_soon_threadsafe(self._over.set)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_database, to_database = await asyncio.open_connection(*self._database)
        with suppress(asyncio.CancelledError, asyncio.IncompleteReadError):
            await _greet(reader, writer, to_database)
            ways = _pass(reader, to_database), _pass(from_database, writer, Tally(self.counts))
            await asyncio.gather(*ways)


async def _greet(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: asyncio.StreamWriter
) -> None:
    """Passes the start-up message on, after each wish for encryption has been refused."""
    while True:
        head = await reader.readexactly(8)
        if int.from_bytes(head[4:], "big") not in ENCRYPTION:
            upstream.write(head)
            return
        writer.write(b"N")


async def _pass(
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
