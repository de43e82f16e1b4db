"""Split a stream in mbox format into mails. Only one mail is in memory at a time.

The standard library treats every line that begins with ``From `` as the start of a mail. Such lines also
occur in mails, for example in commit messages. So a separator must also end with a date and follow an
empty line. Some programs quote such a line as ``>From ``. These lines are left unchanged, because they
cannot be distinguished from quoted text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import BinaryIO

READ_BYTES = 65_536  # a longer line is read in several pieces
KEEP_BYTES = 64_000_000  # kept of one mail; the rest is read and dropped

_SEPARATOR = re.compile(
    rb"From (?:\S.*?)??\s*"
    rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),?\s+"
    rb"(?P<month>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\s+(?P<day>\d{1,2})\s+"
    rb"(?P<time>\d{1,2}:\d\d(?::\d\d)?)\s+"
    rb"(?:(?P<zone>[A-Z]{1,5}|[+-]\d{4})\s+)?(?P<year>\d{4})(?:\s+(?P<zone_after_year>[+-]\d{4}))?\s*$"
)
_EMPTY_LINES = (b"\n", b"\r\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class NotAnMbox(ValueError):
    """The stream is not empty and does not begin with a separator. The argument is its first line."""


@dataclass(slots=True)
class RawMail:
    """A mail as it is in the file.

    ``size`` is its length in bytes. ``end`` is the position in the file after it, in bytes.
    """

    separator: bytes
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    end: int = 0

    @property
    def is_cut(self) -> bool:
        """Return whether the mail is longer than ``KEEP_BYTES``, so that its end was dropped."""
        return self.size > KEEP_BYTES

    @property
    def content(self) -> bytes:
        """Return the mail without its separator and without the empty lines at its end."""
        return b"".join(self.pieces).rstrip(b"\r\n")

    def add(self, piece: bytes) -> None:
        """Append a piece of the mail, up to ``KEEP_BYTES`` of the mail in all."""
        if self.size < KEEP_BYTES:
            self.pieces.append(piece[: KEEP_BYTES - self.size])
        self.size += len(piece)


def split(stream: BinaryIO) -> Iterator[RawMail]:
    """Yield the mails of a stream in order. Raises ``NotAnMbox`` if it does not begin with a separator."""
    mail: RawMail | None = None
    position, may_separate = 0, True
    for piece, is_line in _pieces(stream):
        if may_separate and is_separator(piece):
            if mail is not None:
                yield mail
            mail = RawMail(piece)
        elif mail is not None:
            mail.add(piece)
        elif piece not in _EMPTY_LINES:
            raise NotAnMbox(piece[:80])
        position += len(piece)
        if mail is not None:
            mail.end = position
        may_separate = (is_line and piece in _EMPTY_LINES) or mail is None
    if mail is not None:
        yield mail


def _pieces(stream: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Yield the lines of a stream, long ones in several pieces, and whether each piece is a complete line."""
    at_line_start = True
    while piece := stream.readline(READ_BYTES):
        at_line_end = piece.endswith(b"\n")
        yield piece, at_line_start and at_line_end
        at_line_start = at_line_end


def is_separator(line: bytes) -> bool:
    """Return whether a line looks like ``From ada@acme.example Mon Sep 17 00:00:00 2001``."""
    line = line.removeprefix(_BYTE_ORDER_MARK)
    return line.startswith(b"From ") and len(line) < 1_000 and _SEPARATOR.match(line) is not None


def separator_date(line: bytes) -> datetime | None:
    """Return the date in a separator, or None if it is not a date. It is naive if it has no time zone."""
    match = _SEPARATOR.match(line.removeprefix(_BYTE_ORDER_MARK))
    if match is None:
        return None
    day, month, year, time = (match[name].decode() for name in ("day", "month", "year", "time"))
    zone = (match["zone_after_year"] or match["zone"] or b"-0000").decode()
    try:
        return parsedate_to_datetime(f"{day} {month} {year} {time} {zone}")
    except (ValueError, OverflowError):
        return None
