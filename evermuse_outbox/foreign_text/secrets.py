"""Mask secrets in a text: those that are known to this process, and what looks like one.

A known secret is masked in each form in which a text could contain it: plain, percent-encoded, with the escapes of JSON
or Python, and in base64.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from itertools import chain

MASK = "…"
"""What is shown in place of a secret."""

MIN_SECRET = 8
"""Characters of the shortest secret that is masked wherever it occurs. A shorter one could be part of any word."""

_UNDERSCORE = r"(?:_|%5f|\\u005f)"
_SHAPES = (
    # An API key, plain, percent-encoded or with JSON escapes
    rf"em{_UNDERSCORE}sk{_UNDERSCORE}(?:[\w.%~+/=-]|\\u[0-9a-f]{{4}})+",
    # User and password in a URL, also in JSON with escaped slashes
    r"(?<=:)(?:\\?/){2}[^\s/\"'<>]*@",
    # A header or an option that carries a secret
    r"(?:x-api-key|authorization)[\"'\\]*\s*[:=]\s*[\"'\\]*(?:(?:bearer|basic)\s+)?[^\s\"',;\\]+",
    r"\b(?:password|passwd|pwd)=[^\s\"',;&]+",
)
_LOOKS_SECRET = re.compile("|".join(_SHAPES), re.IGNORECASE)
_HINTS = ("sk_", "sk%5f", "sk\\u005f", "@", "x-api-key", "authorization", "password=", "passwd=", "pwd=")
"""Without one of these and without a known secret, a text has nothing to mask. Searching for them is fast."""

_KEPT = re.compile(
    r"\A(?:em_sk_|(?:\\?/){2}|(?:x-api-key|authorization)[\"'\\]*\s*[:=]\s*[\"'\\]*|(?:password|passwd|pwd)=)",
    re.IGNORECASE,
)


class _Secrets:
    """The secrets of this process, in each form in which a text could contain them.

    A process may know thousands of them. So an added secret costs the same whatever their number is, and a short text
    is searched by its own positions.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forms: dict[str, str] = {}
        """A form in lower case → the form."""
        self._by_end: dict[str, tuple[str, ...]] = {}
        """The last characters of forms in lower case → these forms. Keys often have the same beginning."""
        self.longest = 0

    def add(self, secret: str) -> None:
        with self._lock:
            for form in _forms(secret):
                lowered = form.lower()
                if lowered not in self._forms:
                    end = lowered[-MIN_SECRET:]
                    self._forms[lowered] = form
                    self._by_end[end] = (*self._by_end.get(end, ()), lowered)
                    self.longest = max(self.longest, len(form))

    def mask(self, text: str) -> str:
        lowered = text.lower()
        # Known secrets first: a shape could match the beginning of a secret only.
        if known := self._find(lowered):
            longest_first = sorted((re.escape(self._forms[form]) for form in known), key=len, reverse=True)
            text = re.sub("|".join(longest_first), _masked, text, flags=re.IGNORECASE)
        if known or any(hint in lowered for hint in _HINTS):
            return _LOOKS_SECRET.sub(_masked, text)
        return text

    def _find(self, lowered: str) -> set[str]:
        """Return the forms that a text in lower case contains."""
        candidates: Iterable[str]
        if len(self._forms) > len(lowered):
            ends = {lowered[start : start + MIN_SECRET] for start in range(len(lowered))}
            candidates = chain.from_iterable(self._by_end.get(end, ()) for end in ends)
        else:
            candidates = tuple(self._forms)  # a copy, because another thread may add one
        return {form for form in candidates if form in lowered}


def hide_secret(secret: str | None) -> None:
    """Mask a secret in every text from now on. A secret of fewer than 8 characters is ignored."""
    if secret and len(secret) >= MIN_SECRET:
        _secrets.add(secret)


def mask_secrets(text: str) -> str:
    """Return the text with ``…`` in place of each secret."""
    return _secrets.mask(text)


def longest_secret() -> int:
    """Return the number of characters of the longest form of a known secret."""
    return _secrets.longest


def _forms(secret: str) -> list[str]:
    import json
    from base64 import b64encode
    from urllib.parse import quote

    encoded = b64encode(secret.encode("utf-8", "replace")).decode()
    return [
        secret,
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        encoded,
        encoded.rstrip("="),
    ]


def _masked(match: re.Match[str]) -> str:
    """Return what replaces a secret. The prefix of a key and the name of a header stay, so that a reader sees why."""
    text = match[0]
    kept = _KEPT.match(text)
    end = "@" if text.endswith("@") and kept and kept[0].endswith("/") else ""
    return f"{kept[0] if kept else ''}{MASK}{end}"


_secrets = _Secrets()
