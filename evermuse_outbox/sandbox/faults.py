"""Trouble on demand: scripted answers, taken by the next requests in turn."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .responses import Answer, encoded, error_code

Method = Literal["POST", "GET", "any"]


@dataclass(frozen=True)
class Fault:
    """What happens to one admitted request instead of, or beside, the usual.

    Give a `status` for another answer, `drop` for none at all, or neither to spoil only the timing
    (`delay`) or the fate of the batch (`batch_fails`, `attachments_fail`). Classmethods name the usual
    ones. Refused keys and the rate limit come first and use up no fault.

    - `after_handling`: the request takes full effect first, and only its answer is lost or replaced.
    - `body`: bytes or text as they are, a dict as JSON; None is an error envelope for the status.
    - `retry_after`: seconds, put into that envelope.
    - `delay`: seconds, before the request takes effect, or after it with `after_handling`.
    - `batch_fails`: the batch ends FAILED. `attachments_fail`: how many of its downloads fail.
    - `on`: the method that it waits for.
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

    def __post_init__(self) -> None:
        if self.drop and self.status is not None:
            raise ValueError("a fault either drops the connection or answers with a status")
        if self.spoils_batch and not self.takes_effect:
            raise ValueError("a batch can only fail where the request takes effect: add after_handling=True")

    @classmethod
    def server_error(cls, **fields: Any) -> Fault:
        """500 in the published envelope."""
        return cls(status=500, **fields)

    @classmethod
    def bad_gateway(cls, **fields: Any) -> Fault:
        """502 with a page of HTML, as something in between would answer."""
        page = "<html><body><h1>502 Bad Gateway</h1></body></html>"
        return cls(status=502, body=page, headers={"Content-Type": "text/html"}, **fields)

    @classmethod
    def too_many(cls, retry_after: float = 1.0, **fields: Any) -> Fault:
        """429 although the window has room; `retry_after` in seconds."""
        return cls(status=429, retry_after=retry_after, **fields)

    @classmethod
    def drop_before(cls, **fields: Any) -> Fault:
        """The connection closes, and nothing was taken."""
        return cls(drop=True, **fields)

    @classmethod
    def drop_after(cls, **fields: Any) -> Fault:
        """Everything was taken, and the connection closes without an answer."""
        return cls(drop=True, after_handling=True, **fields)

    @classmethod
    def slow(cls, seconds: float, **fields: Any) -> Fault:
        """The request takes effect at once, and the usual answer comes `seconds` later."""
        return cls(delay=seconds, after_handling=True, **fields)

    @classmethod
    def garbage(cls, **fields: Any) -> Fault:
        """Everything was taken, and the 202 cannot be read."""
        return cls(status=202, body='{"batchId": "ba', after_handling=True, **fields)

    @classmethod
    def failed_batch(cls, **fields: Any) -> Fault:
        """The usual 202, and a batch that ends FAILED."""
        return cls(batch_fails=True, **fields)

    @classmethod
    def failed_attachments(cls, count: int = 1, **fields: Any) -> Fault:
        """The usual 202, and `count` attachments that cannot be downloaded."""
        return cls(attachments_fail=count, **fields)

    @property
    def takes_effect(self) -> bool:
        """Whether the request is taken as if nothing were wrong."""
        return self.after_handling or not self.replaces_answer

    @property
    def replaces_answer(self) -> bool:
        """Whether the usual answer does not reach the client."""
        return self.drop or self.status is not None

    @property
    def spoils_batch(self) -> bool:
        """Whether the batch has a fate other than the usual."""
        return self.batch_fails or self.attachments_fail > 0

    def answer(self) -> Answer:
        """The scripted answer; only where there is a `status`."""
        assert self.status is not None
        headers = {"Content-Type": "application/json", **self.headers}
        return Answer(self.status, self._body(self.status), headers)

    def _body(self, status: int) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        if isinstance(self.body, str):
            return self.body.encode()
        if self.body is not None:
            return encoded(self.body)
        waiting = {} if self.retry_after is None else {"retryAfter": self.retry_after}
        return encoded({"error": error_code(status), "message": "This answer was scripted.", **waiting})


RANDOM_TROUBLE = (
    Fault.server_error(on="any"),
    Fault.bad_gateway(on="any"),
    Fault.too_many(on="any"),
    Fault.drop_before(on="any"),
    Fault.drop_after(on="any"),
)


class FaultQueue:
    """Scripted faults first come, first served; then, by chance, `percent` of the requests."""

    def __init__(self, percent: float = 0.0, seed: int | None = None) -> None:
        self.percent = percent
        self._random = random.Random(seed)  # noqa: S311 - for trouble, not for secrets
        self._queue: deque[tuple[Fault, int | None]] = deque()

    def add(self, fault: Fault, count: int | None) -> None:
        """Let `fault` happen `count` times; None is until `clear`."""
        self._queue.append((fault, count))

    def clear(self) -> None:
        """Forget every scripted fault."""
        self._queue.clear()

    def take(self, method: str) -> Fault | None:
        """The fault of this request, if any; a scripted one is used up by it."""
        for position, (fault, count) in enumerate(self._queue):
            if fault.on in (method, "any"):
                self._use_up(position, fault, count)
                return fault
        return self._by_chance()

    def _use_up(self, position: int, fault: Fault, count: int | None) -> None:
        if count == 1:
            del self._queue[position]
        elif count is not None:
            self._queue[position] = (fault, count - 1)

    def _by_chance(self) -> Fault | None:
        if self._random.random() * 100 >= self.percent:
            return None
        return self._random.choice(RANDOM_TROUBLE)
