"""Tests of the parts of a mail: no text is lost, however it is enclosed and encoded."""

from __future__ import annotations

import base64

import pytest

from example_project.support.mail import read

from .sample_mails import email_message, sample_mail


def part(body: bytes, kind: str = "text/plain", **headers: str) -> bytes:
    fields = {"Content-Type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}
    return "".join(f"{name}: {value}\n" for name, value in fields.items()).encode() + b"\n" + body + b"\n"


def multipart(*parts: bytes, kind: str = "mixed", boundary: str = "x", end: bytes = b"") -> bytes:
    content = b"".join(b"--" + boundary.encode() + b"\n" + part for part in parts)
    return sample_mail(
        content + b"--" + boundary.encode() + b"--\n" + end,
        Content_Type=f"multipart/{kind}; boundary={boundary}",
    )


def body(content: bytes) -> str:
    return " ".join(read(content).body.split())


ENCLOSED = email_message("the original", "Old")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (multipart(part(b"plain"), part(b"<p>rich</p>", "text/html"), kind="alternative"), "plain"),
        (multipart(part(b" "), part(b"<p>rich</p>", "text/html"), kind="alternative"), "rich"),
        (
            multipart(part(b"<p>rich</p>", "text/html"), part(b"a footer of the list")),
            "rich a footer of the list",
        ),
        (multipart(part(b"one"), part(b"two"), kind="alternative"), "one two"),
        (multipart(part(b"<p>rich", "text/html"), part(b"x", "image/png"), kind="related"), "rich"),
        (multipart(part(b"BEGIN:VCALENDAR", "text/calendar"), kind="x-new"), "BEGIN:VCALENDAR"),
        (multipart(part(b"<bold>b</bold> <<x", "text/enriched")), "b <x"),
        (
            multipart(part(b"Final-Recipient: x\n\nAction: failed", "message/delivery-status")),
            "Final-Recipient: x Action: failed",
        ),
        (multipart(part(b"file", "text/plain", Content_Disposition="attachment; filename=a.txt")), ""),
        (multipart(part(b"text"), end=b"\nFrom now on\n"), "text From now on"),
        (multipart(part(b"text"), end=b"\nan epilogue is not shown\n"), "text"),
    ],
)
def test_the_text_that_is_shown(content, text):
    assert body(content) == text


def test_each_mail_of_a_digest_keeps_its_text():
    mails = [b"\n" + sample_mail(b"text %d" % number, Subject=f"no. {number}") for number in range(3)]
    text = read(multipart(part(b"Today's topics"), *mails, kind="digest")).body
    for number in range(3):
        assert f"Subject: no. {number}\n" in text
        assert f"text {number}" in text


@pytest.mark.parametrize("encoding", ["7bit", "base64", "quoted-printable"])
def test_an_enclosed_mail_can_be_encoded(encoding):
    content = ENCLOSED.as_bytes()
    encoded = base64.encodebytes(content) if encoding == "base64" else content
    text = read(multipart(part(encoded, "message/rfc822", Content_Transfer_Encoding=encoding))).body
    assert "Subject: Old" in text
    assert "the original" in text


def test_mails_enclosed_in_mails():
    content = ENCLOSED.as_bytes()
    for _ in range(20):
        content = multipart(part(content, "message/rfc822"), boundary=f"b{len(content)}")
    assert "the original" in read(content).body


@pytest.mark.parametrize("repeat", [100, 5_000])
def test_too_many_levels_become_text(repeat):
    assert "the end" in read(b"Content-Type: message/rfc822\n\n" * repeat + b"the end").body


@pytest.mark.parametrize(
    ("content", "encoding", "text"),
    [
        (b"SGVs bG8=", "base64", "Hello"),
        (b"SGVsbG8", "base64", "Hello"),
        (b"SGVsbG8=\nV29ybGQ=", "BASE64 ", "HelloWorld"),
        (
            b"SGVsbG8=\n____\na list: http://acme.example/\n",
            "base64",
            "Hello ____ a list: http://acme.example/",
        ),
        (b"SGVsbG8gV29ybGQh\na list of people\n", "base64", "Hello World! a list of people"),
        (b"a=3D=  \nb =XY =", "quoted-printable", "a=b =XY"),
        (b"a=C3=BC", "quoted printable", "a=C3=BC"),
        (b"begin 644 x\n%2&5L;&\\\n`\nend\n", "x-uuencode", "Hello"),
    ],
)
def test_broken_transfer_encodings(content, encoding, text):
    assert body(sample_mail(content, Content_Transfer_Encoding=encoding)) == text


def test_flowed_text_with_delsp_has_no_broken_links():
    content = b"see http://acme.example/a \nb and \n more\n-- \nAda"
    joined, kept = (
        read(sample_mail(content, Content_Type=f"text/plain; format=flowed; delsp={delsp}")).body
        for delsp in ("yes", "no")
    )
    assert joined == "see http://acme.example/ab and more\n-- \nAda"
    assert kept == content.decode()


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ("filename=a.pdf", "a.pdf"),
        ('filename="a b.pdf"', "a b.pdf"),
        ("filename*=utf-8''%C3%BC.pdf", "ü.pdf"),
        ("filename*0*=utf-8''%C3; filename*1*=%BC; filename*2=.pdf", "ü.pdf"),
        ('filename="=?utf-8?q?=C3=BC?= =?utf-8?q?=2Epdf?="', "ü.pdf"),
        ("filename*=x-no-such''%C3%BC", "ü"),
        ("", ""),
    ],
)
def test_names_of_files(parameters, name):
    content = part(b"x", "application/pdf", Content_Disposition=f"attachment; {parameters}")
    assert [file.filename for file in read(multipart(content)).files] == [name]


def test_winmail_dat_is_named():
    parsed = read(multipart(part(b"text"), part(b"x", "application/ms-tnef; name=winmail.dat")))
    assert [(file.filename, file.mime_type) for file in parsed.files] == [
        ("winmail.dat", "application/ms-tnef")
    ]


@pytest.mark.parametrize(
    "head",
    [
        b">From ada Tue Mar  3 09:22:17 2026\nSubject: yes\nFrom: ada@acme.example\n",
        b"Subject: yes\n>From ada\nFrom: ada@acme.example\n",
        b"X-Long: folded\nwithout a space\nSubject: yes\nFrom: ada@acme.example\n",
        b"Subject: yes\r\r\nFrom: ada@acme.example\r\r\n\r",
        b"X: a\rb\rSubject: yes\rFrom: ada@acme.example\r",
    ],
)
def test_repaired_headers(head):
    parsed = read(head + b"\nthe text")
    assert (parsed.subject, parsed.sender, parsed.body) == ("yes", "ada@acme.example", "the text")


# --- charsets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "charset", "text"),
    [
        (
            "Grüße aus Köln".encode() + b"\xff" + " und München".encode(),
            "utf-8",
            "Grüße aus Köln\ufffd und München",
        ),
        ("Grüße".encode(), "iso-8859-1", "Grüße"),
        ("Grüße".encode(), "us-ascii", "Grüße"),
        ("Grüße “x”".encode("cp1252"), "iso-8859-1", "Grüße “x”"),
        ("日本".encode("cp932"), "x-sjis", "日本"),
        ("한국".encode("cp949"), "ks_c_5601-1987", "한국"),
        ("①".encode("iso2022_jp_3"), "iso-2022-jp", "①"),
        ("Grüße".encode(), '"utf-8; format=flowed"', "Grüße"),
    ],
)
def test_wrong_charsets(content, charset, text):
    assert read(sample_mail(content, Content_Type=f"text/plain; charset={charset}")).body == text


def test_the_charset_of_a_long_text_is_guessed():
    text = "Здравствуйте! Выгрузка данных опять не работает, пожалуйста, посмотрите, что случилось. Спасибо заранее."
    for charset in ("koi8-r", "cp1251"):
        assert read(sample_mail(text.encode(charset), Content_Type="text/plain")).body == text


def test_a_raw_header_is_in_the_charset_of_the_text():
    content = sample_mail(b"x", Subject="Привет".encode("koi8-r"), Content_Type="text/plain; charset=koi8-r")
    assert read(content).subject == "Привет"
