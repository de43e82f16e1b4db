"""The request body: stored lines, joined. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BodyFormat:
    """One of the published ways to say many records: what stands before, between and after them."""

    content_type: str
    before: str
    between: str
    after: str

    @property
    def fixed(self) -> int:
        """Bytes of a body beside its lines and their separators."""
        return len(self.before) + len(self.after)

    def size(self, sizes: Sequence[int]) -> int:
        """Bytes on the wire of lines of those sizes."""
        return self.fixed + sum(sizes) + len(self.between) * (len(sizes) - 1)

    def join(self, lines: Iterable[str]) -> bytes:
        """The body itself."""
        return (self.before + self.between.join(lines) + self.after).encode()


FORMATS = {
    "ndjson": BodyFormat("application/x-ndjson", "", "\n", "\n"),
    "array": BodyFormat("application/json", "[", ",", "]"),
    "wrapper": BodyFormat("application/json", '{"records":[', ",", "]}"),
}


def fingerprint(body: bytes) -> str:
    """SHA-256 of a body, in hex."""
    return hashlib.sha256(body).hexdigest()
