"""Fault injection: failures that the sandbox produces for the next requests, by script or at random."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .responses import Response, encode_json, error_code

Method = Literal["POST", "GET", "any"]


@dataclass(frozen=True)
class Fault:
    """A failure that happens to one admitted request.

    Set ``status`` to replace the response, or ``drop`` to send none. Without either, only the timing (``delay``) or the
    batch (``batch_fails``, ``attachments_fail``) is affected. The class methods create the common faults. A request
    that is refused because of its API key or the rate limit does not consume a fault.

    Attributes:
        status: HTTP status of the replaced response.
        body: Body of the replaced response. A mapping is sent as JSON. ``None`` means the published error envelope.
        headers: Additional headers of the replaced response.
        retry_after: Seconds, sent as ``retryAfter`` in the error envelope.
        drop: Close the connection without a response.
        after_handling: Process the request first, then drop, delay or replace its response.
        delay: Seconds to wait before the request is processed, or after it if ``after_handling`` is set.
        batch_fails: Let the batch end as FAILED.
        attachments_fail: Number of attachments of the batch that fail to download.
        on: HTTP method of the requests that are affected.
        containing: Text. If it is set, only requests whose body contains it are affected.

    Raises:
        ValueError: The fields contradict each other.
    """

    status: int | None = None
    body: bytes | str | Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    drop: bool = False
    after_handling: bool = False
    delay: float = 0.0
    batch_fails: bool = False
    attachments_fail: int = 0
    on: Method = "POST"
    containing: str = ""

    def __post_init__(self) -> None:
        if self.drop and self.status is not None:
            raise ValueError("a fault cannot have both drop=True and a status")
        if self.affects_batch and not self.is_request_processed:
            raise ValueError("a batch can only fail if the request is processed: add after_handling=True")

    @classmethod
    def server_error(cls, **fields: Any) -> Fault:
        """Return a fault that responds with 500 in the published envelope."""
        return cls(status=500, **fields)

    @classmethod
    def proxy_page(cls, status: int, **fields: Any) -> Fault:
        """Return a fault that responds with ``status`` and an HTML page, as a firewall or a load balancer does."""
        page = f"<html><body><h1>{status}</h1></body></html>"
        return cls(status=status, body=page, headers={"Content-Type": "text/html"}, **fields)

    @classmethod
    def bad_gateway(cls, **fields: Any) -> Fault:
        """Return a fault that responds with 502 and an HTML page, as a proxy does."""
        return cls.proxy_page(502, **fields)

    @classmethod
    def no_credits(cls, **fields: Any) -> Fault:
        """Return a fault that responds with 402: the workspace has no credits."""
        return cls(status=402, **fields)

    @classmethod
    def too_many(cls, retry_after: float = 1.0, **fields: Any) -> Fault:
        """Return a fault that responds with 429 and ``retry_after`` seconds, even if the rate limit is not reached."""
        return cls(status=429, retry_after=retry_after, **fields)

    @classmethod
    def drop_before(cls, **fields: Any) -> Fault:
        """Return a fault that closes the connection before the request is processed."""
        return cls(drop=True, **fields)

    @classmethod
    def drop_after(cls, **fields: Any) -> Fault:
        """Return a fault that processes the request and closes the connection without a response."""
        return cls(drop=True, after_handling=True, **fields)

    @classmethod
    def slow(cls, seconds: float, **fields: Any) -> Fault:
        """Return a fault that processes the request at once and responds ``seconds`` later."""
        return cls(delay=seconds, after_handling=True, **fields)

    @classmethod
    def garbage(cls, **fields: Any) -> Fault:
        """Return a fault that processes the request and responds with 202 and broken JSON."""
        return cls(status=202, body='{"batchId": "ba', after_handling=True, **fields)

    @classmethod
    def failed_batch(cls, **fields: Any) -> Fault:
        """Return a fault that accepts the request, with a batch that ends as FAILED."""
        return cls(batch_fails=True, **fields)

    @classmethod
    def failed_attachments(cls, count: int = 1, **fields: Any) -> Fault:
        """Return a fault that accepts the request and fails the download of ``count`` attachments."""
        return cls(attachments_fail=count, **fields)

    @property
    def is_request_processed(self) -> bool:
        """Whether the request is processed in spite of the fault."""
        return self.after_handling or not self.replaces_response

    @property
    def replaces_response(self) -> bool:
        """Whether the client does not receive the normal response."""
        return self.drop or self.status is not None

    @property
    def affects_batch(self) -> bool:
        """Whether the batch, or the download of one of its attachments, fails after the request."""
        return self.batch_fails or self.attachments_fail > 0

    def to_response(self) -> Response:
        """Return the response that replaces the normal one. The fault must have a ``status``."""
        assert self.status is not None
        headers = {"Content-Type": "application/json", **self.headers}
        return Response(self.status, self._encode_body(self.status), headers)

    def _encode_body(self, status: int) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        if isinstance(self.body, str):
            return self.body.encode()
        if self.body is not None:
            return encode_json(self.body)
        retry_after = {} if self.retry_after is None else {"retryAfter": self.retry_after}
        message = "This error was injected by the sandbox."
        return encode_json({"error": error_code(status), "message": message, **retry_after})


RANDOM_FAULTS = (
    Fault.server_error(on="any"),
    Fault.bad_gateway(on="any"),
    Fault.too_many(on="any"),
    Fault.drop_before(on="any"),
    Fault.drop_after(on="any"),
)
"""The faults that random failures choose from, each with the same probability."""


class FaultQueue:
    """Scripted faults in the order in which they were added, and random faults if no scripted fault applies.

    Args:
        percent: Share of the requests that meet a random fault, from 0 to 100.
        seed: Seed of the random numbers, to repeat a run.
    """

    def __init__(self, percent: float = 0.0, seed: int | None = None) -> None:
        self.percent = percent
        self._rng = random.Random(seed)  # noqa: S311 - not used for cryptography
        self._queue: deque[tuple[Fault, int | None]] = deque()

    def add(self, fault: Fault, count: int | None) -> None:
        """Apply ``fault`` to the next ``count`` requests. None means every request until :meth:`clear`."""
        self._queue.append((fault, count))

    def clear(self) -> None:
        """Remove every scripted fault."""
        self._queue.clear()

    def take(self, method: str) -> Fault | None:
        """Remove and return the fault for the next request with ``method``, or return None if there is none."""
        for position, (fault, count) in enumerate(self._queue):
            if fault.on in (method, "any") and not fault.containing:
                self._consume(position, fault, count)
                return fault
        return self._choose_random()

    def take_by_content(self, method: str, body: bytes) -> Fault | None:
        """Remove and return the fault for a request with this text in its body, or return None if there is none."""
        for position, (fault, count) in enumerate(self._queue):
            if fault.on in (method, "any") and fault.containing and fault.containing.encode() in body:
                self._consume(position, fault, count)
                return fault
        return None

    def _consume(self, position: int, fault: Fault, count: int | None) -> None:
        if count == 1:
            del self._queue[position]
        elif count is not None:
            self._queue[position] = (fault, count - 1)

    def _choose_random(self) -> Fault | None:
        if self._rng.random() * 100 >= self.percent:
            return None
        return self._rng.choice(RANDOM_FAULTS)
