"""Functions of a host for the setting ``FIXES``."""

from __future__ import annotations

from typing import Any


def nature(envelope: dict[str, Any]) -> dict[str, Any] | None:
    """Correct the nature, except for the records that say otherwise."""
    what = envelope["data"]["text"]
    if what == "Hello skip":
        return None
    if what == "Hello raise":
        raise LookupError("no customer")
    return envelope | {"_nature": "wrong" if what == "Hello invalid" else "evidence"}
