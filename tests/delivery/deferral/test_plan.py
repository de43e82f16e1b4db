"""What happens to records whose deferral is due, without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from evermuse_outbox.delivery.deferral.plan import RECHECK, Deferral, plan_changes

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def row(pk, **columns):
    times = {name: at(value) for name, value in columns.items() if name != "rule_id"}
    empty = dict.fromkeys(Deferral._fields)
    return Deferral(**empty | {"pk": pk, "due_at": NOW, "rule_id": columns.get("rule_id")} | times)


def plan(*rows, newest=None, **states):
    states = {int(name.removeprefix("r")): state for name, state in states.items()}
    return plan_changes(rows, states, newest or {}, NOW)


def test_a_scheduled_record_becomes_pending_at_its_time():
    changes = plan(row(1, send_after=0), r1="scheduled")
    assert (changes.pending, changes.ended) == ([1], [1])


def test_a_record_that_may_be_sent_keeps_its_row_until_it_expires():
    changes = plan(row(1, send_after=0, expires_at=60), r1="scheduled")
    assert changes.pending == [1]
    assert changes.kept[1].due_at == at(60)
    assert changes.ended == []


@pytest.mark.parametrize("state", ["pending", "scheduled", "held"])
def test_a_record_expires_in_each_state_without_a_batch(state):
    changes = plan(row(1, send_after=-1, expires_at=0), r1=state)
    assert (changes.expired, changes.ended, changes.pending) == ([1], [1], [])


def test_a_record_in_flight_is_looked_at_again():
    changes = plan(row(1, expires_at=0), r1="in_flight")
    assert changes.kept[1].due_at == NOW + RECHECK
    assert changes.expired == []


@pytest.mark.parametrize("state", ["delivered", "rejected", "superseded", "discarded", "expired"])
def test_the_row_of_a_record_that_has_ended_is_removed(state):
    assert plan(row(1, expires_at=0), r1=state).ended == [1]


def test_the_row_of_a_deleted_record_is_removed():
    assert plan(row(1, expires_at=0)).ended == [1]


def test_a_held_record_becomes_pending_at_the_end_of_the_rule():
    changes = plan(row(1, rule_id=7), r1="held")
    assert (changes.pending, changes.ended) == ([1], [1])


def test_an_older_debounced_version_is_coalesced_and_hands_on_its_latest_time():
    older = row(1, send_after=0, latest_at=20)
    newer = row(2, due_at=25, send_after=25, latest_at=40)
    changes = plan(older, newest={1: newer}, r1="scheduled")
    assert changes.coalesced == {1: 2}
    assert (changes.kept[2].latest_at, changes.kept[2].due_at) == (at(20), at(20))
    assert (changes.pending, changes.ended) == ([], [1])


def test_the_newest_version_is_sent_at_once_if_the_latest_time_of_an_older_one_is_over():
    older = row(1, send_after=0, latest_at=0)
    newer = row(2, due_at=25, send_after=25, latest_at=40)
    changes = plan(older, newest={1: newer}, r1="scheduled")
    assert changes.coalesced == {1: 2}
    assert (changes.pending, changes.ended, changes.kept) == ([2], [1, 2], {})


def test_of_many_due_versions_the_newest_is_sent_and_the_others_are_coalesced():
    rows = [row(pk, send_after=0, latest_at=60 - pk) for pk in (1, 2, 3)]
    changes = plan(
        *rows, newest=dict.fromkeys((1, 2, 3), rows[2]), r1="scheduled", r2="scheduled", r3="scheduled"
    )
    assert changes.coalesced == {1: 3, 2: 3}
    assert changes.pending == [3]
    assert sorted(changes.ended) == [1, 2, 3]
    assert changes.kept == {}
