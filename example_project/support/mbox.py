"""An mbox, split into its mails while it streams by: memory holds one mail, however large the file.

The standard library takes every line that begins with ``From `` for the start of a mail; commit messages
and letters have such lines. Here a separator also has to end in a date and to follow an empty line. Lines
that some writers have quoted as ``>From `` stay as they are: nobody can tell them from quotations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import BinaryIO

READ_BYTES = 65_536  # the longest piece of a line in memory at once
KEEP_BYTES = 64_000_000  # of one mail; what is longer is read past

_SEPARATOR = re.compile(
    rb"From (?:\S.*?)??\s*"
    rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),?\s+"
    rb"(?P<month>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\s+(?P<day>\d{1,2})\s+"
    rb"(?P<time>\d{1,2}:\d\d(?::\d\d)?)\s+"
    rb"(?:(?P<zone>[A-Z]{1,5}|[+-]\d{4})\s+)?(?P<year>\d{4})(?:\s+(?P<later>[+-]\d{4}))?\s*$"
)
_EMPTY = (b"\n", b"\r\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class NotAnMbox(ValueError):
    """The stream has content, but no separator where the first mail should begin."""


@dataclass(slots=True)
class RawMail:
    """One mail as it stood in the file.

    ``end`` is the position in bytes behind it, ``cut`` says that it is longer than ``KEEP_BYTES``.
    """

    separator: bytes
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    end: int = 0

    @property
    def cut(self) -> bool:
        return self.size > KEEP_BYTES

    @property
    def content(self) -> bytes:
        """The mail without its separator and without the empty lines that end it."""
        return b"".join(self.pieces).rstrip(b"\r\n")

    def add(self, piece: bytes) -> None:
        """One more piece; its end is dropped where the mail has grown too long."""
        if self.size < KEEP_BYTES:
            self.pieces.append(piece[: KEEP_BYTES - self.size])
        self.size += len(piece)


def split(stream: BinaryIO) -> Iterator[RawMail]:
    """The mails of a stream, in order; raises ``NotAnMbox`` where it does not begin with one."""
    mail: RawMail | None = None
    position, may_separate = 0, True
    for piece, is_whole in _pieces(stream):
        if may_separate and is_separator(piece):
            if mail is not None:
                yield mail
            mail = RawMail(piece)
        elif mail is not None:
            mail.add(piece)
        elif piece not in _EMPTY:
            raise NotAnMbox(piece[:80])
        position += len(piece)
        if mail is not None:
            mail.end = position
        may_separate = (is_whole and piece in _EMPTY) or mail is None
    if mail is not None:
        yield mail


def _pieces(stream: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Lines, long ones in parts; and whether a piece is a whole line."""
    at_line_start = True
    while piece := stream.readline(READ_BYTES):
        ends = piece.endswith(b"\n")
        yield piece, at_line_start and ends
        at_line_start = ends


def is_separator(line: bytes) -> bool:
    """Whether a line looks like ``From somebody Mon Sep 17 00:00:00 2001``."""
    line = line.removeprefix(_BYTE_ORDER_MARK)
    return line.startswith(b"From ") and len(line) < 1_000 and _SEPARATOR.match(line) is not None


def separator_date(line: bytes) -> datetime | None:
    """The date in a separator, naive where it names no zone; None where there is no such day."""
    found = _SEPARATOR.match(line.removeprefix(_BYTE_ORDER_MARK))
    if found is None:
        return None
    day, month, year, time = (found[name].decode() for name in ("day", "month", "year", "time"))
    zone = (found["later"] or found["zone"] or b"-0000").decode()
    try:
        return parsedate_to_datetime(f"{day} {month} {year} {time} {zone}")
    except (ValueError, OverflowError):
        return None
