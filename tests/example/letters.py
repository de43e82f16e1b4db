"""Mails and mboxes for the tests of the example, written by hand."""

from __future__ import annotations

from email.message import EmailMessage

SEPARATOR = b"From ada@acme.example Tue Mar  3 09:22:17 2026\n"


def letter(body: bytes = b"Hello", **headers: str | bytes | None) -> bytes:
    """A mail of plain headers; a keyword's underscores become hyphens, None leaves the header out."""
    fields: dict[str, str | bytes | None] = {
        "Message-ID": "<1@acme.example>",
        "Date": "Tue, 3 Mar 2026 10:22:17 +0100",
        "From": "Ada Okafor <Ada@acme.example>",
        "To": "desk@support.example.com",
        "Subject": "The export stops",
    }
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [
        b"%s: %s\n" % (name.encode(), _bytes(value)) for name, value in fields.items() if value is not None
    ]
    return b"".join(lines) + b"\n" + body


def composed(
    text: str, subject: str = "Hello", charset: str = "utf-8", cte: str | None = None
) -> EmailMessage:
    """A mail as Python's own library writes it."""
    mail = EmailMessage()
    mail["Message-ID"] = "<composed@acme.example>"
    mail["Date"] = "Tue, 3 Mar 2026 10:22:17 +0100"
    mail["From"] = "Ada Okafor <ada@acme.example>"
    mail["To"] = "desk@support.example.com"
    mail["Subject"] = subject
    mail.set_content(text, charset=charset, cte=cte)
    return mail


def mbox(*letters: bytes) -> bytes:
    """The letters in one file, each behind a separator."""
    return b"".join(SEPARATOR + content.rstrip(b"\n") + b"\n\n" for content in letters)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
