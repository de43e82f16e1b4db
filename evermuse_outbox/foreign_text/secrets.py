"""Mask secrets in a text: those that are known to this process, and what looks like one.

A known secret is masked in each form in which a text could contain it: plain, percent-encoded, with the escapes of JSON
or Python, and in base64.
"""

from __future__ import annotations

import re
import threading

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
    """The secrets of this process, in each form in which a text could contain them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forms: frozenset[str] = frozenset()
        self.longest = 0
        self._compiled: tuple[tuple[str, ...], re.Pattern[str]] | None = None

    def add(self, secret: str) -> None:
        with self._lock:
            forms = self._forms | set(_forms(secret))
            if forms != self._forms:
                self._forms, self._compiled = (
                    forms,
                    None,
                )  # compiled at the next text, once for a thousand keys
                self.longest = max(map(len, forms))

    def mask(self, text: str) -> str:
        hints, known = self._compiled or self._compile_now()
        lowered = text.lower()
        for hint in hints:
            if hint in lowered:
                # Known secrets first: a shape could match the beginning of a secret only.
                return _LOOKS_SECRET.sub(_masked, known.sub(_masked, text))
        return text

    def _compile_now(self) -> tuple[tuple[str, ...], re.Pattern[str]]:
        with self._lock:
            if self._compiled is None:
                self._compiled = self._compile(self._forms)
            return self._compiled

    @staticmethod
    def _compile(forms: frozenset[str]) -> tuple[tuple[str, ...], re.Pattern[str]]:
        longest_first = sorted(map(re.escape, forms), key=len, reverse=True)
        hints = (*_HINTS, *{form.lower() for form in forms})
        return hints, re.compile("|".join(longest_first) or r"(?!)", re.IGNORECASE)


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
