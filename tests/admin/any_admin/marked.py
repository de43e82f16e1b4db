"""A language in which every translated text is marked, so that a text that cannot be translated stands out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from django.utils import translation

PLACEHOLDER = re.compile(r"(%(?:\(\w+\))?[#0\- +]*[\d.]*[a-zA-Z%]|\{[^{}]*\})")
MARKED = re.compile(r"⟦[^⟦⟧]*⟧")
COMMAND = re.compile(r"`[^`]*`")
WORD = re.compile(r"[^\W\d_]{2,}")
READ_ALOUD = ("title", "aria-label", "placeholder", "alt")


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


def unmarked_words(html: str, names: re.Pattern[str]) -> Iterator[str]:
    """Yield the texts of a page with Latin words outside of marks, commands and ``names``."""
    for text in Texts(html).texts:
        rest = names.sub(" ", COMMAND.sub(" ", MARKED.sub(" ", text)))
        if any(word.isascii() for word in WORD.findall(rest)):
            yield " ".join(text.split())
