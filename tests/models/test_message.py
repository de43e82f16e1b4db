"""The row of a waiting message: of several processes that change it at once, only one succeeds."""

from __future__ import annotations

from evermuse_outbox.models import OutboxMessage

NAME = "a" * 32


def test_only_one_of_two_processes_claims_and_only_one_takes(alias):
    rows = OutboxMessage.objects.using(alias)
    rows.ensure(NAME, "evermuse_outbox.relay default")
    rows.ensure(NAME, "evermuse_outbox.relay default")
    assert [rows.claim(NAME), rows.claim(NAME)] == [True, False]
    assert [rows.take(NAME), rows.take(NAME)] == [True, False]


def test_only_one_of_two_processes_publishes_again(alias):
    rows = OutboxMessage.objects.using(alias)
    rows.ensure(NAME, "evermuse_outbox.relay default")
    rows.claim(NAME)
    first, second = rows.read(NAME), rows.read(NAME)
    assert [rows.claim_again(first), rows.claim_again(second)] == [True, False]
    third = rows.read(NAME)
    rows.take(NAME)
    assert not rows.claim_again(third), "a worker has taken the message meanwhile"


def test_waiting_messages_are_counted_and_the_oldest_is_first(alias):
    rows = OutboxMessage.objects.using(alias)
    names = [letter * 32 for letter in "abcd"]
    for name in names:
        rows.ensure(name, "evermuse_outbox.relay default")
        rows.claim(name)
    now = rows.read(names[0]).now
    for name, age in zip(names, (3, 5, 4, 100), strict=True):
        rows.filter(pk=name).update(waiting_since=now - age)
    rows.take(names[2])
    assert rows.longest_waiting() == [names[3], names[1], names[0]]
    assert rows.count_waiting("evermuse_outbox.relay", 60) == 2
    assert rows.count_waiting("evermuse_outbox.relay", 1_000) == 3
    assert rows.count_waiting("evermuse_outbox.poll", 1_000) == 0
