"""Payloads for people; no database."""

from __future__ import annotations

import pytest

from evermuse_outbox.admin.pages.payload import HEAD_LENGTH, MAX_SHOWN, format_payload, parse_vendor_ids
from tests.admin.rows import line


def test_parse_vendor_ids() -> None:
    assert parse_vendor_ids(line("T-1")[:HEAD_LENGTH]) == ["ticket: T-1", "account: A-7"]


@pytest.mark.parametrize(
    ("head", "shown"),
    [
        ("", ""),
        ("{}", ""),
        ("nonsense", ""),
        ('{"_vendor_ids":{}', ""),
        ('{"_vendor_ids":{"a":"1","b":"2', "a: 1, …"),
        ('{"_vendor_ids":{"a":"1",', "a: 1, …"),
        ('{"_vendor_ids":{"a":"q\\"u\\u00e9"},"x":1', 'a: q"ué'),
        ('{"_vendor_ids": { "a" : "1" , "b" : "2" }', "a: 1, b: 2"),
        ('{"_vendor_ids":{"a":7}', "…"),
    ],
)
def test_parse_vendor_ids_of_unusual_payloads(head: str, shown: str) -> None:
    assert ", ".join(parse_vendor_ids(head)) == shown


def test_format_payload() -> None:
    assert format_payload('{"é":[1]}') == ('{\n  "é": [\n    1\n  ]\n}', False)
    assert format_payload("not json") == ("not json", False)
    text, is_cut = format_payload(line(text="x" * MAX_SHOWN))
    assert (len(text), is_cut) == (MAX_SHOWN, True)
