"""Text and bytes whose ``repr`` has no content, because error trackers store the ``repr`` of local variables."""

from __future__ import annotations


class HiddenText(str):
    """A text, such as the line of a record. Only its ``repr`` differs from that of ``str``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self):,} characters>"


class HiddenBytes(bytes):
    """Bytes, such as the body of a request. Only their ``repr`` differs from that of ``bytes``."""

    def __repr__(self) -> str:
        return f"<{len(self):,} bytes>"
