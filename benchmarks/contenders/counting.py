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
    at, counts, ready = urlsplit(database_url), Counter[str](), threading.Event()
    loop, ports = asyncio.new_event_loop(), []

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection(at.hostname, at.port or 5432)
        await _greet(reader, writer, upstream[1])
        tally = Tally(counts)
        await asyncio.gather(_pass(reader, upstream[1]), _pass(upstream[0], writer, tally))

    async def serve() -> None:
        server = await asyncio.start_server(client, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        serving = loop.create_task(serve())
        loop.run_forever()
        serving.cancel()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    who, _, _ = at.netloc.rpartition("@")
    try:
        yield urlunsplit(at._replace(netloc=f"{who}@127.0.0.1:{ports[0]}")), counts
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop)
        loop.call_soon_threadsafe(loop.call_later, 0.1, loop.stop)
        thread.join()
        loop.close()


async def _cancel_all() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


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
