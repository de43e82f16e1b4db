"""Which workspaces have work, found for all of them at once: the same as for each of them, and by indexes only."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from evermuse_outbox import outbox
from evermuse_outbox.delivery.gates import workspace_circuit
from evermuse_outbox.delivery.scanning import (
    DueWork,
    find_waiting_work,
    find_work,
    is_any_pending,
    sql_workspaces,
)
from evermuse_outbox.models import (
    BatchState,
    OutboxDeferral,
    OutboxGroup,
    OutboxRecord,
    OutboxWorkspace,
    WorkspaceState,
)
from tests.records import record
from tests.rows import batch_in, group

NAMES = ("a", "b", "c", "d", "e", "f", "g")


@pytest.fixture(autouse=True)
def workspaces(outbox_settings, alias):
    """Seven workspaces with a row each."""
    outbox_settings(DATABASES=[alias], WORKSPACES={name: {"API_KEY": f"em_sk_{name}"} for name in NAMES})
    OutboxWorkspace.objects.using(alias).bulk_create(OutboxWorkspace(pk=name) for name in NAMES)


def enqueue(alias, workspace, *products):
    """Enqueue one record for each product."""
    for product in products:
        outbox.enqueue(
            record(f"{workspace}-{product}", _product_id=product), using=alias, workspace=workspace
        )


def find(alias, clock, names=NAMES):
    """Return the names of the workspaces that may send, and of those that may poll."""
    work = find_work(alias, names, clock)
    return "".join(sorted(work.send)), "".join(sorted(work.poll))


def change(alias, name, **columns):
    """Change a workspace's row."""
    OutboxWorkspace.objects.using(alias).filter(pk=name).update(**columns)


def test_workspaces_with_pending_records_are_found_and_no_others(alias, clock):
    enqueue(alias, "b", "p", "q")
    enqueue(alias, "d", "p")
    enqueue(alias, "f", "r")
    OutboxRecord.rows.using(alias).filter(workspace="d").update(closed_as="discarded")
    assert find(alias, clock) == ("bf", "")
    assert find(alias, clock, names=("a", "b")) == ("b", "")
    assert is_any_pending(alias)
    OutboxRecord.rows.using(alias).update(closed_as="discarded")
    assert not is_any_pending(alias)


def test_a_workspace_with_pending_records_needs_no_row(alias, clock):
    OutboxWorkspace.objects.using(alias).all().delete()
    enqueue(alias, "c", "p")
    assert find(alias, clock) == ("c", "")


def test_unsent_batches_count_when_they_are_due_and_their_group_is_not_held(alias, clock):
    later, now = clock.now() + timedelta(minutes=5), clock.now()
    batch_in(alias, BatchState.SEALED, workspace="a", due_at=now)
    batch_in(alias, BatchState.IN_DOUBT, workspace="b", due_at=now)
    batch_in(alias, BatchState.SEALED, workspace="c", due_at=later)
    batch_in(alias, BatchState.SENDING, workspace="d", due_at=now)
    batch_in(alias, BatchState.SEALED, workspace="e", due_at=now, product_id="held")
    batch_in(alias, BatchState.SEALED, workspace="f", due_at=now, product_id="held")
    batch_in(alias, BatchState.SEALED, workspace="f", due_at=now)
    for name in "ef":
        group(alias, "held", workspace=name, product_id="held")
    assert OutboxGroup.objects.using(alias).count() == 2
    assert find(alias, clock) == ("abf", "")
    clock.move(300)
    assert find(alias, clock) == ("abcf", "")


def test_polled_batches_count_when_they_are_due_and_the_next_read_is(alias, clock):
    later, now = clock.now() + timedelta(minutes=5), clock.now()
    for name, at in {"a": now, "b": later, "c": now, "d": now, "e": None}.items():
        batch_in(alias, BatchState.ACCEPTED, workspace=name, due_at=now, next_poll_at=at)
    change(alias, "c", next_read_at=later)
    change(alias, "d", next_read_at=now)
    assert find(alias, clock) == ("", "ad")
    clock.move(300)
    assert find(alias, clock) == ("", "abcd")


def test_a_batch_whose_workspace_lost_its_row_is_found(alias, clock):
    OutboxWorkspace.objects.using(alias).all().delete()
    batch_in(alias, BatchState.SEALED, workspace="a", due_at=clock.now())
    batch_in(alias, BatchState.ACCEPTED, workspace="b", due_at=clock.now(), next_poll_at=clock.now())
    assert find(alias, clock) == ("a", "b")


@pytest.mark.parametrize("state", WorkspaceState.values)
@pytest.mark.parametrize("minutes", [None, -1, 1])
def test_a_workspace_is_found_exactly_when_its_circuit_allows_the_request(
    context, alias, clock, state, minutes
):
    name = context.workspace_name
    until = None if minutes is None else clock.now() + timedelta(minutes=minutes)
    OutboxWorkspace.objects.using(alias).create(pk=name, state=state, blocked_until=until)
    enqueue(alias, name, "p")
    batch_in(alias, BatchState.ACCEPTED, workspace=name, due_at=clock.now(), next_poll_at=clock.now())
    found = find_work(alias, [name], clock)
    for is_read, names in ((True, found.poll), (False, found.send)):
        with workspace_circuit(context, is_read=is_read) as circuit:
            assert circuit.allows_requests == (name in names)


def test_without_work_one_statement_is_enough(alias, clock):
    batch_in(alias, BatchState.COMPLETE, workspace="a")
    with CaptureQueriesContext(connections[alias]) as statements:
        assert find_work(alias, NAMES, clock) == DueWork(frozenset(), frozenset())
    assert len(statements) == 1


STEPS_THROUGH_INDEXES = {
    "sqlite": lambda plan: (
        plan.count("evermuse_outbox") == plan.count("INDEX evermuse") and "TEMP" not in plan
    ),
    "postgresql": lambda plan: "Seq Scan" not in plan and "Sort" not in plan,
    "mysql": lambda plan: plan.count("index for group-by") == 2 and "filesort" not in plan,
}


@pytest.mark.commits  # because ANALYZE commits in MariaDB
def test_workspaces_are_found_by_steps_through_the_indexes(alias, clock, analyze):
    """So the cost does not grow with the pending records and not with the batches."""
    for name in NAMES:
        enqueue(alias, name, *(f"p{number}" for number in range(40)))
        for _ in range(40):
            batch_in(alias, BatchState.SEALED, workspace=name)
            batch_in(alias, BatchState.COMPLETE, workspace=name)
    later = clock.at + timedelta(days=1)
    OutboxDeferral.objects.using(alias).bulk_create(
        OutboxDeferral(record_id=number, workspace="a", due_at=later) for number in range(2_000)
    )
    waiting = find_waiting_work(alias, clock.at)
    assert waiting.pending == waiting.unsent == frozenset(NAMES)
    assert not waiting.polled
    connection = connections[alias]
    for table in (sql_workspaces.TABLE, sql_workspaces.BATCHES, sql_workspaces.DEFERRALS):
        analyze(table)
    with connection.cursor() as cursor:
        explain = {"sqlite": "EXPLAIN QUERY PLAN"}.get(connection.vendor, "EXPLAIN")
        cursor.execute(f"{explain} {sql_workspaces.workspaces_query(connection.vendor)}", [clock.at])
        plan = "\n".join(str(row) for row in cursor.fetchall())
    assert all(index in plan for index in ("evermuse_record_pending", "evermuse_batch_due")), plan
    assert STEPS_THROUGH_INDEXES[connection.vendor](plan), plan
