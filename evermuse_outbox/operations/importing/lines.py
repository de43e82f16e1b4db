"""Read a stream of JSON lines in chunks of valid records and bad lines, and hash what was read. No database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, BinaryIO, NamedTuple

from ...evermuse import InvalidRecord, limits
from ...evermuse.records import Envelope, validate

CHUNK_LINES = 1_000
"""Lines of one transaction."""

CHUNK_BYTES = 8_000_000
"""Bytes of one transaction, unless a single line is longer: the limit of one INSERT."""

MAX_LINE = 2 * limits.MAX_RECORD_BYTES
"""Bytes up to which a line is read. JSON with escapes and spaces can be longer than the record that is stored."""

READ_SIZE = 1_000_000
"""Bytes that one read takes while lines are skipped."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class BadLine(NamedTuple):
    """A line that is no valid record: its number from 1, what is wrong, and the line itself."""

    line: int
    error: str
    text: str


@dataclass(slots=True)
class Chunk:
    """The records and the bad lines of a part of the stream, and where the stream stands after it."""

    envelopes: list[Envelope] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    position: int = 0
    lines: int = 0
    sha256: str = ""


class StreamDiffers(Exception):
    """The stream does not begin with the bytes that were read before."""


class LineReader:
    """Reads a stream once, from its beginning."""

    def __init__(self, stream: BinaryIO, contract: str, workspace: str) -> None:
        self._stream, self._contract, self._workspace = stream, contract, workspace
        self._hash = sha256()
        self.position = 0
        self.lines = 0

    def skip(self, position: int, digest: str, lines: int) -> None:
        """Read the bytes that were imported before.

        Raises:
            StreamDiffers: They are not the same bytes.
        """
        while self.position < position:
            block = self._stream.read(min(READ_SIZE, position - self.position))
            if not block:
                break
            self._take(block)
        if self.position != position or self._hash.hexdigest() != digest:
            raise StreamDiffers
        self.lines = lines

    def chunks(self) -> Iterator[Chunk]:
        """Yield the rest of the stream. Blank lines are skipped."""
        chunk, start, size = Chunk(), self.lines, 0
        while line := self._read_line():
            self._add(chunk, line)
            size += len(line)
            if self.lines - start >= CHUNK_LINES or size >= CHUNK_BYTES:
                yield self._close(chunk)
                chunk, start, size = Chunk(), self.lines, 0
        if self.lines > start:
            yield self._close(chunk)

    def _close(self, chunk: Chunk) -> Chunk:
        chunk.position, chunk.lines, chunk.sha256 = self.position, self.lines, self._hash.hexdigest()
        return chunk

    def _take(self, block: bytes) -> None:
        self._hash.update(block)
        self.position += len(block)

    def _read_line(self) -> bytes:
        """Return the next line; only the beginning of one that is too long. Return nothing at the end."""
        line = self._stream.readline(MAX_LINE + 1)
        if not line:
            return b""
        is_first = self.position == 0
        self._take(line)
        self.lines += 1
        rest = line
        while not rest.endswith(b"\n") and len(line) > MAX_LINE:
            rest = self._stream.readline(READ_SIZE)
            if not rest:
                break
            self._take(rest)
        return line.removeprefix(BYTE_ORDER_MARK) or b"\n" if is_first else line

    def _add(self, chunk: Chunk, line: bytes) -> None:
        if not line.strip():
            return
        try:
            if len(line) > MAX_LINE:
                raise ValueError(f"The line is longer than {MAX_LINE:,} bytes.")
            record = _parse(line)
            chunk.envelopes.append(validate(record, contract=self._contract, workspace=self._workspace))
        except (InvalidRecord, ValueError, RecursionError) as error:
            text = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
            chunk.bad.append(BadLine(self.lines, _describe(error), text))


def _parse(line: bytes) -> dict[str, Any]:
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("The line is not a JSON object.")
    return record


def _describe(error: Exception) -> str:
    if isinstance(error, InvalidRecord):
        return str(error)
    if isinstance(error, json.JSONDecodeError):
        return f"No JSON: {error.msg} at character {error.pos + 1}."
    if isinstance(error, UnicodeDecodeError):
        return f"No UTF-8: {error.reason} at byte {error.start + 1}."
    return "The JSON is nested too deeply." if isinstance(error, RecursionError) else str(error)
