"""Tests of splitting an mbox into mails."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from example_project.support import mbox
from example_project.support.mbox import NotAnMbox, is_separator, separator_date, split

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
