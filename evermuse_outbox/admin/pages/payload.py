"""The line of a record, for people: its vendor ids from the first few characters, the whole indented."""

from __future__ import annotations

import json
import re

HEAD = 300
"""Characters of a line in which its vendor ids are looked for."""

SHOWN = 100_000
"""Characters of a payload that a page shows; the exact line can be downloaded."""

_START = re.compile(r'"_vendor_ids"\s*:\s*\{')
_PAIR = re.compile(r'\s*("(?:[^"\\]|\\.)*")\s*:\s*("(?:[^"\\]|\\.)*")\s*(?P<end>[,}])')


def vendor_ids(head: str) -> list[str]:
    """The vendor ids, each as ``"name: id"``; an ellipsis stands for what does not fit into ``head``."""
    start = _START.search(head or "")
    if not start:
        return []
    pairs, ended = _pairs(head, start.end())
    return pairs if ended else [*pairs, "…"]


def _pairs(text: str, at: int) -> tuple[list[str], bool]:
    """The pairs from ``at`` on, and whether the object ends in ``text``."""
    found = []
    while pair := _PAIR.match(text, at):
        found.append(f"{_unquoted(pair[1])}: {_unquoted(pair[2])}")
        if pair["end"] == "}":
            return found, True
        at = pair.end()
    return found, text[at : at + 1] == "}"


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text.strip('"')


def readable(line: str) -> tuple[str, bool]:
    """The line indented and cut to :data:`SHOWN` characters, and whether it was cut."""
    try:
        text = json.dumps(json.loads(line), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = line
    return text[:SHOWN], len(text) > SHOWN
