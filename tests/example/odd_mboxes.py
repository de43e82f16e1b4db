"""Write mails into mbox files in many styles, so that a test knows what an import must find."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hypothesis import strategies as st

DATE = "Tue Mar  3 09:22:17 2026"
SEPARATORS = [
    f"From ada@acme.example {DATE}",
    f"From ada at acme.example  {DATE}",
    f"From - {DATE}",
    f"From MAILER-DAEMON {DATE}",
    "From ada@acme.example Tue Mar 03 09:22:17 +0100 2026",
    "From ada@acme.example Tue, 3 Mar 2026 09:22:17 +0100",
    "From ada@acme.example 2026-03-03 09:22:17",
    "From ada@acme.example",
    "From ada at acme.example",
    "From ",
    "From",
]
PREFIXES = [b"", b"\n", b"\n\n\r\n", b"\xef\xbb\xbf", b"\0\0\0\0", b"This is the archive of a list.\n\n"]
PROSE = [
    "From now on it works.",
    "From Monday to Friday 2026",
    "From the README:\nNote: see below",
    "From: Bob <bob@acme.example>\nSubject: an older mail",
    "----- Forwarded -----\nFrom: Bob <bob@acme.example>\nDate: yesterday\nSubject: no",
    f"> From bob@acme.example {DATE}\n> Subject: quoted",
    f" From bob@acme.example {DATE}\n Subject: indented",
    ">From here it was quoted already.",
]
# Lines that are text only if they are quoted, or within the Content-Length.
SEPARATORS_IN_TEXT = [
    f"From bob@acme.example {DATE}\nSubject: inside\nMessage-ID: <inside@acme.example>\n\ninside",
    f"From bob@acme.example {DATE}",
    "From bob@acme.example\nSubject: inside\nMessage-ID: <inside@acme.example>\n\ninside",
]
WORDS = ["Hello", "", "Grüße\t", "a: b", "x" * 300, "\0", "--", "Content-Length: 5", "."]


@dataclass(frozen=True)
class Style:
    """How a writer of mbox files does it."""

    separator: str
    line_break: str
    has_empty_lines: bool
    quotes: str  # "", "o" (mboxo), "rd" (mboxrd) or "length" (a Content-Length)
    prefix: bytes
    ends_with_line_break: bool

    def write(self, bodies: list[str]) -> bytes:
        """Return an mbox with a mail for each body."""
        gap = self.line_break * (1 + self.has_empty_lines)
        mails = [
            self.separator + self.line_break + self.stored(number, body) for number, body in enumerate(bodies)
        ]
        content = gap.join(mails) + self.line_break * self.ends_with_line_break
        return self.prefix + content.encode()

    def stored(self, number: int, body: str) -> str:
        """Return a mail as it stands in the file, without the line break at its end."""
        body = body.replace("\n", self.line_break)
        fields = {
            "From": "ada@acme.example",
            "Message-ID": f"<{number}@acme.example>",
            "Subject": f"no. {number}",
        }
        if self.quotes == "o":
            body = re.sub(r"(?m)^From ", ">From ", body)
        if self.quotes == "rd":
            body = re.sub(r"(?m)^(>*From )", r">\1", body)
        if self.quotes == "length":
            fields["Content-Length"] = str(len(body.encode()))
        head = "".join(f"{name}: {value}{self.line_break}" for name, value in fields.items())
        return (head + self.line_break + body).rstrip("\r\n")


def styles(**fixed: st.SearchStrategy) -> st.SearchStrategy[Style]:
    """Return all styles, some values of which can be fixed."""
    values: dict[str, st.SearchStrategy] = {
        "separator": st.sampled_from(SEPARATORS),
        "line_break": st.sampled_from(["\n", "\r\n"]),
        "has_empty_lines": st.booleans(),
        "quotes": st.sampled_from(["", "o", "rd", "length"]),
        "prefix": st.sampled_from(PREFIXES),
        "ends_with_line_break": st.booleans(),
    }
    return st.builds(Style, **(values | fixed))


def bodies(*lines: str) -> st.SearchStrategy[list[str]]:
    """Return lists of bodies made of the given lines. No body ends with a line break."""
    body = st.lists(st.sampled_from(lines), max_size=6).map("\n".join).map(lambda text: text.rstrip("\n"))
    return st.lists(body, min_size=1, max_size=6)
