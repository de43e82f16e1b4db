"""The hot path: each statement finds its rows by an index, and the number of statements is limited.

``python -m benchmarks plans`` shows the same on large tables.
"""

from __future__ import annotations

import dataclasses

import pytest
from django.db import connections

from benchmarks.common import bulk_rows
from benchmarks.common.query_plans import captured
from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import Step, seal_next, send, send_next
from evermuse_outbox.delivery.polling import poll_due_batch
from evermuse_outbox.delivery.sending import give_back, lease_due
from evermuse_outbox.models import OutboxBatch, OutboxRecord
from evermuse_outbox.upkeep import purge_old_rows
from tests.records import record

STATEMENTS = 10
"""Maximum for a batch of 1,000 records from the run queue to the settled answer, without those of the throttle."""

REFILL = 4
"""Statements that refill the run queue, once for several batches."""

PURGING = 9
"""Maximum for purging 1,000 records, without the searches for other rows."""

ROWS = 20_000


@pytest.fixture
def grown(context, alias):
    """Return a function that adds delivered rows and a backlog, with or without statistics for the planner."""
    if connections[alias].vendor != "postgresql":
        pytest.skip("only PostgreSQL explains what it did")

    def grow(*, analyzed):
        bulk_rows.add_delivered(ROWS, days_ago=3, size=500, using=alias)
        bulk_rows.add_delivered(3_000, days_ago=30, size=500, using=alias)
        bulk_rows.add_pending(ROWS, size=500, using=alias)
        if analyzed:
            # Young ones that were set aside, which a walk by id would come to only behind all that is delivered.
            waiting = OutboxRecord.rows.using(alias).pending()
            waiting.filter(pk__lt=waiting.latest("pk").pk - 5_000).update(closed_as="superseded")
            with connections[alias].cursor() as cursor:
                cursor.execute("ANALYZE")

    return grow


def explained(alias, step):
    with connections[alias].cursor() as cursor:
        # So that a table of this size is as tempting as one of millions; and each step begins anew.
        cursor.execute("SET LOCAL jit = on; SET LOCAL jit_above_cost = 3000")
    with captured(explain=True, using=alias) as statements:
        step()
    assert statements
    return statements


def send_waiting(context):
    give_back(context, seal_next(context))
    send(context, lease_due(context))


def later(context):
    """Return the context one minute later by the real clock, which the added rows use, too."""
    from datetime import timedelta

    from django.utils import timezone

    clock = dataclasses.replace(context.clock, now=lambda: timezone.now() + timedelta(seconds=60))
    return dataclasses.replace(context, clock=clock)


@pytest.mark.parametrize("analyzed", [True, False], ids=["with statistics", "without statistics"])
def test_the_hot_path_reads_by_index_and_only_the_rows_it_needs(grown, context, alias, sandbox, analyzed):
    grown(analyzed=analyzed)
    context = later(context)
    steps = {
        "send": lambda: send_next(context),
        "lease": lambda: send_waiting(context),
        "track": lambda: poll_due_batch(context),
        "purge": lambda: purge_old_rows(alias, context.clock, 14, seconds=0),
    }
    for name, step in steps.items():
        for statement in explained(alias, step):
            description = f"{name}: {statement.issued_by}: {statement.sql[:300]} → {statement.nodes}"
            assert not statement.warnings, f"{description}: {statement.warnings}"
            assert statement.rows_read <= 2 * 1_000 + 100, description


def test_bad_plans_are_detected(grown, alias):
    grown(analyzed=True)

    def walk():
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT count(size) FROM evermuse_outbox_outboxrecord")
            cursor.execute(
                "SELECT id FROM evermuse_outbox_outboxrecord WHERE size > 0 ORDER BY payload LIMIT 2"
            )

    count, sort = explained(alias, walk)
    assert count.warnings[0] == f"Seq Scan of {2 * ROWS + 3_000:,} rows"
    assert "JIT" in count.warnings[-1]
    assert any("Sort" in warning or "Seq Scan" in warning for warning in sort.warnings)


@pytest.mark.parametrize("prefer_new", [False, True])
def test_the_statements_of_a_batch_are_limited(context, alias, prefer_new):
    outbox.enqueue_many((record(number) for number in range(4_000)), using=alias)
    assert send_next(context) is Step.SENT  # the workspace has its row, and the run queue is full
    for limit in (STATEMENTS, STATEMENTS, STATEMENTS + REFILL):
        with captured(using=alias) as statements:
            assert send_next(context, prefer_new=prefer_new) is Step.SENT
        assert OutboxBatch.objects.using(alias).latest("pk").record_count == 1_000
        issuers = [s.issued_by for s in statements if not s.sql.startswith(("SAVEPOINT", "RELEASE"))]
        assert len(issuers) <= limit, issuers


def test_the_statements_of_a_purge_are_limited(context, alias, clock):
    outbox.enqueue_many((record(number) for number in range(1_000)), using=alias)
    send_next(context)
    OutboxBatch.objects.using(alias).update(state="complete", finished_at=clock.now(), next_poll_at=None)
    clock.move(20 * 86_400)
    with captured(using=alias) as statements:
        assert purge_old_rows(alias, context.clock, 14) == 1_000
    issuers = [s.issued_by for s in statements if not s.sql.startswith(("SAVEPOINT", "RELEASE"))]
    searches = 1 + 2 * 2 + 2  # a page of batches, two kinds of what is set aside, attempts, expired records
    assert len(issuers) <= PURGING + searches, issuers
