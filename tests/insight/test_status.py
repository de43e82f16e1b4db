"""The figures of the outbox on every database."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from evermuse_outbox.insight import (
    collect_status,
    count_records,
    count_unfinished,
    oldest_unsent_seconds,
    workspace_states,
)
from evermuse_outbox.models import (
    BatchState,
    GroupState,
    OutboxBatch,
    OutboxRecord,
    OutboxWorkspace,
    RecordState,
    WorkspaceState,
)
from evermuse_outbox.upkeep import read_table_statistics
from tests.insight.test_overview import MAX_STATEMENTS
from tests.rows import batch_in, group, record_in

EMPTY_RECORDS = {state.value: 0 for state in RecordState}
EMPTY_BATCHES = dict.fromkeys(
    (
        "sealed",
        "sending",
        "in_doubt",
        "accepted",
        "complete",
        "refused",
        "split",
        "isolating",
        "failed",
        "withdrawn",
    ),
    0,
)


def block(alias, state, until=None, reason="because", name="default"):
    OutboxWorkspace.objects.using(alias).create(name=name, state=state, blocked_until=until, reason=reason)


def grow_old(alias, row, seconds):
    then = timezone.now() - timedelta(seconds=seconds)
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(enqueued_at=then)


def test_an_empty_outbox_has_every_figure(alias):
    figures = collect_status(alias)
    assert abs(figures.pop("clocks")["process"]) < 2
    assert figures.pop("overview")["workers"]["is_missing"]
    assert figures == {
        "records": EMPTY_RECORDS,
        "batches": EMPTY_BATCHES,
        "oldest_unsent_seconds": None,
        "workspaces": {"default": {"state": "active"}},
        "missing_workspaces": {},
        "waiting_batches": [],
        "paused_groups": [],
        "tables": read_table_statistics(alias),
    }


def test_each_state_of_records_is_counted(alias):
    for times, state in enumerate(RecordState, start=1):
        for _ in range(times):
            record_in(alias, state)
    counted = count_records(alias)
    assert counted == {state.value: times for times, state in enumerate(RecordState, start=1)}
    for state in RecordState:
        assert OutboxRecord.objects.using(alias).filter(state=state).count() == counted[state]


@pytest.mark.parametrize(
    "state", sorted(set(BatchState) - {BatchState.FAILED, BatchState.WITHDRAWN})
)  # no record stays in these
def test_the_state_of_a_batch_is_the_state_of_its_records(alias, state):
    record_in(alias, "pending", batch_in(alias, state))
    expected = {"complete": "delivered"}.get(state, "in_flight")
    assert count_records(alias) == EMPTY_RECORDS | {expected: 1}
    assert collect_status(alias)["batches"] == EMPTY_BATCHES | {str(state): 1}


@pytest.mark.parametrize("state", ["rejected", "superseded", "discarded"])
def test_a_closed_record_has_its_state_in_any_batch(alias, state):
    record_in(alias, state, batch_in(alias, BatchState.COMPLETE))
    assert count_records(alias) == EMPTY_RECORDS | {state: 1}


def test_the_number_of_queries_does_not_grow_with_the_outbox(alias):
    for state in RecordState:
        record_in(alias, state)
    collect_status(alias)  # the first call of a process also measures the clock of the database
    with CaptureQueriesContext(connections[alias]) as few:
        collect_status(alias)
    for state in [*RecordState] * 3:
        record_in(alias, state)
    with CaptureQueriesContext(connections[alias]) as many:
        collect_status(alias)
    assert len(few) == len(many) <= 13 + MAX_STATEMENTS


# --- the oldest ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [BatchState.SEALED, BatchState.SENDING, BatchState.IN_DOUBT])
def test_a_record_that_evermuse_has_not_accepted_is_unsent(alias, state):
    grow_old(alias, record_in(alias, "pending", batch_in(alias, state)), 500)
    grow_old(alias, record_in(alias, "pending"), 100)
    assert 500 <= oldest_unsent_seconds(alias) < 560


def test_the_oldest_unsent_record_can_be_pending(alias):
    grow_old(alias, record_in(alias, "in_flight"), 100)
    grow_old(alias, record_in(alias, "pending"), 500)
    assert 500 <= oldest_unsent_seconds(alias) < 560


@pytest.mark.parametrize("state", [BatchState.ACCEPTED, BatchState.COMPLETE])
def test_a_record_that_evermuse_has_accepted_is_not_unsent(alias, state):
    record_in(alias, "pending", batch_in(alias, state, remote_id="r"))
    for closed in ("rejected", "superseded", "discarded"):
        record_in(alias, closed)
        record_in(alias, closed, batch_in(alias, BatchState.SEALED))
    assert oldest_unsent_seconds(alias) is None


def test_a_record_from_a_clock_that_is_ahead_has_no_negative_age(alias):
    grow_old(alias, record_in(alias, "pending"), -500)
    assert oldest_unsent_seconds(alias) == 0.0


# --- workspaces ---------------------------------------------------------------------------------------


def test_a_paused_workspace_has_a_reason_and_an_end(alias, outbox_settings):
    outbox_settings(WORKSPACES={"eu": {"API_KEY": "em_sk_eu"}})
    until = timezone.now() + timedelta(minutes=1)
    block(alias, WorkspaceState.PAUSED, until.replace(microsecond=0), "401: key missing or wrong")
    block(alias, WorkspaceState.ACTIVE, name="eu", reason="")
    block(alias, WorkspaceState.PAUSED, name="gone")
    assert workspace_states(alias) == {
        "default": {
            "state": "paused",
            "blocked_until": until.replace(microsecond=0).isoformat(),
            "reason": "401: key missing or wrong",
        },
        "eu": {"state": "active"},
    }
    figures = collect_status(alias)
    assert json.loads(json.dumps(figures)) == figures


def test_a_workspace_that_backs_off_without_an_end(alias):
    block(alias, WorkspaceState.BACKING_OFF)
    assert workspace_states(alias)["default"]["blocked_until"] is None


# --- what is left -------------------------------------------------------------------------------------


def test_what_is_count_unfinished(alias):
    assert count_unfinished(alias) == {"pending": 0, "unsent": 0, "accepted": 0, "to_poll": 0}
    record_in(alias, "pending")
    for state in (BatchState.SEALED, BatchState.SENDING, BatchState.IN_DOUBT):
        batch_in(alias, state, record_count=5)
    batch_in(alias, BatchState.ACCEPTED, record_count=7, next_poll_at=timezone.now())
    batch_in(alias, BatchState.COMPLETE, record_count=7, next_poll_at=timezone.now())
    batch_in(alias, BatchState.COMPLETE, record_count=7)
    for state in ("delivered", "rejected", "superseded", "discarded"):
        record_in(alias, state)
    assert count_unfinished(alias) == {"pending": 1, "unsent": 15, "accepted": 7, "to_poll": 2}
    assert OutboxBatch.objects.using(alias).count() == 7


def test_records_left_in_an_isolated_batch_are_unsent(alias):
    isolated = batch_in(alias, BatchState.ISOLATING, record_count=1_000)
    record_in(alias, "pending", isolated)
    batch_in(alias, BatchState.SEALED, record_count=5, parent=isolated)
    assert count_unfinished(alias)["unsent"] == 6


# --- groups -------------------------------------------------------------------------------------------


def test_paused_groups_have_a_reason_and_advice(alias):
    group(alias, GroupState.SUSPECTED, product_id="other")
    row = group(alias)
    (paused,) = collect_status(alias)["paused_groups"]
    assert paused == {
        "workspace": "default",
        "type": "message",
        "product_id": "prod-abc",
        "state": "paused",
        "since": row.since.isoformat(),
        "blocked_until": row.blocked_until.isoformat(),
        "reason": row.reason,
        "advice": row.advice,
    }
