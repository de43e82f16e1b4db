"""The last requests with their bodies, in bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, Protocol

from ..faults import RequestContent

HIDDEN_HEADERS = {"x-api-key", "authorization", "cookie", "proxy-authorization"}
"""Headers whose values are secret. Only their length is kept."""

OVERHEAD_BYTES = 1_000
"""Bytes that are counted for each request beside its body, headers and response: the objects that hold them."""

MAX_NAME = 1_024
"""Characters that are kept of a ``_type`` and a ``_product_id``."""

MAX_RESPONSE_BYTES = 65_536
"""Bytes of a response that are kept. A listing can be longer."""


class ReceivedRequest(Protocol):
    """What the history needs of a request and its result."""

    method: str
    path: str
    at: float
    answered_at: float | None
    headers: Message[str, str]
    type: str
    status: int | None
    batch_id: str
    errors: Sequence[dict[str, Any]]


@dataclass
class Entry:
    """A request that is kept.

    Attributes:
        number: Position among all requests, from 1.
        arrival: The request and its result.
        headers: Names and values, without secret values.
        type, product_id: What its records share, also if the request was refused before it was processed.
        errors: Errors of its records.
        size: Bytes that it counts for.
        is_finished: The response was sent, or the connection was closed.
        is_forgotten: It is no longer kept.
    """

    number: int
    arrival: Any
    headers: list[tuple[str, str]]
    type: str = ""
    product_id: str = ""
    body: bytes = b""
    response: bytes = b""
    response_size: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0
    is_finished: bool = False
    is_forgotten: bool = False


class History:
    """The last requests. Writes and reads are kept separately, so that many reads do not remove the writes.

    Args:
        max_requests: Requests of each kind that are kept.
        max_bytes: Bytes that are kept. The newest request is kept even if it is larger.
    """

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._writes: deque[Entry] = deque()
        self._reads: deque[Entry] = deque()
        self.total = 0
        self.size = 0
        self.forgotten = 0

    def begin(self, arrival: ReceivedRequest) -> Entry:
        """Keep a request whose body has not been read yet."""
        headers = [(name, mask(name, value)) for name, value in arrival.headers.items()]
        with self._lock:
            self.total += 1
            entry = Entry(self.total, arrival, headers)
            (self._writes if arrival.method == "POST" else self._reads).append(entry)
            size = len(arrival.path) + sum(len(name) + len(value) for name, value in headers)
            self._resize(entry, OVERHEAD_BYTES + size)
        return entry

    def finish(self, entry: Entry, body: bytes, response: bytes) -> None:
        """Add the body and the response to a request, and forget the oldest requests above the limits."""
        record: Mapping[str, Any] = (
            {} if entry.arrival.type or not body else RequestContent(body).first_record
        )
        with self._lock:
            entry.type = entry.arrival.type or text_of(record.get("_type"))[:MAX_NAME]
            entry.product_id = entry.arrival.product_id or text_of(record.get("_product_id"))[:MAX_NAME]
            entry.body, entry.response = body, response[:MAX_RESPONSE_BYTES]
            entry.response_size = len(response)
            entry.errors = list(entry.arrival.errors)
            entry.is_finished = True
            messages = sum(200 + len(str(error.get("message"))) for error in entry.errors)
            if not entry.is_forgotten:
                self._resize(entry, entry.size + len(body) + len(entry.response) + messages)

    def entries(self) -> list[Entry]:
        """Return the requests that are kept, the newest first."""
        with self._lock:
            entries = [*self._writes, *self._reads]
        return sorted(entries, key=lambda entry: entry.number, reverse=True)

    def get(self, number: int) -> Entry | None:
        """Return a request by its number, or None if it was forgotten."""
        return next((entry for entry in self.entries() if entry.number == number), None)

    def clear(self) -> None:
        """Forget every request."""
        with self._lock:
            for entries in (self._writes, self._reads):
                while entries:
                    self._forget_oldest(entries)

    def counts(self) -> dict[str, int]:
        """Return how many requests and bytes are kept, and the limits."""
        with self._lock:
            return {
                "total": self.total,
                "kept": len(self._writes) + len(self._reads),
                "forgotten": self.forgotten,
                "bytes": self.size,
                "max_requests": self.max_requests,
                "max_bytes": self.max_bytes,
            }

    def _resize(self, entry: Entry, size: int) -> None:
        self.size += size - entry.size
        entry.size = size
        for entries in (self._writes, self._reads):
            while len(entries) > self.max_requests:
                self._forget_oldest(entries)
        while self.size > self.max_bytes and len(self._writes) + len(self._reads) > 1:
            # Writes take the memory. Reads are small, so to forget them first would free little.
            self._forget_oldest(self._writes if len(self._writes) > 1 else self._reads or self._writes)

    def _forget_oldest(self, entries: deque[Entry]) -> None:
        entry = entries.popleft()
        entry.is_forgotten = True
        self.size -= entry.size
        self.forgotten += 1


def text_of(value: object) -> str:
    """Return a text, or an empty one if the value is none."""
    return value if isinstance(value, str) else ""


def mask(name: str, value: str) -> str:
    """Return the value of a header, or only its length if it is secret."""
    return f"(hidden, {len(value)} characters)" if name.lower() in HIDDEN_HEADERS else value
