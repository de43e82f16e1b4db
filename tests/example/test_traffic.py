"""Invented visitors: the same for the same seed, and nothing remains of what was rolled back."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command

from evermuse_outbox.models import OutboxRecord
from example_project.support.models import Conversation, Message

pytestmark = pytest.mark.django_db


def run(**options) -> str:
    out = io.StringIO()
    call_command("support_traffic", stdout=out, **options)
    return out.getvalue()


def words() -> list[tuple[str, str]]:
    return list(Message.objects.order_by("pk").values_list("author_email", "body"))


def test_messages_and_their_records():
    assert "15 messages written, 0 rolled back" in run(conversations=5, messages=3)
    assert Conversation.objects.count() == 5
    assert Message.objects.count() == OutboxRecord.objects.filter(type="message").count() == 15
    assert OutboxRecord.objects.filter(type="conversation").count() == 15


def test_the_same_seed_says_the_same():
    run(conversations=4, messages=3, seed=7, rollback=20)
    first = words()
    Conversation.objects.all().delete()
    run(conversations=4, messages=3, seed=7, rollback=20)
    assert words() == first
    Conversation.objects.all().delete()
    run(conversations=4, messages=3, seed=8, rollback=20)
    assert words() != first


def test_what_is_rolled_back_leaves_nothing():
    said = run(conversations=6, messages=4, rollback=50)
    written = Message.objects.count()
    assert f"{written} messages written, {24 - written} rolled back" in said
    assert 0 < written < 24
    assert OutboxRecord.objects.count() == 2 * written
    assert not Conversation.objects.filter(messages=None).exists()


def test_all_rolled_back():
    run(conversations=3, messages=3, rollback=100)
    assert not Conversation.objects.exists()
    assert not OutboxRecord.objects.exists()


def test_a_rate(monkeypatch):
    naps: list[float] = []
    monkeypatch.setattr("time.sleep", naps.append)
    run(conversations=2, messages=2, rate=0.5)
    assert len(naps) == 4
    assert 7 < naps[-1] <= 8


@pytest.mark.parametrize(
    "wrong", [{"conversations": 0}, {"messages": -1}, {"rate": 0.0}, {"rollback": 101.0}]
)
def test_wrong_numbers(wrong):
    with pytest.raises(CommandError):
        run(**wrong)
