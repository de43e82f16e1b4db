"""Recognise the separator lines of an mbox, by their form and by what stands around them.

There is no standard for the line. ``From ada@acme.example Mon Sep 17 00:00:00 2001`` is the usual form, but some
programs leave out the date or the address. The same words can begin a line of a text. So the header fields that
follow decide, and what is usual in the same file decides where they leave a doubt.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum

LINE_BYTES = 1_000  # a longer line is text: RFC 5322 (section 2.1.1) allows 998 characters
LOOKAHEAD_BYTES = (
    65_536  # of the header fields after a line; more than servers accept for all fields together
)
SAMPLE_LINES = 5_000  # that begin with "From "; enough to know the style of a file
FIELD_LIMIT = 60  # header fields that are examined after a line

_CANDIDATE = re.compile(rb"\n(?P<line>(?:\0|\xef\xbb\xbf)*From(?: |(?=\r?\n)))")
_LINE_PREFIX = (
    b"\0\xef\xbb\xbf"  # NUL from a hole in the file, and the byte order mark of a file that was appended
)
_FIELD = re.compile(rb"([!-9;-~]{1,100})[ \t]*:")
_PARTIAL_FIELD = re.compile(rb"[!-9;-~]*(?::|\Z)")
_QUOTED_FROM_LINE = re.compile(rb">From ")
_TEXT_BYTES = re.compile(rb"[ -~]")
_WEEKDAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH = rb"(?P<month>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TIME = rb"(?P<time>\d{1,2}:\d\d(?::\d\d)?)"
_ZONE = rb"(?:[A-Z]{1,5}|[+-]\d{4})"
_DATES = {
    "ctime": re.compile(
        rb"From (?:(?P<sender>.+) )?" + _WEEKDAY + rb",? " + _MONTH + rb" (?P<day>\d{1,2}) " + _TIME
        + rb" (?:(?P<zone>" + _ZONE + rb") )?(?P<year>\d{4})(?: (?P<zone_after_year>" + _ZONE + rb"))?"
        + rb"(?: remote from \S+)?$"
    ),
    "mail": re.compile(
        rb"From (?:(?P<sender>.+) )?" + _WEEKDAY + rb",? (?P<day>\d{1,2})[ -]" + _MONTH + rb"[ -](?P<year>\d{4}) "
        + _TIME + rb"(?: (?P<zone>" + _ZONE + rb"))?(?: \([A-Za-z ]+\))?$"
    ),
    "iso": re.compile(
        rb"From (?:(?P<sender>.+) )?(?P<iso>\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d)?)(?:\.\d+)?"
        rb" ?(?P<zone>Z|[+-]\d\d:?\d\d)?$"
    ),
}  # fmt: skip
_ADDRESS = re.compile(
    rb"From (?:<?[^\s<>]+@[^\s<>]*>?|[^\s:]+ at \S+|-|MAILER-DAEMON|\S*\?\?\?\S*)(?P<rest> .*)?$"
)
_CLOCK = re.compile(rb"\d{1,2}:\d\d")

# Fields of nearly every mail. Programs write the fields in TECHNICAL; people rarely paste these into a text.
TECHNICAL = frozenset(
    b"message-id received return-path delivered-to mime-version content-transfer-encoding dkim-signature "
    b"x-mozilla-status x-original-to envelope-to references in-reply-to content-type path status x-status".split()
)
USUAL = TECHNICAL | frozenset(
    b"from to cc date subject sender reply-to resent-from resent-date bcc newsgroups list-id x-mailer x-from "
    b"apparently-to errors-to precedence".split()
)


class Form(Enum):
    """What a line looks like: with a date, with an address, ``From`` alone, or like the beginning of a sentence."""

    DATED = "dated"
    ADDRESS = "address"
    EMPTY = "empty"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Fields:
    """The header fields after a line: how many, how many usual ones, and whether an empty line ends them."""

    count: int = 0
    usual: int = 0
    is_technical: bool = False
    is_complete: bool = False
    next_line: bytes = b""

    @property
    def is_header(self) -> bool:
        """Return whether these are the fields of a mail, and not a sentence with a colon."""
        return self.usual >= 2 or (self.usual == 1 and self.is_complete)


@dataclass(frozen=True, slots=True)
class Style:
    """What is usual in a file: the formats of its dated separators, and what stands around its separators.

    ``has_text_lines`` means that lines of its texts begin with ``From ``. Then its writer does not quote them.
    ``has_bare_names`` means that its first separator has neither an address nor a date, such as ``From ada``.
    """

    formats: frozenset[str] = frozenset()
    without_empty_line: bool = False
    has_headers: bool = False
    has_text_lines: bool = False
    has_bare_names: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a line is a separator and, if not, why. ``is_doubtful``: the header fields of a mail follow it."""

    is_separator: bool
    reason: str = ""
    is_doubtful: bool = False


NO_STYLE = Style()


def next_candidate(data: bytes, start: int) -> int:
    """Return the position of the next line from ``start`` that begins with ``From ``, or -1.

    The byte before ``start`` belongs to the search, because a line begins after a line break.
    """
    match = _CANDIDATE.search(data, start - 1)
    return match.start("line") if match else -1


def line_at(data: bytes, start: int) -> bytes:
    """Return the line at a position with its line break, or the first bytes of a longer line."""
    end = data.find(b"\n", start, start + LINE_BYTES)
    return data[start : end + 1 if end >= 0 else start + LINE_BYTES]


def judge(data: bytes, start: int, style: Style, *, is_end: bool) -> Verdict:
    """Decide whether the line at ``start`` is a separator.

    ``data`` contains the line before it and ``LOOKAHEAD_BYTES`` after it, or ends with the file (``is_end``).
    """
    line = line_at(data, start)
    if not line.endswith(b"\n") and not (is_end and start + len(line) == len(data)):
        return Verdict(False, "the line is too long")
    after = start + len(line)
    form, format_ = _form(line)
    fields = _fields(data, after)
    at_start = _is_empty_before(data, start)
    if form is Form.DATED:
        known = format_ in style.formats
        return _judge_dated(
            fields, style, at_start=at_start, is_known=known, is_last=is_end and _is_last(data, after)
        )
    if _is_undated_separator(form, fields, style, at_start):
        return Verdict(True)
    is_doubtful = fields.usual >= 2 and (fields.is_technical or form is not Form.TEXT)
    return Verdict(False, _reason(fields, at_start), is_doubtful)


def _judge_dated(fields: Fields, style: Style, *, at_start: bool, is_known: bool, is_last: bool) -> Verdict:
    if fields.usual or (fields.count and fields.is_complete):
        return Verdict(True)
    may_lack_header = not style.has_text_lines and not (style.has_headers and _is_text(fields.next_line))
    if at_start and (is_last or (is_known and may_lack_header)):
        return Verdict(True)
    return Verdict(False, _reason(fields, at_start), is_doubtful=at_start and is_known)


def _is_undated_separator(form: Form, fields: Fields, style: Style, at_start: bool) -> bool:
    if form is Form.TEXT:
        return (at_start or style.has_bare_names) and fields.usual >= 2 and fields.is_technical
    if at_start or style.without_empty_line:
        return fields.is_header
    return fields.usual >= 2 and fields.is_technical


def _reason(fields: Fields, at_start: bool) -> str:
    if fields.usual:
        return "it is a sentence before header fields" if at_start else "no empty line before it"
    return "no header fields after it"


def _is_text(line: bytes) -> bool:
    """Return whether a line after a separator shows that it is none. Empty and binary lines do not."""
    return bool(line.strip()) and len(_TEXT_BYTES.findall(line)) > 0.7 * len(line.strip())


def _is_last(data: bytes, after: int) -> bool:
    """Return whether the file ends in the first line after the separator, or in the middle of a header field."""
    return data.find(b"\n", after) < 0 and _PARTIAL_FIELD.match(data, after) is not None


def _is_empty_before(data: bytes, start: int) -> bool:
    """Return whether the line before a position is empty. White space, NUL and the line of MMDF count as empty."""
    previous = data.rfind(b"\n", max(0, start - 100), start - 1)
    return previous >= 0 and not data[previous + 1 : start].strip(b" \t\r\n\0\x01")


def _fields(data: bytes, start: int) -> Fields:
    """Examine the header fields that begin at a position. A quoted ``From`` line before them is skipped."""
    position, end = start, min(len(data), start + LOOKAHEAD_BYTES)
    count, names = 0, set()
    while position < end and count < FIELD_LIMIT:
        stop = data.find(b"\n", position, end) + 1 or end
        if field := _FIELD.match(data, position, stop):
            count += 1
            names.add(field[1].lower())
        elif not _may_stand_in_header(data, position, stop, is_first=not count):
            break
        position = stop
    rest = data[position : min(end, position + 3)]
    return Fields(
        count=count,
        usual=len(names & USUAL),
        is_technical=not names.isdisjoint(TECHNICAL),
        is_complete=count == FIELD_LIMIT or rest in (b"", b"\r") or rest.lstrip(b"\r")[:1] == b"\n",
        next_line=line_at(data, start),
    )


def _may_stand_in_header(data: bytes, position: int, stop: int, *, is_first: bool) -> bool:
    """Return whether a line that is no field belongs to a header: a folded line, or first a quoted ``From`` line."""
    return bool(_QUOTED_FROM_LINE.match(data, position, stop)) if is_first else data[position] in b" \t"


def _form(line: bytes) -> tuple[Form, str]:
    """Return the form of a line, and for a dated line the format of its date."""
    line = b" ".join(line.lstrip(_LINE_PREFIX).split())
    if line == b"From":
        return Form.EMPTY, ""
    if len(line) > 400:
        return Form.TEXT, ""
    for name, pattern in _DATES.items() if b":" in line else ():
        if match := pattern.match(line):
            return Form.DATED, f"{name} at" if b" at " in (match["sender"] or b"") else name
    address = _ADDRESS.match(line)
    if address and (address["rest"] is None or _CLOCK.search(line) or len(address["rest"].split()) <= 1):
        return Form.ADDRESS, ""
    return Form.TEXT, ""


def learn_style(data: bytes) -> Style:
    """Learn from the first part of a file what is usual in it."""
    formats: set[str] = set()
    counts: Counter[str] = Counter()
    start, is_first, has_bare_names = next_candidate(data, 1), True, False
    while start >= 0 and counts["all"] < SAMPLE_LINES:
        counts["all"] += 1
        form, format_ = _form(line_at(data, start))
        at_start = _is_empty_before(data, start)
        fields = _fields(data, start + len(line_at(data, start)))
        if is_first and form is Form.TEXT:
            has_bare_names = not data[:start].strip() and fields.is_header and fields.is_technical
        if fields.is_header and form is not Form.TEXT:
            formats.add(format_)
            counts["headers"] += 1
            weight = 2 if fields.is_technical or form is Form.DATED else 1
            counts["after an empty line" if at_start else "after text"] += 0 if is_first else weight
        elif form is Form.DATED and is_first:
            formats.add(format_)
        elif form is not Form.DATED and not fields.usual and at_start:
            counts["text"] += 1
        start, is_first = next_candidate(data, start + 1), False
    return Style(
        formats=frozenset(formats),
        without_empty_line=counts["after text"] > max(1, counts["after an empty line"]),
        has_headers=counts["headers"] > 0,
        has_text_lines=counts["text"] > 0,
        has_bare_names=has_bare_names,
    )


def is_separator(line: bytes) -> bool:
    """Return whether a line has the form of a separator with a date."""
    return line.lstrip(_LINE_PREFIX).startswith(b"From ") and _form(line)[0] is Form.DATED


def separator_date(line: bytes) -> datetime | None:
    """Return the date in a separator, or None if it is not a date. It is naive if it has no time zone."""
    line = b" ".join(line.lstrip(_LINE_PREFIX).split())[:400]
    match = next(filter(None, (pattern.match(line) for pattern in _DATES.values())), None)
    if match is None:
        return None
    groups = {name: value.decode() for name, value in match.groupdict().items() if value}
    zone = groups.get("zone_after_year") or groups.get("zone") or ""
    try:
        if "iso" in groups:
            return datetime.fromisoformat(groups["iso"] + zone)
        date = "{day} {month} {year} {time}".format(**groups)
        return parsedate_to_datetime(f"{date} {zone or '-0000'}")
    except (ValueError, OverflowError):
        return None
