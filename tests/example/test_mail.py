"""Tests of parsing mails: any bytes can be parsed, and the record of any mail is valid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evermuse_outbox.evermuse.records import validate
from example_project.support import mail, records
from example_project.support.html_text import text_of_html
from example_project.support.mail import FALLBACK_DATE, Context, read
from example_project.support.text import REPLACEMENT, clean, decode

from .sample_mails import email_message, sample_mail

CYRILLIC = "Здравствуйте, выгрузка не работает"
JAPANESE = "こんにちは、エクスポートが止まります"


def record_of(content: bytes) -> dict:
    """Return the record of a mail, after validating it under both contracts."""
    record = records.email_record(read(content))
    for contract in ("reference", "openapi"):
        assert validate(record, contract=contract).size < 5_000_000
    return record


# --- charsets and encodings ------------------------------------------------------------------------


@pytest.mark.parametrize("cte", ["base64", "quoted-printable", "8bit"])
@pytest.mark.parametrize(
    ("text", "charset"),
    [("Grüße, 10 €", "utf-8"), ("Grüße", "latin-1"), (CYRILLIC, "koi8-r"), (CYRILLIC, "cp1251")],
)
def test_charsets(text, charset, cte):
    parsed = read(email_message(text, text[:12], charset, cte).as_bytes())
    assert parsed.body.strip() == text
    assert parsed.subject == text[:12]


def test_iso_2022_jp():
    content = sample_mail(
        JAPANESE.encode("iso-2022-jp"),
        Content_Type="text/plain; charset=iso-2022-jp",
        Subject=b"=?iso-2022-jp?b?GyRCJDMkcyRLJEEkTxsoQg==?=",
    )
    parsed = read(content)
    assert parsed.body == JAPANESE
    assert parsed.subject == "こんにちは"


@pytest.mark.parametrize(
    "charset", ["x-no-such", "", "punycode", "hex", "undefined", "us-ascii", '"utf-8"', "\0"]
)
def test_an_unusable_charset_is_guessed(charset):
    parsed = read(sample_mail("Grüße".encode(), Content_Type=f"text/plain; charset={charset}"))
    assert parsed.body == "Grüße"


def test_bytes_that_are_invalid_in_the_declared_charset():
    assert read(sample_mail(b"Gr\xfc\xdfe", Content_Type="text/plain; charset=utf-8")).body == "Grüße"


def test_wrong_base64():
    parsed = read(sample_mail(b"SGVsbG8*gd29ybGQ\n!", Content_Transfer_Encoding="base64"))
    assert parsed.body.startswith("Hello")


def test_unknown_transfer_encoding():
    assert read(sample_mail(b"as it is", Content_Transfer_Encoding="x-rot-13")).body == "as it is"


@pytest.mark.parametrize("raw", ["Grüße".encode(), "Grüße".encode("latin-1")])
def test_eight_bit_headers(raw):
    parsed = read(sample_mail(Subject=raw, From=b"J\xfcrgen <j@acme.example>"))
    assert parsed.subject == "Grüße"
    assert parsed.senders[0].name == "Jürgen"


def test_folded_header():
    assert read(sample_mail(Subject="one\n two\n\tthree")).subject == "one two three"


def test_carriage_returns():
    parsed = read(sample_mail(b"one\ntwo\n").replace(b"\n", b"\r\n"))
    assert parsed.body == "one\ntwo\n"
    assert parsed.subject == "The export stops"


def test_nul_and_surrogates_are_replaced():
    assert read(sample_mail(b"a\0b", Subject=b"c\0d")).body == f"a{REPLACEMENT}b"
    assert clean("a\udcffb\0") == f"a{REPLACEMENT}b{REPLACEMENT}"
    assert decode(b"+2AA-", "utf-7") == REPLACEMENT


# --- structure -------------------------------------------------------------------------------------


def test_plain_text_is_preferred():
    message = email_message("plain words")
    message.add_alternative("<p>rich words</p>", subtype="html")
    assert read(message.as_bytes()).body.strip() == "plain words"


def test_html_is_converted_to_text():
    page = (
        b"<html><head><style>p{}</style><title>t</title></head>"
        b"<body><p>One &amp; <b>two</b></p><br>three<script>x"
    )
    assert read(sample_mail(page, Content_Type="text/html")).body == "One & two\n\nthree"


def test_attachments_are_listed():
    message = email_message("see below")
    message.add_attachment(b"\x89PNG...", maintype="image", subtype="png", filename="Übersicht.png")
    data = record_of(message.as_bytes())["data"]
    assert data["attachments"] == [{"filename": "Übersicht.png", "mime_type": "image/png", "size": 7}]
    assert data["body"].strip() == "see below"


def test_an_enclosed_mail_is_text_and_an_attachment():
    message = email_message("forwarded")
    message.add_attachment(email_message("the original"))
    parsed = read(message.as_bytes())
    assert parsed.body.startswith("forwarded\n")
    assert "From: Ada Okafor <ada@acme.example>\n" in parsed.body
    assert parsed.body.endswith("Subject: Hello\nMessage-ID: <composed@acme.example>\n\nthe original\n")
    assert parsed.files[0].mime_type == "message/rfc822"
    assert parsed.files[0].size > 100


def test_multipart_without_boundary():
    assert read(sample_mail(b"just text", Content_Type="multipart/mixed")).body == "just text"


def test_deeply_nested():
    parts = [
        b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (depth, depth) for depth in range(3_000)
    ]
    record_of(b"".join(parts) + b"\nend")


# --- ids, dates, people ----------------------------------------------------------------------------


def test_a_mail_without_message_id_gets_a_hash_of_its_content():
    content = sample_mail(Message_ID=None)
    assert read(content).message_id == read(content).message_id
    assert read(content).message_id.startswith("<sha256-")
    assert read(content).message_id != read(content + b"!").message_id


def test_long_ids_are_hashed():
    ids = {read(sample_mail(Message_ID=f"<{'x' * 300}{n}@a>")).message_id for n in range(2)}
    assert len(ids) == 2
    assert all(len(message_id) <= 256 for message_id in ids)


def test_a_reply_is_in_the_thread_of_the_first_mail():
    first = read(sample_mail())
    answer = read(sample_mail(Message_ID="<2@a>", In_Reply_To="<1@acme.example>"))
    later = read(sample_mail(Message_ID="<3@a>", References="<1@acme.example>\n <2@a>", In_Reply_To="<2@a>"))
    assert first.thread_id == answer.thread_id == later.thread_id == "<1@acme.example>"
    assert later.in_reply_to == "<2@a>"


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Tue, 3 Mar 2026 10:22:17 +0100", datetime(2026, 3, 3, 9, 22, 17, tzinfo=UTC)),
        ("Tue, 3 Mar 2026 10:22:17 -0000", datetime(2026, 3, 3, 10, 22, 17, tzinfo=UTC)),
        ("3 Mar 2026 10:22:17", datetime(2026, 3, 3, 10, 22, 17, tzinfo=UTC)),
        ("Tue Mar  3 10:22:17 2026", datetime(2026, 3, 3, 10, 22, 17, tzinfo=UTC)),
    ],
)
def test_dates(date, expected):
    assert read(sample_mail(Date=date)).sent_at == expected


@pytest.mark.parametrize(
    "date",
    [
        None,
        "",
        "yesterday",
        "Tue, 3 Mar 12026 10:22:17 +0100",
        "1 Jan 0101 00:00:00 +1400",
        "3 Mar 2026 10:22:17 +999999",
        "31 Dec 9999 23:59:59 -1200",
        "9" * 5_000,
        "Tue, 3 Mar 1904 10:22:17 +0100",
    ],
)
def test_other_sources_of_the_date(date):
    content = sample_mail(Date=date)
    last_hop = b"Received: from a by b; Wed, 4 Mar 2026 00:00:00 +0000\n"
    received = last_hop + b"Received: by a; Tue, 3 Mar 2026 23:59:59 +0000\n"
    separator = datetime(2026, 3, 5)
    assert read(received + content, Context(separator_date=separator)).sent_at == datetime(
        2026, 3, 3, 23, 59, 59, tzinfo=UTC
    )
    assert read(content, Context(separator_date=separator)).sent_at == datetime(2026, 3, 5, tzinfo=UTC)
    assert read(content).sent_at == FALLBACK_DATE


def test_participants():
    record = record_of(
        sample_mail(
            To="Bob <bob@northwind.example>, desk@support.example.com", Cc="ADA@acme.example, not an address"
        )
    )
    people = {person["id"]: person for person in record["_participants"]}
    assert people["ada@acme.example"]["role"] == "external"
    assert people["ada@acme.example"]["email"] == "Ada@acme.example"
    assert people["bob@northwind.example"] == {
        "id": "bob@northwind.example",
        "name": "Bob",
        "email": "bob@northwind.example",
        "role": "unknown",
        "type": "unknown",
    }
    assert people["desk@support.example.com"]["role"] == "internal"
    assert all("email" not in person for name, person in people.items() if "@" not in name)


def test_no_recipients_and_very_many_recipients():
    assert record_of(sample_mail(From=None, To="undisclosed-recipients:;"))["_participants"] == []
    crowd = ",\n ".join(f"{'n' * 200} <{'a' * 60}{n}@{'b' * 60}.example>" for n in range(6_000))
    assert 100 < len(record_of(sample_mail(To=crowd))["_participants"]) <= 5_000


def test_list_id_is_a_tag():
    assert record_of(sample_mail(List_Id="Talk about it <Talk.acme.example>"))["_tags"] == [
        "talk.acme.example"
    ]


# --- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["word ", "ü", "😀", "\x01", '"\n', "\\"])
def test_huge_bodies_are_cut(unit):
    body = (unit * (6_000_000 // len(unit.encode()))).encode()
    data = record_of(sample_mail(body, Content_Type="text/plain; charset=utf-8"))["data"]
    assert data["truncated"] is True
    assert len(data["body"].encode()) <= mail.BODY_BYTES
    assert len(json.dumps(data, ensure_ascii=False).encode()) < 4_900_000


def test_a_body_of_the_largest_size_is_not_cut():
    data = record_of(sample_mail(b"x" * mail.BODY_BYTES))["data"]
    assert len(data["body"]) == mail.BODY_BYTES
    assert "truncated" not in data


@pytest.mark.parametrize(
    "content",
    [
        sample_mail(To="(" * 50_000),
        sample_mail(To=", ".join(["a@b.example"] * 50_000)),
        sample_mail(Subject="=?utf-8?q?abc?= " * 50_000),
        sample_mail(Content_Type="text/plain; " + "a=b; " * 50_000),
        sample_mail(Content_Type="multipart/mixed; boundary=" + "x" * 500_000),
        sample_mail(b"\xff" * 400_000, Content_Type="text/plain; charset=punycode"),
        sample_mail(b"<a x='" * 100_000, Content_Type="text/html"),
        sample_mail(b"<!--" * 100_000, Content_Type="text/html"),
    ],
    ids=["brackets", "addresses", "words", "parameters", "boundary", "punycode", "tags", "comments"],
)
def test_hostile_mails_are_parsed_quickly(content):
    # Each of these mails takes minutes in a parser that needs quadratic time.
    assert record_of(content)


# --- random content --------------------------------------------------------------------------------

HEADER_NAMES = st.sampled_from(
    [
        b"Message-ID",
        b"Date",
        b"From",
        b"To",
        b"Cc",
        b"Subject",
        b"References",
        b"In-Reply-To",
        b"List-Id",
        b"Received",
        b"Content-Type",
        b"Content-Transfer-Encoding",
        b"Content-Disposition",
        b"MIME-Version",
    ]
)
TOKENS = st.sampled_from(
    [
        b"<",
        b">",
        b"@",
        b"(",
        b'"',
        b";",
        b",",
        b":",
        b"=?utf-8?q?=C3=BC?=",
        b"=?x?b?!!?=",
        b"=?utf-8*en?q?a?=",
        b"\0",
        b"\xff",
        b"\xc3",
        b"text/html",
        b"multipart/mixed; boundary=x",
        b"message/rfc822",
        b"charset*0=utf",
        b"charset=hex",
        b"filename*=utf-8''%ff",
        b"base64",
        b"uuencode",
        b"quoted-printable",
        b"\n ",
        b"\r",
        b"a@b.example",
        b"Mon, 1 Jan 2024",
        b"\xf0\x9f\x98\x80",
        b"\n--x\n",
        b"\n\n",
    ]
)
VALUES = st.lists(TOKENS | st.binary(max_size=8), max_size=8).map(b" ".join)
HEADERS = st.lists(st.tuples(HEADER_NAMES, VALUES).map(b": ".join), max_size=8).map(b"\n".join)
BROKEN_MAILS = st.tuples(HEADERS, VALUES).map(b"\n\n".join)


def strings(value: object) -> Iterator[str]:
    """Yield every string in a record, keys included."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=500) | BROKEN_MAILS)
def test_any_bytes_can_be_parsed(content):
    for text in strings(record_of(content)):
        assert text == clean(text)


@given(st.text())
def test_any_markup_can_be_converted(markup):
    text_of_html(markup)


def test_markup_at_which_the_parser_fails():
    assert text_of_html("before<![weird[ after").startswith("before")


def test_if_both_parsers_fail_the_mail_becomes_its_body(monkeypatch):
    def fail(*_args, **_options):
        raise IndexError

    monkeypatch.setattr(mail, "parse", fail)
    assert "The export stops" in record_of(sample_mail())["data"]["body"]


def test_an_empty_mail():
    assert record_of(EmailMessage().as_bytes())["data"]["body"] == ""
    assert record_of(b"")["_vendor_ids"]["message_id"].startswith("<sha256-")
