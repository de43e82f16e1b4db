"""Addresses of pages of the documentation, for hints: an installed package does not have their files."""

from __future__ import annotations

DOCUMENTATION = "https://github.com/evermuse/evermuse-outbox/blob/main/docs"


def see_docs(page: str) -> str:
    """Return a sentence that leads to a page, such as ``how-to/api-keys.md``."""
    return f"See {DOCUMENTATION}/{page}"
