"""A language in which every translated text is marked, so that a text that cannot be translated stands out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from django.utils import translation

from evermuse_outbox.evermuse.records import OPENAPI_TYPES

from .every_state import WORKSPACES

PLACEHOLDER = re.compile(r"(%(?:\(\w+\))?[#0\- +]*[\d.]*[a-zA-Z%]|\{[^{}]*\})")
MARKED = re.compile(r"⟦[^⟦⟧]*⟧")
COMMAND = re.compile(r"`[^`]*`")
WORD = re.compile(r"[^\W\d_]{2,}")
READ_ALOUD = ("title", "aria-label", "placeholder", "alt")

UNITS = ("ms", "min", "kB", "MB")
"""Symbols that are the same in every language."""

VALUES = (
    *WORKSPACES, *OPENAPI_TYPES, "full", "gone", "admin", "anna", "HTTP", "HTTPS", "JSON", "Evermuse", "BAD", "UTC",
    "ALTERED", "LANDED", "IN_PROGRESS", "reference", "openapi", "ndjson", "em_sk_test", "ticket", "account",
)  # fmt: skip
"""Values of the test's rows and settings, and names that are the same in every language."""

OF_DJANGO = "Search", "Support desk", "Conversations", "Emails", "Messages"
"""Texts of Django and of the example project."""

STORED = (
    r"\b(?:batch|records?|rule|workspace|group) #?\d+|A person gave up the batch\.|all records with state = rejected"
    r"|Evermuse sent a retryAfter before the workspace was held\.|Its group was paused; its records are pending again\."
    r'|\{"batchId":"x"\}'
)
"""What the log of actions and the messages of batches keep. They are English, for readers of any language."""

WORDS = "|".join(map(re.escape, (*UNITS, *VALUES, *OF_DJANGO)))
IDS = r"\b(?:prod|remote)\b[-\w]*|[xyr]{20,}|T-\w+|\b[0-9a-f]{8}(?:[0-9a-f]{4,}|-[-0-9a-f]+)\b|https?://\S+"
NAMES = re.compile(rf"{STORED}|\b(?:{WORDS})\b|{IDS}", re.IGNORECASE)
"""What need not be marked."""


def mark(text: str) -> str:
    """Return a text with marks around each part between its placeholders, whose values are not translated."""
    parts = PLACEHOLDER.split(text)
    return "".join(f"⟦{part}⟧" if part and index % 2 == 0 else part for index, part in enumerate(parts))


def use_marked_language(monkeypatch: Any) -> set[str]:
    """Mark all texts that are translated. Return the set to which each of them is added."""
    seen: set[str] = set()

    def gettext(message: str) -> str:
        seen.add(message)
        return mark(message) if message else ""

    def ngettext(singular: str, plural: str, number: int) -> str:
        return gettext(singular if number == 1 else plural)

    translation.gettext("")  # loads the functions that are replaced
    monkeypatch.setattr(translation._trans, "gettext", gettext, raising=False)
    monkeypatch.setattr(translation._trans, "ngettext", ngettext, raising=False)
    monkeypatch.setattr(translation._trans, "pgettext", lambda _context, text: gettext(text), raising=False)
    monkeypatch.setattr(
        translation._trans, "npgettext", lambda _context, *texts: ngettext(*texts), raising=False
    )
    return seen


class Texts(HTMLParser):
    """The texts of a page that a person sees or hears, without code."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._hidden = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        values = dict(attrs)
        if tag in ("script", "style", "pre", "code", "head", "textarea") and not self._hidden:
            self._hidden = tag
        self.texts += [values[name] for name in READ_ALOUD if values.get(name)]
        if tag == "input" and values.get("type") in ("submit", "button"):
            self.texts.append(values.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == self._hidden:
            self._hidden = ""

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.texts.append(data)


def unmarked_words(html: str) -> Iterator[str]:
    """Yield the texts of a page with Latin words outside of marks, commands and ``NAMES``."""
    for text in Texts(html).texts:
        rest = NAMES.sub(" ", COMMAND.sub(" ", MARKED.sub(" ", text)))
        if any(word.isascii() for word in WORD.findall(rest)):
            yield " ".join(text.split())
