"""The small pieces: no database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from evermuse_outbox.admin import html
from evermuse_outbox.admin.pages.payload import HEAD, SHOWN, readable, vendor_ids
from evermuse_outbox.admin.pages.throughput import HEIGHT, MINUTES, hour
from evermuse_outbox.admin.pages.timeline import THINNEST, WIDTH, timeline
from evermuse_outbox.models import OutboxAttempt

from .rows import line

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_vendor_ids_from_the_head() -> None:
    assert vendor_ids(line("T-1")[:HEAD]) == ["ticket: T-1", "account: A-7"]


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
def test_vendor_ids_of_odd_lines(head: str, shown: str) -> None:
    assert ", ".join(vendor_ids(head)) == shown


def test_readable() -> None:
    assert readable('{"é":[1]}') == ('{\n  "é": [\n    1\n  ]\n}', False)
    assert readable("not json") == ("not json", False)
    text, is_cut = readable(line(text="x" * SHOWN))
    assert (len(text), is_cut) == (SHOWN, True)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0.0 s"),
        (0.42, "0.4 s"),
        (42, "42 s"),
        (200, "3 min 20 s"),
        (7_300, "2 h 1 min"),
        (1e5, "1 d 3 h"),
    ],
)
def test_span(seconds: float, shown: str) -> None:
    assert html.span(timedelta(seconds=seconds)).replace(html.GAP, " ") == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (123_456, "123 kB"), (4_999_999, "5.0 MB")],
)
def test_size(count: int, shown: str) -> None:
    assert html.size(count) == shown.replace(" ", html.GAP)


def test_timeline_stays_within_its_drawing() -> None:
    attempts = [OutboxAttempt(call="ingest", started_at=AT + timedelta(seconds=n), seconds=s, outcome="?")
                for n, s in ((0, 0.1), (10, None), (30, 30.0), (20, 0))]  # fmt: skip
    drawn = timeline(attempts)
    assert [shown.x for shown in drawn.attempts] == [0.0, 166.7, 500.0, 333.3]
    assert all(shown.width >= THINNEST and shown.x + shown.width <= WIDTH for shown in drawn.attempts)
    assert drawn.length == html.span(timedelta(minutes=1))
    assert timeline([]).attempts == ()
    assert timeline(attempts[:1]).attempts[0].width == WIDTH


def test_hour() -> None:
    drawn = hour(AT, [(AT, 2, 1_000), (AT + timedelta(minutes=59), 1, 1)])
    assert len(drawn.minutes) == MINUTES
    assert (drawn.records, drawn.batches, drawn.highest) == (1_001, 3, 1_000)
    assert (drawn.minutes[0].y, drawn.minutes[0].height) == (0.0, HEIGHT)
    assert drawn.minutes[59].height == 1.5
    assert hour(AT, []).records == 0
