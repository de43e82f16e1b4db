"""Bytes and markup to clean text: whatever a mail holds, what comes out can be stored and sent."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from typing import Any

REPLACEMENT = "\ufffd"
# What mailers write and what they mean by it: the wider charset reads everything of the narrower one.
WIDER_CHARSETS = {
    "ascii": "utf-8",
    "iso8859-1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
}
# Python codecs that are no charset of mail; some need quadratic time, one always fails.
NO_CHARSETS = {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "mbcs", "oem"}

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_TAG = re.compile(r"<[^<>]*>?")
_LINE_END = re.compile(r"\r\n?")
_SPACES = re.compile(r"[ \t\f\v\xa0]+")
_EMPTY_LINES = re.compile(r"\n\s*\n")


def clean(text: str) -> str:
    """The text with U+FFFD for NUL and lone surrogates, which no database and no UTF-8 takes."""
    return _UNSTORABLE.sub(REPLACEMENT, text)


def decode(content: bytes, charset: str | None) -> str:
    """The text of some bytes: by the declared charset, else UTF-8, else as nearly as can be."""
    declared = _codec(charset)
    for codec in filter(None, (declared, "utf-8")):
        try:
            return clean(content.decode(codec))
        except (UnicodeError, ValueError):
            continue
    return clean(_nearly(content, declared or "cp1252"))


def _codec(charset: str | None) -> str | None:
    """Python's name of a charset, or None where it knows none or one that is not for mail."""
    try:
        name = codecs.lookup((charset or "").strip("\"' ")).name
        b"a".decode(name, "ignore")  # a LookupError for the codecs that make bytes of bytes
    except (LookupError, ValueError):
        return None
    return None if name.replace("_", "-") in NO_CHARSETS else WIDER_CHARSETS.get(name, name)


def _nearly(content: bytes, codec: str) -> str:
    codec = "cp1252" if codec == "utf-8" else codec
    try:
        return content.decode(codec, "replace")
    except (UnicodeError, ValueError):
        return content.decode("cp1252", "replace")


class _TextOfHtml(HTMLParser):
    """Gathers the text that a browser would show, with a line end for each block."""

    HIDDEN = {"script", "style", "title", "template"}
    BLOCKS = {"br", "p", "div", "li", "tr", "table", "ul", "ol", "blockquote", "pre", "hr", "section"}
    BLOCKS |= {f"h{level}" for level in range(1, 7)}

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.hidden: str | None = None

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in self.HIDDEN:
            self.hidden = self.hidden or tag
        elif tag in self.BLOCKS:
            self.found.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == self.hidden:
            self.hidden = None
        elif tag in self.BLOCKS:
            self.found.append("\n")

    def handle_data(self, data: str) -> None:
        if self.hidden is None:
            self.found.append(data)


def text_of_html(markup: str) -> str:
    """What a reader would see of an HTML page; broken markup is read as far as it goes."""
    parser = _TextOfHtml()
    try:
        parser.feed(markup)
    except Exception:  # html.parser meets some broken declarations with a failed assertion
        parser.rawdata = _TAG.sub(" ", parser.rawdata)
    # Never parser.close(): over an unfinished tag it takes quadratic time.
    if parser.hidden is None:
        parser.found.append(_TAG.sub(" ", parser.rawdata))
    return _tidy("".join(parser.found))


def _tidy(text: str) -> str:
    lines = (_SPACES.sub(" ", line).strip() for line in unix_lines(text).split("\n"))
    return _EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip()


def unix_lines(text: str) -> str:
    """The text with every line end as a single newline."""
    return _LINE_END.sub("\n", text)


def json_bytes(value: object) -> int:
    """How many bytes of JSON in UTF-8 a value takes."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def cut(text: str, utf8_bytes: int, in_json: int) -> tuple[str, bool]:
    """The longest beginning within both sizes (JSON writes a control character in six bytes), and
    whether anything was cut off."""
    if _fits(text, utf8_bytes, in_json):
        return text, False
    low, high = 0, min(len(text), utf8_bytes)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _fits(text[:middle], utf8_bytes, in_json) else (low, middle - 1)
    return text[:low], True


def _fits(text: str, utf8_bytes: int, in_json: int) -> bool:
    if 6 * len(text) <= min(utf8_bytes, in_json) - 2:
        return True  # no character takes more than six bytes: spare the counting
    return len(text.encode()) <= utf8_bytes and json_bytes(text) <= in_json


def within(items: Iterable[Any], in_json: int) -> list[Any]:
    """The first items that together take no more than so many bytes of JSON."""
    room, found = in_json, []
    for item in items:
        room -= json_bytes(item) + 1
        if room < 0:
            break
        found.append(item)
    return found
