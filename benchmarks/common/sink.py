"""An API in place of Evermuse that accepts every record, completes every batch, and stores the time of each request.

``python -m benchmarks.common.sink --delay 0.3`` prints its URL and runs until it is stopped.

The sink does not validate records, so it uses little CPU time beside the outbox that is measured. To test with
validation, use ``manage.py evermuse_sandbox``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
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
class RequestLog:
    """All requests that the sink has received.

    Times are in seconds since the epoch, at the moment when the head of the request was read, or later: ``jitter`` is
    the maximum of a random time by which the network delays each request.

    ``delay`` is the response time in seconds, after the delay of the network. A batch is complete ``complete_after``
    seconds after it was sent. ``sends`` are (time, records, bytes, product id), and ``reads`` are (time, kind).
    ``repeated`` counts sends with a known idempotency key. ``identities`` maps records to the time of their first
    arrival, or is None if records are not looked at. ``duplicates`` counts records that arrived again.
    """

    delay: float
    complete_after: float
    sends: list[tuple[float, int, int, str]] = field(default_factory=list)
    reads: list[tuple[float, str]] = field(default_factory=list)
    repeated: int = 0
    batches: list[dict[str, Any]] = field(default_factory=list)
    by_key: dict[str, dict[str, Any]] = field(default_factory=dict)
    identities: dict[str, float] | None = None
    duplicates: int = 0
    jitter: float = 0.0

    def note_identities(self, at: float, body: bytes) -> None:
        """Store the first arrival of each record of :mod:`.records`, and count the records that arrived before."""
        if self.identities is not None:
            for identity in map(bytes.decode, IDENTITY.findall(body)):
                self.duplicates += identity in self.identities
                self.identities.setdefault(identity, at)

    def accept(self, at: float, key: str, records: int, size: int, product: str) -> dict[str, Any]:
        """Return a new batch, or the existing one if the idempotency key is known."""
        if key in self.by_key:
            self.repeated += 1
            return self.by_key[key]
        self.sends.append((at, records, size, product))
        batch = {"batchId": f"bat_{len(self.batches)}", "records": records, "at": at}
        self.batches.append(batch)
        self.by_key[key] = batch
        return batch

    def status(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the status of a batch in the format of Evermuse."""
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
        """Return status code and body for the listing of batches or for one batch."""
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
        """Return everything that a benchmark reads at the end."""
        requests = {"sends": self.sends, "reads": self.reads, "repeated": self.repeated}
        return requests | {"distinct": len(self.identities or ()), "again": self.duplicates}

    def counts(self) -> dict[str, int]:
        """Return the numbers of requests and of records, which are much shorter than :meth:`figures`."""
        return {
            "sends": len(self.sends),
            "reads": len(self.reads),
            "distinct": len(self.identities or ()),
            "again": self.duplicates,
        }


class Connection(asyncio.Protocol):
    """An HTTP/1.1 connection with Content-Length and keep-alive. The client of the outbox needs no more."""

    def __init__(self, log: RequestLog) -> None:
        self.log = log
        self.head = b""
        self.remaining: int | None = None  # bytes of the body; None while the head is read

    def connection_made(self, transport: Any) -> None:
        """Store the transport for the responses."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Read a part of a request, and schedule the response when the request is complete."""
        if self.remaining is None:
            self.head += data
            if b"\r\n\r\n" not in self.head:
                return
            head, data = self.head.split(b"\r\n\r\n", 1)
            self._begin(head.decode("latin-1"))
        self.remaining -= len(data)
        if self.log.identities is not None:
            self.body.append(data)
        self.lines += data.count(b"\n")
        if not self.product and (start := data.find(b'"_product_id":"')) >= 0:
            self.product = data[start + 15 : data.find(b'"', start + 15)].decode()
        if self.remaining <= 0:
            self.head, self.remaining = b"", None
            asyncio.get_running_loop().call_later(self._delay(), self._answer)

    def _begin(self, head: str) -> None:
        first, *lines = head.split("\r\n")
        self.travel = random.uniform(0, self.log.jitter)
        self.at = time.time() + self.travel
        self.method, self.target, _ = first.split(" ", 2)
        fields = dict(line.split(": ", 1) for line in lines)
        self.headers = {name.lower(): value for name, value in fields.items()}
        self.remaining = self.size = int(self.headers.get("content-length", 0))
        self.lines, self.product = 0, ""
        self.body: list[bytes] = []

    def _delay(self) -> float:
        return 0 if self.target in ("/figures", "/counts", "/arrivals") else self.travel + self.log.delay

    def _answer(self) -> None:
        target = urlsplit(self.target)
        if self.method == "POST":
            self.log.note_identities(self.at, b"".join(self.body))
            batch = self.log.accept(
                self.at, self.headers.get("idempotency-key", ""), self.lines, self.size, self.product
            )
            counts = {
                "acceptedCount": batch["records"],
                "rejectedCount": 0,
                "totalErrorCount": 0,
                "errors": [],
            }
            status, content = 202, {"batchId": batch["batchId"], "status": "QUEUED"} | counts
        elif target.path == "/figures":
            status, content = 200, self.log.figures()
        elif target.path == "/counts":
            status, content = 200, self.log.counts()
        elif target.path == "/arrivals":
            status, content = 200, self.log.identities
        else:
            status, content = self.log.read(self.at, target.path, parse_qs(target.query))
        body = json.dumps(content).encode()
        head = (
            f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)


@dataclass(frozen=True)
class Sink:
    """A running sink, as the benchmarks see it: its URL, its process, and the requests it has received."""

    url: str
    process: subprocess.Popen

    def figures(self) -> dict[str, Any]:
        """Return the requests so far.

        ``sends`` are [time, records, bytes, product id], ``reads`` are [time, kind], and ``repeated`` counts sends
        with a known idempotency key. With identities, ``distinct`` counts the records, and ``again`` the records that
        arrived more than once.
        """
        return self._get("/figures")

    def counts(self) -> dict[str, int]:
        """Return the numbers of ``sends`` and ``reads``, and with identities ``distinct`` and ``again``."""
        return self._get("/counts")

    def arrivals(self) -> dict[str, float]:
        """Return {record: time of its first arrival}, in seconds since the epoch. Needs identities."""
        return self._get("/arrivals")

    def wait_for(self, records: int, title: str = "deliver", *, after: int = 0) -> dict[str, Any]:
        """Wait until that many records have arrived, and return the figures. Shows a progress bar.

        The records of the first ``after`` sends do not count.
        """
        with tqdm(total=records, unit=" records", desc=title, file=sys.stderr) as bar:
            while True:
                figures = self.figures()
                bar.n = sum(send[1] for send in figures["sends"][after:])
                bar.refresh()
                if bar.n >= records:
                    return figures
                time.sleep(0.5)

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}") as response:
            return json.load(response)


@contextmanager
def running(
    *, delay: float = 0.005, complete_after: float = 2.0, identities: bool = False, jitter: float = 0.0
) -> Iterator[Sink]:
    """Run a sink in a new process, and stop it at the end.

    Args:
        delay: Response time in seconds.
        complete_after: Seconds until a batch is complete.
        identities: Look at each record, so that duplicates are counted and arrivals are stored.
        jitter: Maximum seconds by which each request arrives later.
    """
    command = [sys.executable, "-m", "benchmarks.common.sink"]
    options = ["--delay", str(delay), "--complete-after", str(complete_after)]
    options += ["--jitter", str(jitter)]
    options += ["--identities"] if identities else []
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        yield Sink(process.stdout.readline().strip(), process)
    finally:
        processes.end([process])


def max_per_sliding_second(arrivals: list[float]) -> int:
    """Return the highest number of arrivals in any period of one second."""
    ordered, highest, first = sorted(arrivals), 0, 0
    for last, moment in enumerate(ordered):
        while moment - ordered[first] >= 1.0:
            first += 1
        highest = max(highest, last - first + 1)
    return highest


async def _serve(log: RequestLog, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(log), "127.0.0.1", port)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Run the sink that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port (default: any free port)")
    parser.add_argument(
        "--delay", type=float, default=0.005, metavar="SECONDS", help="response time (default: %(default)s)"
    )
    parser.add_argument(
        "--complete-after",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="time until a batch is complete (default: %(default)s)",
    )
    parser.add_argument(
        "--jitter",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="maximum of a random time by which each request arrives later (default: %(default)s)",
    )
    parser.add_argument("--identities", action="store_true", help="look at each record and count duplicates")
    options = parser.parse_args()
    log = RequestLog(
        options.delay,
        options.complete_after,
        identities={} if options.identities else None,
        jitter=options.jitter,
    )
    asyncio.run(_serve(log, options.port))


if __name__ == "__main__":
    main()
