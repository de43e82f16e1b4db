"""The throughput of an hour; no database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from evermuse_outbox.admin.pages.throughput import HEIGHT, MINUTES, draw_throughput

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_draw_throughput() -> None:
    drawn = draw_throughput(AT, [(AT, 2, 1_000), (AT + timedelta(minutes=59), 1, 1)])
    assert len(drawn.minutes) == MINUTES
    assert (drawn.records, drawn.batches, drawn.highest) == (1_001, 3, 1_000)
    assert (drawn.minutes[0].y, drawn.minutes[0].height) == (0.0, HEIGHT)
    assert drawn.minutes[59].height == 1.5
    assert draw_throughput(AT, []).records == 0
