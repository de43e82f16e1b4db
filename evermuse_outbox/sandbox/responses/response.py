"""HTTP responses: the body of a success, and errors in the published envelope."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

VALIDATION_ERROR = "VALIDATION_ERROR"
"""Error code of an invalid record. It is the only code that the contract names."""

ERROR_CODES: Mapping[int, str] = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    409: "IDEMPOTENCY_CONFLICT",
    413: "PAYLOAD_TOO_LARGE",
    414: "URI_TOO_LONG",
    421: "MISDIRECTED_REQUEST",
    429: "RATE_LIMITED",
    500: "INTERNAL_ERROR",
}
"""Error code of each HTTP status. The contract does not name these codes, so the sandbox defines them."""


def error_code(status: int) -> str:
    """Return the machine-readable error code for an HTTP status."""
    return ERROR_CODES.get(status, f"HTTP_{status}")


def encode_json(content: Any) -> bytes:
    """Return ``content`` as compact JSON in UTF-8.

    Raises:
        UnicodeEncodeError: A string contains a lone surrogate.
    """
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response that is ready to be written to the connection.

    Attributes:
        closes_connection: Close the connection after this response.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    closes_connection: bool = False

    @classmethod
    def with_json(cls, status: int, content: Any) -> Response:
        """Return a response with ``content`` as its JSON body."""
        return cls(status, encode_json(content))


class RequestRefused(Exception):
    """The API refuses the request with an error response.

    Args:
        status: HTTP status of the response.
        message: Text for a human reader.
        error: Machine-readable code; by default the code of the status.
        extra: Further fields of the error envelope: ``retryAfter`` (seconds), ``details``.
        closes_connection: Close the connection, because unread bytes of the request remain on it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        error: str = "",
        extra: Mapping[str, Any] | None = None,
        closes_connection: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error = error or error_code(status)
        self.extra = dict(extra or {})
        self.closes_connection = closes_connection

    @property
    def breaks_contract(self) -> bool:
        """Whether only a client with a defect can receive this error.

        A correct client can receive errors about invalid records, API keys and unknown batch ids, because the host
        provides these. Such errors do not count.
        """
        return self.status in {400, 405, 409, 413, 429} and self.error != VALIDATION_ERROR

    def to_response(self) -> Response:
        """Return the error response in the published envelope."""
        content = {"error": self.error, "message": self.message, **self.extra}
        return Response(self.status, encode_json(content), closes_connection=self.closes_connection)
