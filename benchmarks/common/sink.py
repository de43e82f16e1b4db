"""An Evermuse that only counts: every record is taken, every batch completes, every arrival is noted.

``python -m benchmarks.common.sink --delay 0.3`` prints its URL and serves until it is told to stop. It looks at
no record, so that what is measured is the outbox; ``manage.py evermuse_sandbox`` is the one that judges.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tqdm import tqdm

from . import processes

ROOT = "/api/v1/ingest"
IDENTITY = re.compile(rb'"desk": ?"(message-\d+)"')


@dataclass
class Books:
    """All that came in. Times are in seconds since the epoch, at the moment when a request's head was read."""

    delay: float
    complete_after: float
    sends: list[tuple[float, int, int, str]] = field(default_factory=list)
    reads: list[tuple[float, str]] = field(default_factory=list)
    repeated: int = 0
    batches: list[dict[str, Any]] = field(default_factory=list)
    by_key: dict[str, dict[str, Any]] = field(default_factory=dict)
    identities: dict[str, float] | None = None
    again: int = 0

    def look_at(self, at: float, body: bytes) -> None:
        """Notes when which of the records of :mod:`.records` came first, and how many had come before."""
        if self.identities is not None:
            for identity in map(bytes.decode, IDENTITY.findall(body)):
                self.again += identity in self.identities
                self.identities.setdefault(identity, at)

    def take(self, at: float, key: str, records: int, size: int, product: str) -> dict[str, Any]:
        """A batch; the same answer for the same key."""
        if key in self.by_key:
            self.repeated += 1
            return self.by_key[key]
        self.sends.append((at, records, size, product))
        batch = {"batchId": f"bat_{len(self.batches)}", "records": records, "at": at}
        self.batches.append(batch)
        self.by_key[key] = batch
        return batch

    def status(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch as Evermuse shows it."""
        done = time.time() - batch["at"] >= self.complete_after
        return {
            "batchId": batch["batchId"],
            "status": "COMPLETE" if done else "PROCESSING",
            "acceptedCount": batch["records"],
            "rejectedCount": 0,
            "totalErrorCount": 0,
            "errors": [],
            "createdAt": int(batch["at"] * 1000),
            "attachmentDownloadStatus": "NONE",
        }

    def read(self, at: float, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        """The listing, or one batch."""
        if path == f"{ROOT}/batches":
            self.reads.append((at, "listing"))
            end = int(query.get("cursor", [str(len(self.batches))])[0])
            start = max(0, end - int(query.get("limit", ["20"])[0]))
            page = [self.status(batch) for batch in reversed(self.batches[start:end])]
            return 200, {"batches": page, "nextCursor": str(start) if start else None}
        self.reads.append((at, "status"))
        number = path.rsplit("_", 1)[-1]
        if not number.isdigit() or int(number) >= len(self.batches):
            return 404, {"error": "NOT_FOUND", "message": "no such batch"}
        return 200, self.status(self.batches[int(number)])

    def figures(self) -> dict[str, Any]:
        """What the benchmark reads at the end."""
        known = {"sends": self.sends, "reads": self.reads, "repeated": self.repeated}
        return known | {"distinct": len(self.identities or ()), "again": self.again}


class Connection(asyncio.Protocol):
    """HTTP/1.1 with Content-Length and keep-alive, as much as our client speaks."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.head = b""
        self.left: int | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.left is None:
            self.head += data
            if b"\r\n\r\n" not in self.head:
                return
            head, data = self.head.split(b"\r\n\r\n", 1)
            self._begin(head.decode("latin-1"))
        self.left -= len(data)
        if self.books.identities is not None:
            self.body.append(data)
        self.lines += data.count(b"\n")
        if not self.product and (found := data.find(b'"_product_id":"')) >= 0:
            self.product = data[found + 15 : data.find(b'"', found + 15)].decode()
        if self.left <= 0:
            self.head, self.left = b"", None
            asyncio.get_running_loop().call_later(self._delay(), self._answer)

    def _begin(self, head: str) -> None:
        first, *lines = head.split("\r\n")
        self.at = time.time()
        self.method, self.target, _ = first.split(" ", 2)
        named = dict(line.split(": ", 1) for line in lines)
        self.headers = {name.lower(): value for name, value in named.items()}
        self.left = self.size = int(self.headers.get("content-length", 0))
        self.lines, self.product = 0, ""
        self.body: list[bytes] = []

    def _delay(self) -> float:
        return 0 if self.target in ("/figures", "/arrivals") else self.books.delay

    def _answer(self) -> None:
        at = urlsplit(self.target)
        if self.method == "POST":
            self.books.look_at(self.at, b"".join(self.body))
            batch = self.books.take(
                self.at, self.headers.get("idempotency-key", ""), self.lines, self.size, self.product
            )
            counts = {
                "acceptedCount": batch["records"],
                "rejectedCount": 0,
                "totalErrorCount": 0,
                "errors": [],
            }
            status, told = 202, {"batchId": batch["batchId"], "status": "QUEUED"} | counts
        elif at.path == "/figures":
            status, told = 200, self.books.figures()
        elif at.path == "/arrivals":
            status, told = 200, self.books.identities
        else:
            status, told = self.books.read(self.at, at.path, parse_qs(at.query))
        body = json.dumps(told).encode()
        head = (
            f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)


@dataclass(frozen=True)
class Sink:
    """A running sink: its URL, its process, and what it has counted."""

    url: str
    process: subprocess.Popen

    def figures(self) -> dict[str, Any]:
        """``sends`` as [time, records, bytes, product id], ``reads`` as [time, kind], ``repeated`` keys.

        ``distinct`` records and how many came ``again``, where identities are looked at (else 0).
        """
        return self._get("/figures")

    def arrivals(self) -> dict[str, float]:
        """When each record came first, where identities are looked at: seconds since the epoch."""
        return self._get("/arrivals")

    def wait_for(self, records: int, title: str = "deliver", *, after: int = 0) -> dict[str, Any]:
        """The figures once so many records have come, not counting those of the first ``after`` sends. Shows a bar."""
        with tqdm(total=records, unit=" records", desc=title, file=sys.stderr) as bar:
            while True:
                figures = self.figures()
                bar.n = sum(send[1] for send in figures["sends"][after:])
                bar.refresh()
                if bar.n >= records:
                    return figures
                time.sleep(0.5)

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}") as answer:
            return json.load(answer)


@contextmanager
def running(*, delay: float = 0.005, complete_after: float = 2.0, identities: bool = False) -> Iterator[Sink]:
    """A sink in a process of its own; answers take ``delay`` seconds, batches ``complete_after``.

    With ``identities`` it looks at each record, to tell whether one came twice.
    """
    command = [sys.executable, "-m", "benchmarks.common.sink"]
    options = ["--delay", str(delay), "--complete-after", str(complete_after)]
    options += ["--identities"] if identities else []
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        yield Sink(process.stdout.readline().strip(), process)
    finally:
        processes.end([process])


def most_in_a_second(arrivals: list[float]) -> int:
    """The most arrivals in any sliding second."""
    ordered, most, first = sorted(arrivals), 0, 0
    for last, moment in enumerate(ordered):
        while moment - ordered[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


async def _serve(books: Books, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(books), "127.0.0.1", port)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--delay", type=float, default=0.005, metavar="S", help="seconds an answer takes")
    parser.add_argument(
        "--complete-after", type=float, default=2.0, metavar="S", help="seconds a batch takes"
    )
    parser.add_argument("--identities", action="store_true", help="note which records came")
    options = parser.parse_args()
    books = Books(options.delay, options.complete_after, identities={} if options.identities else None)
    asyncio.run(_serve(books, options.port))


if __name__ == "__main__":
    main()
