"""Open what can hold mails: an mbox, a single mail, a compressed file, or a directory such as a Maildir."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from .mbox import NotAnMbox

HEAD_BYTES = 65_536  # examined to find out the format of a file
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
SINGLE_SUFFIXES = {".eml"}  # names of files with one mail
NOTE_SUFFIXES = {".msf", ".lock", ".idx"}  # names of files in which mail programs keep an index or a lock

_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_ZIP = b"PK\x03\x04"
_TAR_PLACE = slice(257, 262)
_UTF_16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


@dataclass(frozen=True, slots=True)
class Source:
    """An opened file. ``raw`` is the file itself, and ``stream`` its content without compression.

    The stream ends at a read error, such as that of a truncated archive, and the error is in ``errors``.
    """

    name: str
    raw: BinaryIO
    stream: BinaryIO
    is_single: bool = False
    errors: list[Exception] = field(default_factory=list)


def find_files(path: str) -> list[Path]:
    """Return the files at a path: itself, or all files below a directory, in the order of their names.

    Hidden files, and the files in which servers keep their notes, are left out. Raises ``OSError``.
    """
    root = Path(path)
    if not root.is_dir():
        root.open("rb").close()
        return [root]
    maildirs = {cur.parent for cur in root.rglob("cur") if (cur.parent / "new").is_dir()}
    unused = maildirs | {
        maildir / "tmp" for maildir in maildirs
    }  # no mail, or no complete mail, stands there
    files = (file for file in root.rglob("*") if file.is_file() and file.parent not in unused)
    return sorted(
        file for file in files if not file.name.startswith(".") and file.suffix not in NOTE_SUFFIXES
    )


@contextmanager
def open_source(path: Path | None, *, in_maildir: bool = False) -> Iterator[Source]:
    """Open a file, or standard input for None."""
    if path is None:
        yield _source("standard input", cast(BinaryIO, sys.stdin.buffer), is_single=False)
        return
    with path.open("rb") as raw:
        yield _source(str(path), raw, is_single=in_maildir or path.suffix.lower() in SINGLE_SUFFIXES)


def is_in_maildir(path: Path) -> bool:
    """Return whether a file is a mail in a Maildir."""
    return path.parent.name in ("cur", "new") and (path.parent.parent / "cur").is_dir()


def _source(name: str, raw: BinaryIO, *, is_single: bool) -> Source:
    errors: list[Exception] = []
    stream, head = _peek(_buffered(_UntilError(raw, errors)))
    opener = next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None)
    if opener:
        stream, head = _peek(_buffered(_UntilError(cast(BinaryIO, opener(stream, "rb")), errors)))
    if head.startswith(_ZIP) or head[_TAR_PLACE].startswith(b"ustar"):
        raise NotAnMbox(head[:80])  # the first mail in it would be skipped as if it were no text
    return Source(name, raw, _decoded(stream), is_single, errors)


def _decoded(stream: BinaryIO) -> BinaryIO:
    """Return the stream in bytes that a mail can have: UTF-16 becomes UTF-8, and a single CR a line break."""
    stream, head = _peek(stream)
    for mark, charset in _UTF_16.items():
        if head.startswith(mark):
            stream.read(len(mark))
            return cast(BinaryIO, codecs.EncodedFile(stream, "utf-8", charset, errors="replace"))
    if b"\n" not in head and head.count(b"\r") > 2:
        return _buffered(_UnixLines(stream))
    return stream


def _peek(stream: BinaryIO) -> tuple[BinaryIO, bytes]:
    """Return the stream and its first bytes, without moving in the stream."""
    head = stream.read(HEAD_BYTES)
    return _buffered(_Joined(head, stream)), head


def _buffered(raw: io.RawIOBase) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(raw, 1_000_000))


class _UntilError(io.RawIOBase):
    """A stream that ends at the first error of reading or decompressing."""

    def __init__(self, stream: BinaryIO, errors: list[Exception]) -> None:
        self.stream, self.errors = stream, errors

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Read once, so that an error costs as few bytes as possible."""
        try:
            piece = b"" if self.errors else self.stream.read1(len(buffer))  # type: ignore[attr-defined]
        except READ_ERRORS as error:
            self.errors.append(error)
            return 0
        buffer[: len(piece)] = piece
        return len(piece)


class _Joined(io.RawIOBase):
    """Bytes that were read in advance, followed by the rest of the stream."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self.head, self.stream = head, stream

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Read the next bytes."""
        piece = self.head[: len(buffer)] or self.stream.read(len(buffer))
        self.head = self.head[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


class _UnixLines(io.RawIOBase):
    """A stream of an old Macintosh, whose lines end with CR, with LF instead."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Read the next bytes."""
        piece = self.stream.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(piece)] = piece
        return len(piece)


def size_of(path: Path | None) -> int:
    """Return the size of a file in bytes, or 0 if it is unknown."""
    try:
        return path.stat().st_size if path else os.fstat(sys.stdin.buffer.fileno()).st_size
    except (OSError, AttributeError):  # standard input may have no file descriptor
        return 0
