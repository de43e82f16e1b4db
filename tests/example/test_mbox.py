"""Tests of splitting an mbox into mails."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from example_project.support import mbox
from example_project.support.mbox import (
    FromLine,
    NotAnMbox,
    RawMail,
    is_separator,
    separator_date,
    split,
    unquote,
)

from .odd_mboxes import PROSE, SEPARATORS, SEPARATORS_IN_TEXT, WORDS, bodies, styles
from .sample_mails import SEPARATOR


def contents(stream: bytes) -> list[bytes]:
    return [mail.content for mail in split(io.BytesIO(stream))]


def test_two_mails():
    assert contents(SEPARATOR + b"A: 1\n\none\n\n" + SEPARATOR + b"A: 2\n\ntwo\n") == [
        b"A: 1\n\none",
        b"A: 2\n\ntwo",
    ]


def test_carriage_returns():
    separator = SEPARATOR.replace(b"\n", b"\r\n")
    stream = separator + b"A: 1\r\n\r\none\r\n\r\n" + separator + b"A: 2\r\n\r\ntwo\r\n"
    assert contents(stream) == [b"A: 1\r\n\r\none", b"A: 2\r\n\r\ntwo"]


@pytest.mark.parametrize(
    "line",
    [
        b"From now on it works.\n",
        b"From Monday to Friday 2026\n",
        b"From: Ada <ada@acme.example>\n",
        b">" + SEPARATOR,
        b" " + SEPARATOR,
        b"From ada Tue Mar  3 09:22:17 26\n",
    ],
)
def test_lines_that_are_not_separators(line):
    assert contents(SEPARATOR + b"A: 1\n\n" + line + b"more\n") == [b"A: 1\n\n" + line + b"more"]


def test_a_separator_follows_an_empty_line():
    assert len(contents(SEPARATOR + b"A: 1\n\ntext\n" + SEPARATOR)) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"From 92c6ae3f Mon Sep 17 00:00:00 2001\n",
        b"From guido at python.org  Mon Sep 17 00:00:00 2001\r\n",
        b"From 16@xxx Tue Mar 03 09:22:17 +0000 2015\n",
        b"From ada@acme.example Tue Mar  3 09:22:17 CET 2026\n",
        b"From ada@acme.example Tue Mar  3 09:22 2026\n",
        b"From - Tue Mar 03 09:22:17 2026",
        b"\xef\xbb\xbfFrom - Tue Mar 03 09:22:17 2026\n",
    ],
)
def test_separators_of_different_programs(line):
    assert is_separator(line)


@pytest.mark.parametrize(
    ("line", "date"),
    [
        (b"From a Tue Mar  3 09:22:17 2026\n", datetime(2026, 3, 3, 9, 22, 17)),
        (
            b"From a Tue Mar 03 09:22:17 +0200 2026\n",
            datetime(2026, 3, 3, 9, 22, 17, tzinfo=timezone(timedelta(hours=2))),
        ),
        (b"From a Tue Mar 03 09:22:17 2026 +0000\n", datetime(2026, 3, 3, 9, 22, 17, tzinfo=UTC)),
        (b"From a Tue Mar 33 09:22:17 2026\n", None),
        (b"From a Tue Mar 03 99:22:17 2026\n", None),
        (b"nothing", None),
    ],
)
def test_date_of_a_separator(line, date):
    assert separator_date(line) == date


def test_lines_of_any_length():
    long = b"x" * (3 * mbox.READ_BYTES)
    stream = SEPARATOR + b"A: 1\n\n" + long + b"\n\n" + SEPARATOR + b"A: 2\n\n" + long
    assert contents(stream) == [b"A: 1\n\n" + long, b"A: 2\n\n" + long]


def test_the_last_piece_of_a_long_line_is_not_an_empty_line(monkeypatch):
    monkeypatch.setattr(mbox, "READ_BYTES", 100)
    assert len(contents(SEPARATOR + b"\n" + b"x" * 100 + b"\n" + SEPARATOR)) == 1


def test_the_last_position_is_the_size_of_the_file():
    stream = b"\n" + SEPARATOR + b"A: 1\n\none\n\n" + SEPARATOR + b"A: 2\n"
    ends = [mail.end for mail in split(io.BytesIO(stream))]
    assert ends[-1] == len(stream)
    assert ends[0] == len(b"\n" + SEPARATOR + b"A: 1\n\none\n\n")


def test_a_very_long_mail_is_cut(monkeypatch):
    monkeypatch.setattr(mbox, "KEEP_BYTES", 100)
    [mail] = split(io.BytesIO(SEPARATOR + b"x\n" * 1_000))
    assert mail.is_cut
    assert len(mail.content) <= 100


def test_an_empty_file_has_no_mails():
    assert contents(b"") == contents(b"\n\r\n") == []


def test_other_content_is_refused():
    with pytest.raises(NotAnMbox):
        contents(b"PK\x03\x04 this is something else\n")


@given(st.lists(st.binary(max_size=200).filter(lambda body: b"From " not in body), min_size=1, max_size=5))
def test_any_bodies_are_preserved(bodies):
    stream = b"".join(SEPARATOR + body + b"\n\n" for body in bodies)
    assert contents(stream) == [body.rstrip(b"\r\n") for body in bodies]


# --- files in any style ------------------------------------------------------------------------------


def split_with_lines(content: bytes, **options) -> tuple[list[RawMail], list[FromLine], int]:
    lines: list[FromLine] = []
    box = split(io.BytesIO(content), lines.append, **options)
    return list(box), lines, box.skipped


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(styles(), bodies(*PROSE, *WORDS))
def test_any_list_of_mails_in_any_style_gives_exactly_these_mails(style, texts):
    mails, _, _ = split_with_lines(style.write(texts))
    assert [mail.content.decode() for mail in mails] == [
        style.stored(*numbered) for numbered in enumerate(texts)
    ]


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(styles(quotes=st.sampled_from(["o", "rd", "length"])), bodies(*PROSE, *SEPARATORS_IN_TEXT, *WORDS))
def test_what_looks_like_a_separator_is_text_if_it_is_quoted_or_within_the_length(style, texts):
    mails, lines, _ = split_with_lines(style.write(texts))
    assert [mail.content.decode() for mail in mails] == [
        style.stored(*numbered) for numbered in enumerate(texts)
    ]
    assert not any(line.is_doubtful for line in lines)


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(styles(quotes=st.just("rd")), bodies(*PROSE, *SEPARATORS_IN_TEXT, *WORDS))
def test_the_quoting_of_mboxrd_can_be_undone(style, texts):
    mails, _, _ = split_with_lines(style.write(texts))
    plain = replace(style, quotes="")
    assert [unquote(mail.content).decode() for mail in mails] == [plain.stored(*n) for n in enumerate(texts)]


ANY_LINES = st.lists(
    st.sampled_from(
        [
            *SEPARATORS,
            *PROSE,
            *SEPARATORS_IN_TEXT,
            *WORDS,
            "Subject: x",
            "Content-Length: 30",
            "\r",
            "\0From x",
        ]
    )
    | st.text(max_size=5),
    max_size=20,
)


@pytest.mark.long
@settings(max_examples=500, deadline=None)
@given(ANY_LINES.map("\n".join).map(lambda text: text.encode()))
def test_every_line_that_begins_with_from_is_a_separator_or_reported(content):
    try:
        mails, lines, skipped = split_with_lines(content)
    except NotAnMbox:
        return
    places = {mail.position for mail in mails if mail.separator} | {line.position for line in lines}
    assert {
        match.start(1) for match in re.finditer(rb"(?:\A|\n)((?:\0|\xef\xbb\xbf)*From )", content)
    } <= places
    assert len(places) == len(lines) + sum(bool(mail.separator) for mail in mails)
    size = sum(len(mail.separator) + mail.size for mail in mails) + skipped
    assert content.lstrip(b"\r\n")[-size:] == content.lstrip(b"\r\n")
    for line in lines:
        assert content[line.position :].lstrip(b"\0").startswith(line.text[:5].encode())
        assert content.count(b"\n", 0, line.position) == line.line - 1


@given(ANY_LINES.map("\n".join).map(lambda text: text.encode()))
def test_the_size_of_the_pieces_read_changes_nothing(content):
    class Slow(io.BytesIO):
        def read(self, size: int = -1) -> bytes:
            return super().read(min(size, 7))

    assert list(split(Slow(content), is_single=True)) == list(split(io.BytesIO(content), is_single=True))


def test_a_large_file_is_split_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(mbox, "READ_BYTES", 10_000)
    monkeypatch.setattr(mbox, "SAMPLE_BYTES", 10_000)
    monkeypatch.setattr(mbox, "LOOKAHEAD_BYTES", 1_000)
    one_mail = SEPARATOR + b"Subject: x\nContent-Length: 2000\n\n" + b"y" * 1_999 + b"\n\n"
    box = split(io.BytesIO(one_mail * 500))
    sizes = [len(box.data) for _ in box]
    assert len(sizes) == 500
    assert max(sizes) < 50_000


def test_a_single_mail_is_not_split():
    content = b"Subject: x\n\n" + SEPARATOR + b"Subject: y\n"
    mails, lines, _ = split_with_lines(content, is_single=True)
    assert [mail.content for mail in mails] == [content.rstrip()]
    assert [line.reason for line in lines] == ["the file is a single mail"]


def test_a_file_can_begin_with_the_header_of_a_mail():
    content = b"Subject: x\nFrom: ada@acme.example\n\none\n\n" + SEPARATOR + b"Subject: y\n\ntwo\n"
    assert [mail[-3:] for mail in contents(content)] == [b"one", b"two"]


def test_a_wrong_content_length_is_ignored():
    head = b"Subject: x\nContent-Length: %d\n\none\n\n"
    for length in (0, 3, 4, 7, 60, 100_000_000, 10**12):
        assert len(contents((SEPARATOR + head % length) * 3)) == 3


BARE = b"".join(
    b"From ada\nFrom: ada@acme.example\nSubject: %d\nMessage-ID: <%d@acme.example>\n\nText\n"
    % (number, number)
    for number in range(5)
)


def test_separators_without_address_date_and_empty_line_are_learned_from_the_first_one():
    assert len(list(split(io.BytesIO(BARE)))) == 5


def test_a_sentence_before_a_technical_header_is_doubtful():
    mails, lines, _ = split_with_lines(BARE.replace(b"From ada\n", SEPARATOR, 1))
    assert (len(mails), [line.is_doubtful for line in lines]) == (1, [True] * 4)
