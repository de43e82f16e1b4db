"""What the API says back: an answer, or a refusal in the published error envelope."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The contract names VALIDATION_ERROR only; the other codes are the sandbox's own words.
ERROR_CODES: Mapping[int, str] = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    409: "IDEMPOTENCY_CONFLICT",
    413: "PAYLOAD_TOO_LARGE",
    429: "RATE_LIMITED",
    500: "INTERNAL_ERROR",
}
VALIDATION_ERROR = "VALIDATION_ERROR"


def encoded(content: Any) -> bytes:
    """`content` as compact UTF-8 JSON."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, ready for the wire; `closes` ends the connection after it."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    closes: bool = False

    @classmethod
    def of(cls, status: int, content: Any) -> Answer:
        """`content` as a JSON answer."""
        return cls(status, encoded(content))


class Refusal(Exception):
    """A request that the API turns down, with its HTTP status and error envelope.

    `extra` holds further fields of the envelope (`retryAfter` in seconds, `details`). `closes` is for
    refusals that leave unread bytes of the request on the connection.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        error: str = "",
        extra: Mapping[str, Any] | None = None,
        closes: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error = error or error_code(status)
        self.extra = dict(extra or {})
        self.closes = closes

    @property
    def breaks_contract(self) -> bool:
        """Whether a client that keeps to the contract could not have earned this refusal.

        Invalid records are the host's data, and keys and batch ids are configuration: not counted.
        """
        return self.status in {400, 405, 409, 413, 429} and self.error != VALIDATION_ERROR

    def answer(self) -> Answer:
        """The refusal as an HTTP answer."""
        content = {"error": self.error, "message": self.message, **self.extra}
        return Answer(self.status, encoded(content), closes=self.closes)


def error_code(status: int) -> str:
    """The machine-readable code of an error envelope with this HTTP status."""
    return ERROR_CODES.get(status, f"HTTP_{status}")
