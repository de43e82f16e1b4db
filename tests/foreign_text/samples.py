"""Texts and values that a hostile server or host could give."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

SECRET = "s3cr3t/+ key&value#1"
"""A secret without a known prefix, with characters that URLs, JSON and base64 write in another way."""

KEY = "em_sk_0123456789abcdefghijklmnopqrstuvwxyzABCDEF"

CHARACTERS = st.characters() | st.sampled_from(
    "\0\n\r\t\x1b\x7f\x85\x9b\u202e\u2066\u2028\ud800\udfff:@=\"'\\"
)

TEXTS = st.lists(
    st.text(CHARACTERS, max_size=20)
    | st.sampled_from(
        [
            KEY,
            SECRET,
            "em_sk_",
            "em%5Fsk%5Fabc",
            "redis://user:",
            "x-api-key: ",
            "authorization=bearer ",
            "password=",
        ]
    ),
    max_size=8,
).map("".join)


def is_printable_line(text: str) -> bool:
    """Return whether a text has no character that controls a terminal or ends a line."""
    return not any(
        unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp")
        or each in "\u202a\u202e\u2066\u2069\u200e\u200f"
        for each in text
    )
