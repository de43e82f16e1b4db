"""Tests of reading headers: encoded words, addresses and Message-IDs."""

from __future__ import annotations

import base64
from email.header import Header
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from example_project.support.headers import Contact, decode_words, header, lenient_base64, parse_addresses

LONG_NAME = "Дмитрий Александрович Константинопольский-Преображенский"


def words(text: str, charset: str, size: int) -> str:
    """Return encoded words with ``size`` bytes each, which can divide a character."""
    content = text.encode(charset)
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    return "\n ".join(f"=?{charset}?b?{base64.b64encode(piece).decode()}?=" for piece in pieces)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("=?UTF-8?B?R3LDvMOfZQ==?= =?UTF-8?Q?_aus?= K=?iso-8859-1?q?=F6ln?=", "Grüße aus Köln"),
        ("Re:=?utf-8?q?a?==?utf-8?q?b?= c", "Re:ab c"),
        ("=?utf-8?q?a?= \r\n\t =?utf-8?q?b?=", "ab"),
        ("=?utf-8?q?a?= - =?utf-8?q?b?=", "a - b"),
        ("=?utf-8*en?q?a?=", "a"),
        ("=?x-no-such?q?=C3=BC?=", "ü"),
        ("=?utf-8?b?R3LDvA?=", "Grü"),  # no padding
        ("=?utf-8?b?R3L DvA==?=", "Grü"),
        ("=?utf-8?q?what??=", "what?"),
        ("=?utf-8?q?a b?=", "a b"),
        ("=?iso-2022-jp?b?GyRCJDMkcyRLJEEkTxsoQg==?=", "こんにちは"),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
        ("=?utf-8?q?a", "=?utf-8?q?a"),
    ],
)
def test_encoded_words(raw, text):
    assert decode_words(raw) == text


@pytest.mark.parametrize("size", [1, 7, 30, 45])
@pytest.mark.parametrize("charset", ["utf-8", "koi8-r", "utf-16"])
def test_a_character_can_be_divided_between_words(size, charset):
    assert decode_words(words(LONG_NAME, charset, size).replace("\n", "")) == LONG_NAME


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")))
def test_every_header_of_the_standard_library_is_decoded(text):
    encoded = Header(text, "utf-8", maxlinelen=60).encode()
    assert decode_words(encoded.replace("\n", "")) == text or "=?" in text


@pytest.mark.parametrize(
    ("raw", "contacts"),
    [
        ("ada@acme.example", [("", "ada@acme.example")]),
        (
            "Ada <ada@acme.example>, <bob@acme.example>",
            [("Ada", "ada@acme.example"), ("", "bob@acme.example")],
        ),
        ('"Okafor, Ada" <ada@acme.example>', [("Okafor, Ada", "ada@acme.example")]),
        (r'"Ada \"Oka\" (x)" <ada@acme.example>', [('Ada "Oka" (x)', "ada@acme.example")]),
        ("ada@acme.example (Ada (the first) Okafor)", [("Ada the first Okafor", "ada@acme.example")]),
        ("Team: ada@acme.example, bob@acme.example;", [("", "ada@acme.example"), ("", "bob@acme.example")]),
        ("undisclosed-recipients:;", []),
        ("Ada <@relay.example,@b.example:ada@acme.example>", [("Ada", "ada@acme.example")]),
        ("=?utf-8?q?Okafor=2C_Ada?= <ada@acme.example>", [("Okafor, Ada", "ada@acme.example")]),
        ("=?utf-8?q?Okafor, Ada?= <ada@acme.example>", [("Okafor, Ada", "ada@acme.example")]),
        ('"=?utf-8?q?Bj=C3=B6rn?=" <b@acme.example>', [("Björn", "b@acme.example")]),
        ("ada at acme.example (Ada Okafor)", [("Ada Okafor", "ada@acme.example")]),
        ('"john doe"@acme.example', [("", '"john doe"@acme.example')]),
        ("Ada <ada@acme.example> <other@acme.example>", [("Ada", "other@acme.example")]),
        ("ada@acme.example; bob@acme.example", [("", "ada@acme.example"), ("", "bob@acme.example")]),
        ("not an address", [("", "not an address")]),
        (", ,,", []),
        ("Ada <>", [("", "Ada")]),
        ('"Ada <ada@acme.example>', [('"Ada', "ada@acme.example")]),
        ("Ada (no end <ada@acme.example>", [("Ada no end", "ada@acme.example")]),
    ],
)
def test_addresses(raw, contacts):
    assert parse_addresses(raw) == [Contact(*contact) for contact in contacts]


def test_a_decoded_name_with_a_comma_is_quoted_in_the_header():
    message = Message()
    message["From"] = (
        "=?utf-8?q?Okafor=2C?= =?iso-8859-1?q?_Ad=E9?= <ada@acme.example>, =?utf-8?q?B=C3=B6?= <b@c.example>"
    )
    assert header(message, "from") == '"Okafor, Adé" <ada@acme.example>, Bö <b@c.example>'


def test_a_long_encoded_name_has_no_spaces_inside():
    name = "Donaudampfschifffahrtsgesellschaftskapitänswitwenrentenauszahlungsstelle"
    raw = f"{Header(name, 'utf-8', maxlinelen=40).encode()} <a@acme.example>".replace("\n", "")
    assert raw.count("=?") > 2
    assert parse_addresses(raw) == [Contact(name, "a@acme.example")]


@given(st.binary(), st.integers(1, 60))
def test_base64_with_line_breaks_and_junk(content, width):
    encoded = base64.b64encode(content)
    lines = b"!\r\n".join(encoded[start : start + width] for start in range(0, len(encoded), width))
    assert lenient_base64(lines) == content
    assert lenient_base64(lines.rstrip(b"=")) == content
