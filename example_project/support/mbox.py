"""Split a stream in mbox format into mails. Only one mail is in memory at a time.

Every line that begins with ``From `` is either taken as a separator or reported with the reason. ``separators.py``
decides it. A mail whose header has a correct ``Content-Length`` is taken as long as that header says.

Some programs quote such a line as ``>From ``. These lines are left unchanged, because they cannot be distinguished from
quoted text. If it is known that the writer of the file quoted them all (the format "mboxrd"), ``unquote`` undoes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from .separators import (
    LINE_BYTES,
    LOOKAHEAD_BYTES,
    NO_STYLE,
    Verdict,
    is_separator,
    judge,
    learn_style,
    line_at,
    next_candidate,
    separator_date,
)

__all__ = ["FromLine", "NotAnMbox", "RawMail", "is_separator", "separator_date", "split", "unquote"]

READ_BYTES = 1_000_000  # read at once
SAMPLE_BYTES = 4_000_000  # the first part of a file, from which its style is learned
KEEP_BYTES = 64_000_000  # kept of one mail; the rest is read and dropped
SHOWN_BYTES = 100  # of a line in a report

_LINE_BREAKS = b"\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_VIRTUAL = b"\n\n"  # stands before the file, so that its first line follows an empty line
_CONTENT_LENGTH = re.compile(rb"(?im)^content-length[ \t]*:[ \t]*(\d{1,12})[ \t]*\r?$")
_HEADER_END = re.compile(rb"\n\r?\n")
_AFTER_CONTENT = re.compile(rb"(?:\r?\n){0,3}(?=From(?: |\r?\n))|\s{0,1000}\Z")
_QUOTED_FROM = re.compile(rb"(?m)^>(>*From )")


class NotAnMbox(ValueError):
    """The stream contains no mail, and it is not empty. The argument is its beginning."""


@dataclass(frozen=True, slots=True)
class FromLine:
    """A line that begins with ``From `` and was not taken as a separator.

    ``line`` is its number in the file, from 1, and ``position`` its first byte, from 0. ``mail`` is the number of the
    mail that contains it; 0 means that it stands before the first mail. ``is_doubtful`` means that it may begin a mail.
    """

    line: int
    position: int
    mail: int
    text: str
    reason: str
    is_doubtful: bool


@dataclass(slots=True)
class RawMail:
    """A mail as it is in the file.

    ``separator`` is empty if the file begins with the header of a mail. ``line`` and ``position`` say where it begins.
    ``size`` is its length in bytes. ``file`` is the name of the file, if the reader has set
    it. ``end`` is the position in the file after it, in bytes.
    """

    separator: bytes
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    end: int = 0
    line: int = 1
    position: int = 0
    file: str = ""

    @property
    def is_cut(self) -> bool:
        """Return whether the mail is longer than ``KEEP_BYTES``, so that its end was dropped."""
        return self.size > KEEP_BYTES

    @property
    def content(self) -> bytes:
        """Return the mail without its separator and without the empty lines at its end."""
        content = b"".join(self.pieces).rstrip(_LINE_BREAKS)
        return content if self.separator else content.removeprefix(_BYTE_ORDER_MARK)

    def add(self, piece: bytes) -> None:
        """Append a piece of the mail, up to ``KEEP_BYTES`` of the mail in all."""
        if piece and self.size < KEEP_BYTES:
            self.pieces.append(piece[: KEEP_BYTES - self.size])
        self.size += len(piece)


def split(
    stream: BinaryIO, on_line: Callable[[FromLine], None] | None = None, *, is_single: bool = False
) -> Mbox:
    """Return an iterator over the mails of a stream, in order.

    ``on_line`` gets every line that begins with ``From `` and was not taken as a separator. ``is_single`` says that the
    stream is one mail, with or without a separator. Raises ``NotAnMbox`` if there is no mail in the stream.
    """
    return Mbox(stream, on_line or (lambda _line: None), is_single)


def unquote(content: bytes) -> bytes:
    """Remove one ``>`` from each line that begins with ``>From ``, ``>>From `` and so on."""
    return _QUOTED_FROM.sub(rb"\1", content) if b">From " in content else content


class Mbox:
    """The mails of a stream.

    ``skipped`` is the number of bytes before the first mail that belong to no mail.
    """

    def __init__(self, stream: BinaryIO, on_line: Callable[[FromLine], None], is_single: bool) -> None:
        self.stream, self.on_line, self.is_single = stream, on_line, is_single
        self.data = _VIRTUAL
        self.offset = -len(_VIRTUAL)  # position in the file of the first byte in memory
        self.start = len(_VIRTUAL)  # first byte in memory that does not belong to a mail yet
        self.line = 1  # number of the line at ``start``
        self.is_end = False
        self.number = 0  # of the current mail
        self.style = NO_STYLE
        self.skipped = 0

    def __iter__(self) -> Iterator[RawMail]:
        self._fill(self.start, SAMPLE_BYTES)
        if not self.is_single:
            self.style = learn_style(self.data)
        mail = self._first_mail()
        while mail is not None:
            self.number += 1
            following = self._read_mail(mail)
            yield mail
            mail = following

    # --- memory ---

    def _fill(self, position: int, length: int) -> None:
        """Read until ``length`` bytes from a position in memory are there, or the file ends."""
        missing = position + length - len(self.data)
        pieces = [self.data]
        while missing > 0 and not self.is_end:
            piece = self.stream.read(max(READ_BYTES, missing))
            self.is_end = not piece
            pieces.append(piece)
            missing -= len(piece)
        if len(pieces) > 1:
            self.data = b"".join(pieces)

    def _advance(self, position: int) -> bytes:
        """Move ``start`` to a position and return the bytes between."""
        piece = self.data[self.start : position]
        self.line += piece.count(b"\n")
        self.start = position
        return piece

    def _forget(self) -> int:
        """Drop what is no longer needed: all but the last line before ``start``. Return the number of bytes."""
        surplus = self.start - LINE_BYTES
        if surplus <= READ_BYTES:
            return 0
        self.data, self.start = self.data[surplus:], LINE_BYTES
        self.offset += surplus
        return surplus

    # --- mails ---

    def _first_mail(self) -> RawMail | None:
        """Return the first mail, without its content, or None if the file is empty."""
        while self.start < len(self.data) and self.data[self.start] in _LINE_BREAKS:
            self._advance(self.start + 1)
        if self.start == len(self.data):
            return None
        is_from_line = next_candidate(self.data, self.start) == self.start
        if is_from_line and (self.is_single or self._begins_with_separator()):
            return self._begin()
        if self.is_single or (not is_from_line and self._begins_with_header()):
            return RawMail(b"", line=self.line, position=self.offset + self.start)
        return self._skip_to_first_mail()

    def _skip_to_first_mail(self) -> RawMail:
        beginning, skipped = self.data[self.start : self.start + 80], RawMail(b"")
        mail = self._read_mail(skipped)
        if mail is None:
            raise NotAnMbox(beginning)
        self.skipped = skipped.size
        return mail

    def _begins_with_separator(self) -> bool:
        verdict = judge(self.data, self.start, self.style, is_end=self.is_end)
        return verdict.is_separator or is_separator(line_at(self.data, self.start))

    def _begins_with_header(self) -> bool:
        probe = b"\n\nFrom \n" + self.data[self.start : self.start + LOOKAHEAD_BYTES].removeprefix(
            _BYTE_ORDER_MARK
        )
        return judge(probe, 2, NO_STYLE, is_end=self.is_end).is_separator

    def _begin(self) -> RawMail:
        """Return a new mail whose separator stands at ``start``, and move behind the separator."""
        mail = RawMail(b"", line=self.line, position=self.offset + self.start)
        mail.separator = self._advance(self.start + len(line_at(self.data, self.start)))
        return mail

    def _read_mail(self, mail: RawMail) -> RawMail | None:
        """Read the content of a mail, and return the next mail without its content, or None at the end."""
        self._forget()
        length_end = self._content_end()
        first = position = self.start
        while True:
            candidate = next_candidate(self.data, position)
            reach = len(self.data) if self.is_end else len(self.data) - LOOKAHEAD_BYTES
            if 0 <= candidate < reach:
                mail.add(self._advance(candidate))
                mail.end = self.offset + candidate
                verdict = self._verdict(candidate, length_end, is_first=candidate == first)
                if verdict.is_separator:
                    return self._begin()
                self._report(verdict)
                position = candidate + 1
            elif self.is_end:
                mail.add(self._advance(len(self.data)))
                mail.end = self.offset + len(self.data)
                return None
            else:
                mail.add(self._advance(max(self.start, candidate if candidate >= 0 else reach)))
                moved = self._forget()
                first, length_end = first - moved, length_end - moved
                position = max(self.start, position - moved)
                self._fill(self.start, 2 * LOOKAHEAD_BYTES)

    def _verdict(self, candidate: int, length_end: int, *, is_first: bool) -> Verdict:
        if self.is_single:
            return Verdict(False, "the file is a single mail")
        if candidate < length_end:
            return Verdict(False, "it is within the Content-Length of the mail")
        if is_first and self.number:
            return Verdict(False, "it follows a separator directly")
        if candidate == length_end:
            return Verdict(True)
        return judge(self.data, candidate, self.style, is_end=self.is_end)

    def _report(self, verdict: Verdict) -> None:
        text = self.data[self.start : self.start + SHOWN_BYTES].partition(b"\n")[0].strip(b"\0\r\xef\xbb\xbf")
        if self.data[self.start : self.start + 5].strip(b"\r\n") == b"From":
            return  # without a space it is a word, not the form that an mbox reserves
        self.on_line(
            FromLine(
                line=self.line,
                position=self.offset + self.start,
                mail=self.number,
                text=text.decode("utf-8", "replace"),
                reason=verdict.reason,
                is_doubtful=verdict.is_doubtful,
            )
        )

    def _content_end(self) -> int:
        """Return the position in memory where the mail ends by its Content-Length, or -1 if that is not plausible."""
        if self.is_single:
            return -1
        self._fill(self.start, LOOKAHEAD_BYTES)
        end = _HEADER_END.search(self.data, self.start, self.start + LOOKAHEAD_BYTES)
        match = end and _CONTENT_LENGTH.search(self.data[self.start : end.start() + 1])
        if not end or not match or int(match[1]) > KEEP_BYTES:
            return -1
        if 0 <= next_candidate(self.data, self.start) < end.start():
            return -1  # the header has no end, and the length belongs to another mail
        content_end = end.end() + int(match[1])
        self._fill(content_end, LOOKAHEAD_BYTES)
        return self._plausible_end(content_end)

    def _plausible_end(self, position: int) -> int:
        """Return the position of the separator that follows a content, or -1 if none follows it."""
        if position > len(self.data):
            return -1
        following = _AFTER_CONTENT.match(self.data, position)
        if following is None or (following.end() == len(self.data) and not self.is_end):
            return -1
        if following.end() == len(self.data):
            return following.end()
        is_line = self.data[following.end() - 1 : following.end()] == b"\n"
        verdict = judge(self.data, following.end(), self.style, is_end=self.is_end)
        return following.end() if is_line and verdict.is_separator else -1
