"""Convert the bytes of a mail to text that a database stores and that JSON in UTF-8 can carry."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable
from typing import Any

import charset_normalizer

REPLACEMENT = "\ufffd"
# Mail programs often declare a charset and use characters of its superset. The superset decodes both.
SUPERSETS = {
    "ascii": "utf-8",
    "iso8859-1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "iso8859-9": "cp1254",
}
# Python codecs that are not charsets of mail. Some take quadratic time, and "undefined" always fails.
NON_MAIL_CODECS = {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "mbcs", "oem"}

# Names of charsets that mails use and Python does not know.
ALIASES = {
    "x-sjis": "cp932",
    "x-gbk": "gb18030",
    "x-big5": "big5",
    "x-euc-jp": "euc_jp",
    "x-mac-roman": "mac_roman",
    "x-mac-cyrillic": "mac_cyrillic",
    "ks_c_5601": "cp949",
    "iso-8859-8-i": "iso8859-8",
    "iso-8859-8-e": "iso8859-8",
    "unicode-1-1-utf-7": "utf-7",
    "unicode-1-1-utf-8": "utf-8",
    "utf8mb4": "utf-8",
    "visual": "iso8859-8",
}
# Charsets that are tried if text has characters that are not in the declared one.
EXTENSIONS = {
    "iso2022_jp": ("iso2022_jp_ext", "iso2022_jp_3", "iso2022_jp_2004"),
    "big5": ("cp950", "big5hkscs"),
    "euc_jp": ("euc_jis_2004",),
}
SINGLE_BYTE = {"cp1252", "utf-8"} | {f"iso8859-{number}" for number in (2, 3, 4, 9, 10, 13, 14, 15, 16)}
SINGLE_BYTE |= {"cp1250", "cp1254", "cp1257"}
ASCII_COMPATIBLE = SINGLE_BYTE | {
    "koi8-r",
    "koi8-u",
    "cp1251",
    "iso8859-5",
    "gb18030",
    "cp949",
    "big5",
    "euc_jp",
}
GUESSED = [
    "koi8_r",
    "cp1251",
    "gb18030",
    "big5",
    "cp949",
    "cp932",
    "euc_jp",
    "cp1252",
    "cp1250",
    "cp1253",
    "cp1255",
]
GUESS_BYTES = 20_000  # examined to guess a charset
GUESS_MIN = 40  # bytes above 127; fewer do not show a charset

_CHARSET_END = re.compile(r"[;\s,\"']")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_LINE_END = re.compile(r"\r{1,3}\n|\r")


def clean(text: str) -> str:
    """Replace NUL and lone surrogates by U+FFFD. PostgreSQL refuses NUL, and UTF-8 cannot encode surrogates."""
    return _UNSTORABLE.sub(REPLACEMENT, text)


def decode(content: bytes, charset: str | None) -> str:
    """Decode bytes to clean text.

    The declared charset is tried first, then UTF-8. Bytes that are valid in UTF-8 are read as UTF-8 even if a charset
    with one byte for each character is declared: other text is practically never valid UTF-8. Without a usable charset,
    a long text is read in the charset that fits its statistics. What cannot be decoded is replaced.
    """
    declared = _codec(charset)
    if content.isascii() and (declared in ASCII_COMPATIBLE or declared is None):
        return clean(content.decode("ascii"))
    for codec in _candidates(declared):
        try:
            return clean(content.decode(codec))
        except (UnicodeError, ValueError):
            continue
    if declared in (None, "utf-8") and _is_mainly_utf_8(content):
        return clean(content.decode("utf-8", "replace"))
    return clean(_decode_with_replacement(content, declared or _guessed_codec(content)))


def _candidates(declared: str | None) -> tuple[str, ...]:
    if declared is None or declared in SINGLE_BYTE:
        return ("utf-8", declared) if declared else ("utf-8",)
    return (declared, *EXTENSIONS.get(declared, ()), "utf-8")


def _codec(charset: str | None) -> str | None:
    """Return Python's name of a charset, or None if it is unknown or not a charset of mail."""
    label = _CHARSET_END.split((charset or "").strip("\"' "), maxsplit=1)[0].lower()
    try:
        name = codecs.lookup(ALIASES.get(label, label)).name
        b"a".decode(name, "ignore")  # raises LookupError for codecs that decode bytes to bytes, such as hex
    except (LookupError, ValueError):
        return None
    return None if name.replace("_", "-") in NON_MAIL_CODECS else SUPERSETS.get(name, name)


def _is_mainly_utf_8(content: bytes) -> bool:
    """Return whether bytes are text in UTF-8 with a few wrong bytes, and not text in another charset."""
    decoded = content.decode("utf-8", "replace")
    wrong = decoded.count(REPLACEMENT)
    return sum(character > "\x7f" for character in decoded) >= 2 * wrong


def _guessed_codec(content: bytes) -> str:
    """Return the charset that fits the statistics of a text, or cp1252 if there is too little to judge."""
    sample = content[:GUESS_BYTES]
    if sum(byte > 0x7F for byte in sample) < GUESS_MIN:
        return "cp1252"
    best = charset_normalizer.from_bytes(sample, cp_isolation=GUESSED).best()
    return SUPERSETS.get(best.encoding.replace("_", "-"), best.encoding) if best else "cp1252"


def _decode_with_replacement(content: bytes, codec: str) -> str:
    codec = "cp1252" if codec == "utf-8" else codec
    try:
        return content.decode(codec, "replace")
    except (UnicodeError, ValueError):
        return content.decode("cp1252", "replace")


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
