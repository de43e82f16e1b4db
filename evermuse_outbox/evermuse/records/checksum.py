"""The checksum of a record: it shows whether a database gives back exactly what was stored in it."""

from __future__ import annotations

from zlib import crc32


def make_checksum(line: bytes, workspace: str, record_type: str, product_id: str) -> int:
    """Return the CRC-32 of a line and of the names that are columns of their own.

    A database may alter text without an error: it writes ``?`` for a character that its character set lacks, or it cuts
    a text off. A CRC-32 misses one of 4 billion such changes. It costs 0.7 µs for a line of 1.7 KB, SHA-256 2.7 µs.
    """
    return crc32(f"\n{workspace}\n{record_type}\n{product_id}".encode(), crc32(line))
