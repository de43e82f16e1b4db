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
