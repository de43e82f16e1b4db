"""Join sentences."""

from __future__ import annotations


def join(*sentences: str) -> str:
    """Return the sentences that are not empty, with spaces between them."""
    return " ".join(each for each in sentences if each)


def sentence(text: str) -> str:
    """Return ``text`` with a full stop; an empty text stays empty."""
    return text if text.endswith((".", "!", "?")) or not text else f"{text}."
