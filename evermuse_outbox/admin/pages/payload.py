"""Payloads as readable text: the vendor ids from their first characters, and the indented JSON."""

from __future__ import annotations

import json
import re

HEAD_LENGTH = 300
"""Characters that list pages read from the start of a payload, which normally contains the vendor ids."""

MAX_SHOWN = 100_000
"""Maximum number of characters of a payload that a page shows. A link downloads the exact payload."""

_START = re.compile(r'"_vendor_ids"\s*:\s*\{')
_PAIR = re.compile(r'\s*("(?:[^"\\]|\\.)*")\s*:\s*("(?:[^"\\]|\\.)*")\s*(?P<end>[,}])')


def parse_vendor_ids(head: str) -> list[str]:
    """Return the vendor ids in the start of a payload, each as ``"name: id"``, and "…" if the start cuts off others."""
    start = _START.search(head or "")
    if not start:
        return []
    pairs, is_complete = _parse_pairs(head, start.end())
    return pairs if is_complete else [*pairs, "…"]


def _parse_pairs(text: str, at: int) -> tuple[list[str], bool]:
    """Return the pairs from position ``at``, and whether the object ends within ``text``."""
    pairs = []
    while match := _PAIR.match(text, at):
        pairs.append(f"{_unquote(match[1])}: {_unquote(match[2])}")
        if match["end"] == "}":
            return pairs, True
        at = match.end()
    return pairs, text[at : at + 1] == "}"


def _unquote(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text.strip('"')


def format_payload(payload: str) -> tuple[str, bool]:
    """Return the indented payload, cut to :data:`MAX_SHOWN` characters, and whether it was cut."""
    try:
        text = json.dumps(json.loads(payload), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = payload
    return text[:MAX_SHOWN], len(text) > MAX_SHOWN
