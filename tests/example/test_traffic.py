"""Tests of the command ``support_traffic``."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command

from example_project.support.models import Conversation, Message

pytestmark = pytest.mark.django_db


def run(**options) -> str:
    out = io.StringIO()
    call_command("support_traffic", stdout=out, **options)
    return out.getvalue()


def texts() -> list[tuple[str, str]]:
    return list(Message.objects.order_by("pk").values_list("author_email", "body"))


def test_messages_and_their_records(outbox_records):
    assert "15 messages written, 0 rolled back" in run(conversations=5, messages=3)
    assert Conversation.objects.count() == 5
    assert Message.objects.count() == 15
    outbox_records.assert_enqueued(type="message", count=15)
    outbox_records.assert_enqueued(type="conversation", count=15)


def test_evermuse_accepts_the_traffic(deliver, evermuse_sandbox):
    run(conversations=5, messages=3)
    result = deliver()
    assert (len(result.delivered), len(result.superseded)) == (20, 10)
    assert len(evermuse_sandbox.records()) == 20


def test_the_same_seed_gives_the_same_texts():
    run(conversations=4, messages=3, seed=7, rollback=20)
    first = texts()
    Conversation.objects.all().delete()
    run(conversations=4, messages=3, seed=7, rollback=20)
    assert texts() == first
    Conversation.objects.all().delete()
    run(conversations=4, messages=3, seed=8, rollback=20)
    assert texts() != first


def test_rolled_back_messages_leave_no_records(outbox_records):
    output = run(conversations=6, messages=4, rollback=50)
    written = Message.objects.count()
    assert f"{written} messages written, {24 - written} rolled back" in output
    assert 0 < written < 24
    assert len(outbox_records) == 2 * written
    assert not Conversation.objects.filter(messages=None).exists()


def test_rolling_back_every_transaction(outbox_records):
    run(conversations=3, messages=3, rollback=100)
    assert not Conversation.objects.exists()
    outbox_records.refute_enqueued()


def test_rate_option(monkeypatch):
    delays: list[float] = []
    monkeypatch.setattr("time.sleep", delays.append)
    run(conversations=2, messages=2, rate=0.5)
    assert len(delays) == 4
    assert 7 < delays[-1] <= 8


@pytest.mark.parametrize(
    "options", [{"conversations": 0}, {"messages": -1}, {"rate": 0.0}, {"rollback": 101.0}]
)
def test_invalid_options(options):
    with pytest.raises(CommandError):
        run(**options)
