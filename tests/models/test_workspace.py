"""Changes of state of workspaces, on every database: the circuit breaker, its probes, and the claims of reads."""

from __future__ import annotations

from datetime import timedelta

import pytest

from evermuse_outbox.models import MAX_READ_INTERVAL, OutboxWorkspace, WorkspaceState
from evermuse_outbox.models.workspace import AUTOMATIC, MAX_ARRIVAL_RATES, TRANSITIONS
from tests.models.rows import NOW

SOON, LATER = NOW + timedelta(seconds=10), NOW + timedelta(minutes=1)

BLOCKS = {
    "pause": lambda rows, until: rows.pause("default", until, "reason"),
    "pause_without_credits": lambda rows, until: rows.pause_without_credits("default", until, "reason"),
    "throttle": lambda rows, until: rows.throttle("default", until, "reason"),
    "back_off": lambda rows, until: rows.back_off("default", 0, until, "reason"),
    "back_off_uncounted": lambda rows, until: rows.back_off_uncounted("default", until, "reason"),
}


def workspaces(alias):
    return OutboxWorkspace.objects.using(alias)


def add(alias, state="active", **columns):
    return workspaces(alias).create(name="default", state=state, **columns)


def test_every_transition_has_a_method_that_is_tested_here():
    assert set(BLOCKS) | {
        "resume",
        "end_retry_after",
        "force_resume",
        "mark_restored",
        "end_restored",
        "hold",
        "end_hold",
        "end_hold_throttled",
    } == set(TRANSITIONS)
    assert all(hasattr(OutboxWorkspace.objects, name) for name in TRANSITIONS)


def test_when_a_retry_after_is_over_one_process_probes_and_may_resume(alias):
    add(alias, "throttled", blocked_until=NOW)
    row, other = workspaces(alias).get(), workspaces(alias).get()
    assert workspaces(alias).end_retry_after(row, LATER)
    assert not workspaces(alias).end_retry_after(other, LATER)
    assert workspaces(alias).get().state == "backing_off"
    assert workspaces(alias).resume("default", NOW)


def test_a_block_further_away_than_any_wait_ends(alias):
    add(alias, "backing_off", blocked_until=LATER, failures=3)
    assert workspaces(alias).shorten_block("default", LATER, NOW) == 0
    assert workspaces(alias).shorten_block("default", SOON, NOW) == 1
    row = workspaces(alias).get()
    assert (row.state, row.blocked_until, row.failures) == ("backing_off", NOW, 3)


def test_a_person_may_end_a_retry_after_but_not_what_a_restore_has_blocked(alias):
    add(alias, "throttled", blocked_until=LATER, failures=2)
    assert workspaces(alias).force_resume("default") == 1
    row = workspaces(alias).get()
    assert (row.state, row.blocked_until, row.failures) == ("active", None, 0)
    assert workspaces(alias).force_resume("default") == 0
    workspaces(alias).mark_restored("default", "older")
    assert workspaces(alias).force_resume("default") == 0


@pytest.mark.parametrize("method", BLOCKS)
@pytest.mark.parametrize("state", AUTOMATIC)
def test_a_block_starts_from_any_state_but_keeps_a_longer_retry_after(alias, method, state):
    add(alias, state, blocked_until=None if state == "active" else SOON)
    assert BLOCKS[method](workspaces(alias), LATER)
    row = workspaces(alias).get()
    assert (row.state, row.blocked_until, row.reason) == (TRANSITIONS[method].target, LATER, "reason")
    workspaces(alias).throttle("default", LATER, "429")
    assert not BLOCKS[method](workspaces(alias), SOON)
    assert workspaces(alias).get().blocked_until == LATER


def test_requests_that_failed_together_count_as_one_failure(alias):
    add(alias)
    assert workspaces(alias).back_off("default", 0, SOON, "HTTP 503")
    assert not workspaces(alias).back_off("default", 0, LATER, "HTTP 503")
    row = workspaces(alias).get()
    assert (row.failures, row.blocked_until) == (1, SOON)
    assert workspaces(alias).back_off_uncounted("default", LATER, "Redis")
    assert workspaces(alias).get().failures == 1


@pytest.mark.parametrize("state", AUTOMATIC)
def test_a_send_resumes_any_block_that_is_over(alias, state):
    add(alias, state, blocked_until=None if state == "active" else NOW, failures=2)
    assert workspaces(alias).resume("default", NOW) == 1
    row = workspaces(alias).get()
    assert (row.state, row.blocked_until, row.failures) == (WorkspaceState.ACTIVE, None, 0)
    assert workspaces(alias).resume("default", NOW) == 0


def test_resume_keeps_a_retry_after_that_is_not_over(alias):
    add(alias, "throttled", blocked_until=LATER)
    assert workspaces(alias).resume("default", NOW) == 0
    assert workspaces(alias).get().state == WorkspaceState.THROTTLED


def test_after_failed_sends_a_read_does_not_resume(alias):
    add(alias, "backing_off", blocked_until=NOW, failures=1)
    assert workspaces(alias).resume("default", NOW, sent=False) == 0
    workspaces(alias).update(failures=0)
    assert workspaces(alias).resume("default", NOW, sent=False) == 1


def test_a_probe_is_claimed_once_and_ended_only_while_it_lasts(alias):
    row = add(alias, "paused", blocked_until=NOW)
    assert workspaces(alias).claim_probe(row, LATER)
    assert not workspaces(alias).claim_probe(row, LATER)
    assert not workspaces(alias).end_probe("default", SOON, NOW)
    assert workspaces(alias).end_probe("default", LATER, NOW)
    assert workspaces(alias).get().blocked_until == NOW


def test_one_process_reads_at_a_time(alias):
    assert workspaces(alias).can_read("default", NOW)
    assert not workspaces(alias).claim_read("default", NOW, LATER)  # there is no row yet
    workspaces(alias).ensure_row("default")
    assert workspaces(alias).claim_read("default", NOW, LATER)
    assert not workspaces(alias).can_read("default", NOW)
    assert not workspaces(alias).claim_read("default", NOW, LATER)
    assert not workspaces(alias).end_read("default", SOON, NOW, 1.5)
    assert workspaces(alias).end_read("default", LATER, SOON, 1.5)
    row = workspaces(alias).get()
    assert (row.next_read_at, row.typical_completion_seconds) == (SOON, 1.5)
    assert workspaces(alias).can_read("default", SOON)


def test_a_next_read_in_the_far_future_is_ignored(alias):
    add(alias, next_read_at=NOW + MAX_READ_INTERVAL + timedelta(seconds=1))
    assert workspaces(alias).claim_read("default", NOW, LATER)


@pytest.mark.parametrize("state", AUTOMATIC)
def test_only_a_decision_ends_restored(alias, state):
    add(alias, state, blocked_until=None if state == "active" else LATER, failures=2)
    assert workspaces(alias).mark_restored("default", "a backup")
    assert not workspaces(alias).mark_restored("default", "another reason")
    row = workspaces(alias).get()
    assert (row.state, row.blocked_until, row.reason) == (WorkspaceState.RESTORED, None, "a backup")
    for block in BLOCKS.values():
        assert not block(workspaces(alias), LATER)
    assert workspaces(alias).resume("default", LATER) == 0
    assert workspaces(alias).get().state == WorkspaceState.RESTORED

    stale = workspaces(alias).get()
    assert workspaces(alias).end_restored(row, NOW)
    assert not workspaces(alias).end_restored(stale, NOW)
    stored = workspaces(alias).get()
    assert (stored.state, stored.reason, stored.epoch) == (WorkspaceState.ACTIVE, "", row.epoch)
    assert stored.epoch != stale.epoch


def test_the_highest_arrival_rates_are_remembered(alias):
    row = OutboxWorkspace(name="default")
    row.remember_arrival_rates({("message", str(number)): number for number in range(MAX_ARRIVAL_RATES + 5)})
    row.save(using=alias)
    rates = workspaces(alias).read_arrival_rates("default")
    assert len(rates) == MAX_ARRIVAL_RATES
    assert min(rates.values()) == 5
    workspaces(alias).update(arrival_rates={"not": "readable"})
    assert workspaces(alias).read_arrival_rates("default") == {}
    assert workspaces(alias).read_arrival_rates("another") == {}


@pytest.mark.commits
def test_locking_creates_the_row(alias):
    from django.db import transaction

    with transaction.atomic(using=alias):
        assert workspaces(alias).lock_for_sealing("default").pk == "default"
    assert workspaces(alias).get().state == WorkspaceState.ACTIVE


@pytest.mark.commits
@pytest.mark.parametrize("mode", [None, "DEFERRED", "IMMEDIATE"])
def test_the_sealing_lock_of_sqlite_excludes_other_writers_in_each_mode(alias, mode, monkeypatch):
    import sqlite3

    from django.db import connections, transaction

    connection = connections[alias]
    if connection.vendor != "sqlite":
        pytest.skip("other databases have row locks")
    workspaces(alias).ensure_row("default")
    monkeypatch.setattr(connection, "transaction_mode", mode)
    with transaction.atomic(using=alias):
        workspaces(alias).lock_for_sealing("default")
        other = sqlite3.connect(connection.settings_dict["NAME"], timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("UPDATE evermuse_outbox_outboxworkspace SET failures = 1")
        other.close()


@pytest.mark.parametrize("state", AUTOMATIC)
def test_only_a_person_ends_a_hold(alias, state):
    add(alias, state, blocked_until=None if state == "active" else SOON, failures=2)
    assert workspaces(alias).hold("default", NOW, "anna", "audit")
    assert not workspaces(alias).hold("default", LATER, "ben", "again")
    row = workspaces(alias).get()
    assert (row.state, row.held_at, row.held_by, row.reason) == (WorkspaceState.HELD, NOW, "anna", "audit")
    for block in BLOCKS.values():
        assert not block(workspaces(alias), LATER)
    assert workspaces(alias).resume("default", LATER) == 0
    assert workspaces(alias).force_resume("default") == 0
    assert workspaces(alias).get().state == WorkspaceState.HELD
    assert workspaces(alias).end_hold("default", NOW)
    assert not workspaces(alias).end_hold("default", NOW)
    row = workspaces(alias).get()
    is_throttled = state == WorkspaceState.THROTTLED
    assert row.state == (WorkspaceState.THROTTLED if is_throttled else WorkspaceState.ACTIVE)
    assert (row.blocked_until, row.held_at, row.held_by) == (SOON if is_throttled else None, None, "")


def test_a_retry_after_that_is_over_does_not_outlive_a_hold(alias):
    add(alias, "throttled", blocked_until=SOON)
    assert workspaces(alias).hold("default", NOW, "anna", "audit")
    assert workspaces(alias).end_hold("default", LATER)
    row = workspaces(alias).get()
    assert (row.state, row.blocked_until, row.reason) == (WorkspaceState.ACTIVE, None, "")
