"""The body of a request, joined from the stored lines of its records. A line is the JSON of one record. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..foreign_text import HiddenBytes


@dataclass(frozen=True, slots=True)
class BodyFormat:
    """A published form of a request body: the text before, between and after the lines of its records."""

    content_type: str
    before: str
    between: str
    after: str

    @property
    def overhead(self) -> int:
        """Bytes before and after the lines."""
        return len(self.before) + len(self.after)

    def size(self, sizes: Sequence[int]) -> int:
        """Return the number of bytes of a body with lines of these sizes in bytes."""
        return self.overhead + sum(sizes) + len(self.between) * (len(sizes) - 1)

    def join(self, lines: Iterable[str]) -> bytes:
        """Return the body in UTF-8. Its ``repr`` has no content."""
        return HiddenBytes((self.before + self.between.join(lines) + self.after).encode())


FORMATS = {
    "ndjson": BodyFormat("application/x-ndjson", "", "\n", "\n"),
    "array": BodyFormat("application/json", "[", ",", "]"),
    "wrapper": BodyFormat("application/json", '{"records":[', ",", "]}"),
}
"""The forms, by their names in the setting ``BODY_FORMAT``. Source: OpenAPI document, request body of ingestRecords."""


def fingerprint(body: bytes) -> str:
    """Return the SHA-256 of a body, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()
