"""Convert the bytes and the HTML of a mail to text that a database stores and that JSON in UTF-8 can carry."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from typing import Any

REPLACEMENT = "\ufffd"
# Mail programs often declare a charset and use characters of its superset. The superset decodes both.
SUPERSETS = {
    "ascii": "utf-8",
    "iso8859-1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
}
# Python codecs that are not charsets of mail. Some take quadratic time, and "undefined" always fails.
NON_MAIL_CODECS = {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "mbcs", "oem"}

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_TAG = re.compile(r"<[^<>]*>?")
_LINE_END = re.compile(r"\r\n?")
_SPACES = re.compile(r"[ \t\f\v\xa0]+")
_EMPTY_LINES = re.compile(r"\n\s*\n")


def clean(text: str) -> str:
    """Replace NUL and lone surrogates by U+FFFD. PostgreSQL refuses NUL, and UTF-8 cannot encode surrogates."""
    return _UNSTORABLE.sub(REPLACEMENT, text)


def decode(content: bytes, charset: str | None) -> str:
    """Decode bytes to clean text.

    The declared charset is tried first, then UTF-8. If both fail, undecodable bytes are replaced.
    """
    declared = _codec(charset)
    for codec in filter(None, (declared, "utf-8")):
        try:
            return clean(content.decode(codec))
        except (UnicodeError, ValueError):
            continue
    return clean(_decode_with_replacement(content, declared or "cp1252"))


def _codec(charset: str | None) -> str | None:
    """Return Python's name of a charset, or None if it is unknown or not a charset of mail."""
    try:
        name = codecs.lookup((charset or "").strip("\"' ")).name
        b"a".decode(name, "ignore")  # raises LookupError for codecs that decode bytes to bytes, such as hex
    except (LookupError, ValueError):
        return None
    return None if name.replace("_", "-") in NON_MAIL_CODECS else SUPERSETS.get(name, name)


def _decode_with_replacement(content: bytes, codec: str) -> str:
    codec = "cp1252" if codec == "utf-8" else codec
    try:
        return content.decode(codec, "replace")
    except (UnicodeError, ValueError):
        return content.decode("cp1252", "replace")


class _TextOfHtml(HTMLParser):
    """Collect the text that a browser would show, with a line break for each block element."""

    HIDDEN = {"script", "style", "title", "template"}
    BLOCKS = {"br", "p", "div", "li", "tr", "table", "ul", "ol", "blockquote", "pre", "hr", "section"}
    BLOCKS |= {f"h{level}" for level in range(1, 7)}

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self.hidden: str | None = None  # the open element of HIDDEN, if any

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Start a line at a block element, and note the start of a hidden element."""
        if tag in self.HIDDEN:
            self.hidden = self.hidden or tag
        elif tag in self.BLOCKS:
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """End the line at a block element, and note the end of a hidden element."""
        if tag == self.hidden:
            self.hidden = None
        elif tag in self.BLOCKS:
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        """Collect text outside of hidden elements."""
        if self.hidden is None:
            self.pieces.append(data)


def text_of_html(markup: str) -> str:
    """Return the visible text of an HTML page, also if its markup is broken."""
    parser = _TextOfHtml()
    try:
        parser.feed(markup)
    except Exception:  # html.parser fails with an AssertionError at some broken declarations
        parser.rawdata = _TAG.sub(" ", parser.rawdata)
    # Do not call parser.close(): it takes quadratic time if a tag is unfinished.
    if parser.hidden is None:
        parser.pieces.append(_TAG.sub(" ", parser.rawdata))
    return _tidy("".join(parser.pieces))


def _tidy(text: str) -> str:
    lines = (_SPACES.sub(" ", line).strip() for line in unix_lines(text).split("\n"))
    return _EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip()


def unix_lines(text: str) -> str:
    """Replace every line break by a single newline."""
    return _LINE_END.sub("\n", text)


def json_bytes(value: object) -> int:
    """Return the length of a value as JSON in UTF-8, in bytes."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def cut(text: str, utf8_bytes: int, json_limit: int) -> tuple[str, bool]:
    """Return the longest prefix of a text that fits both limits, and whether the text was cut.

    Both limits are in bytes: ``utf8_bytes`` for the text in UTF-8, ``json_limit`` for the text as a JSON
    string. The second one can be larger because JSON writes a control character with six bytes.
    """
    if _fits(text, utf8_bytes, json_limit):
        return text, False
    low, high = 0, min(len(text), utf8_bytes)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _fits(text[:middle], utf8_bytes, json_limit) else (low, middle - 1)
    return text[:low], True


def _fits(text: str, utf8_bytes: int, json_limit: int) -> bool:
    if 6 * len(text) <= min(utf8_bytes, json_limit) - 2:
        return True  # no character takes more than six bytes, so the exact size need not be computed
    return len(text.encode()) <= utf8_bytes and json_bytes(text) <= json_limit


def within(items: Iterable[Any], json_limit: int) -> list[Any]:
    """Return as many of the first items as fit into ``json_limit`` bytes of JSON together."""
    room, accepted = json_limit, []
    for item in items:
        room -= json_bytes(item) + 1  # the comma
        if room < 0:
            break
        accepted.append(item)
    return accepted
