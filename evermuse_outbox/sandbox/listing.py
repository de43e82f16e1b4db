"""Pages of the listing of batches: their size, and the cursor of the next page."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from .contract import DEFAULT_PAGE, MAX_CURSOR, MAX_PAGE
from .responses import RequestRefused


def parse_limit(query: Mapping[str, str]) -> int:
    """Return the page size in a query, or the published default of 20.

    Raises:
        RequestRefused: 400, if it is not a number from 1 to 100.
    """
    text = query.get("limit", str(DEFAULT_PAGE))
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_PAGE:
        raise RequestRefused(400, f"limit must be an integer from 1 to {MAX_PAGE}.")
    return int(text)


def format_cursor(position: int) -> str:
    """Return an opaque cursor for a position in the listing."""
    return base64.urlsafe_b64encode(f"before:{position}".encode()).decode().rstrip("=")


def parse_cursor(query: Mapping[str, str]) -> int | None:
    """Return the position in the cursor of a query, or None if it has no cursor.

    Raises:
        RequestRefused: 400, if the cursor does not come from the listing.
    """
    cursor = query.get("cursor")
    if cursor is None:
        return None
    match = re.fullmatch(rb"before:([0-9]{1,12})", decode_base64(cursor[: MAX_CURSOR + 1]))
    if match is None:
        raise RequestRefused(400, "cursor must be the nextCursor of an earlier page.")
    return int(match[1])


def decode_base64(text: str) -> bytes:
    """Return the bytes of URL-safe Base64 without padding, or no bytes if it is not Base64."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
