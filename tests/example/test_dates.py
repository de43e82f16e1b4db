"""Tests of the date of a mail, and of the mark that it is guessed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from example_project.support.dates import FALLBACK_DATE, find_date, parse_date

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HEADER, HOP = "Tue, 3 Mar 2026 10:22:17 +0100", "from a by b; Tue, 3 Mar 2026 09:30:00 +0000"
SEPARATOR, PREVIOUS = datetime(2026, 3, 4), datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "utc", "is_zone_assumed"),
    [
        ("Tue, 3 Mar 2026 10:22:17 +0100", "2026-03-03T09:22:17", False),
        ("3 Mar 2026 10:22 EST", "2026-03-03T15:22:00", False),
        ("Tue, 3 Mar 2026 10:22:17 CET", "2026-03-03T09:22:17", False),
        ("Tue, 3 Mar 2026 10:22:17 +0100 (CET)", "2026-03-03T09:22:17", False),
        ("Tue, 3 Mar 2026 10:22:17 GMT", "2026-03-03T10:22:17", False),
        ("Tue, 3 Mar 2026 10:22:17 -0000", "2026-03-03T10:22:17", False),
        ("Tue, 3 Mar 2026 10:22:17", "2026-03-03T10:22:17", True),
        ("Tue, 3 Mar 2026 10:22:17 QQQ", "2026-03-03T10:22:17", True),
        ("Tue Mar  3 10:22:17 2026", "2026-03-03T10:22:17", True),
        ("2026-03-03T10:22:17.5+01:00", "2026-03-03T09:22:17", False),
        ("3 Mar 99 10:22:60 +0000", "1999-03-03T10:22:59", False),
    ],
)
def test_dates_in_headers(text, utc, is_zone_assumed):
    assert parse_date(text) == (datetime.fromisoformat(utc).replace(tzinfo=UTC), is_zone_assumed)


@pytest.mark.parametrize(
    "text", ["", "soon", "Tue, 33 Mar 2026 10:22:17 +0100", "3 Mar 2026 10:22:17 +9900", "2026-99-99"]
)
def test_impossible_dates(text):
    assert parse_date(text) is None


@pytest.mark.parametrize(
    ("dates", "hops", "separator", "previous", "guess"),
    [
        ([HEADER], [HOP], SEPARATOR, PREVIOUS, ""),
        (["soon", HEADER], [HOP], SEPARATOR, PREVIOUS, ""),
        ([], [HOP], SEPARATOR, PREVIOUS, "received"),
        (["Tue, 3 Mar 2037 10:22:17 +0100"], [HOP], SEPARATOR, PREVIOUS, "received"),
        (["Wed, 31 Dec 1969 23:59:59 +0000"], ["from a by b"], SEPARATOR, PREVIOUS, "separator"),
        ([], [], None, PREVIOUS, "previous_mail"),
        ([], [], datetime(2040, 1, 1), None, "none"),
    ],
)
def test_a_guess_names_its_source(dates, hops, separator, previous, guess):
    assert find_date(dates, hops, separator, previous, NOW).guess == guess


def test_without_any_date():
    assert find_date([], [], None, None, NOW).date == FALLBACK_DATE
