"""The timeline of attempts; no database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from evermuse_outbox.admin import html
from evermuse_outbox.admin.pages.timeline import MIN_BAR_WIDTH, WIDTH, draw_timeline
from evermuse_outbox.models import OutboxAttempt

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_bars_stay_within_the_drawing() -> None:
    attempts = [OutboxAttempt(call="ingest", started_at=AT + timedelta(seconds=n), seconds=s, outcome="?")
                for n, s in ((0, 0.1), (10, None), (30, 30.0), (20, 0))]  # fmt: skip
    drawn = draw_timeline(attempts)
    assert [bar.x for bar in drawn.bars] == [0.0, 166.7, 500.0, 333.3]
    assert all(bar.width >= MIN_BAR_WIDTH and bar.x + bar.width <= WIDTH for bar in drawn.bars)
    assert drawn.length == html.duration(timedelta(minutes=1))
    assert draw_timeline([]).bars == ()
    assert draw_timeline(attempts[:1]).bars[0].width == WIDTH


def test_only_a_send_can_leave_a_batch_in_doubt() -> None:
    attempts = [OutboxAttempt(call=call, started_at=AT, outcome="in_doubt") for call in ("ingest", "status")]
    assert [bar.outcome for bar in draw_timeline(attempts).bars] == ["in doubt", "not read"]
