"""Sample mails and mbox files for the tests of the example project."""

from __future__ import annotations

from email.message import EmailMessage

SEPARATOR = b"From ada@acme.example Tue Mar  3 09:22:17 2026\n"


def sample_mail(body: bytes = b"Hello", **headers: str | bytes | None) -> bytes:
    """Return the bytes of a mail with the default headers and the given ones.

    Underscores in a header's name become hyphens. The value None removes a default header.
    """
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


def email_message(
    text: str, subject: str = "Hello", charset: str = "utf-8", cte: str | None = None
) -> EmailMessage:
    """Return a mail that is built with the ``email`` package of the standard library."""
    mail = EmailMessage()
    mail["Message-ID"] = "<composed@acme.example>"
    mail["Date"] = "Tue, 3 Mar 2026 10:22:17 +0100"
    mail["From"] = "Ada Okafor <ada@acme.example>"
    mail["To"] = "desk@support.example.com"
    mail["Subject"] = subject
    mail.set_content(text, charset=charset, cte=cte)
    return mail


def mbox(*mails: bytes) -> bytes:
    """Return the content of an mbox file: each mail after a separator line."""
    return b"".join(SEPARATOR + mail.rstrip(b"\n") + b"\n\n" for mail in mails)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
