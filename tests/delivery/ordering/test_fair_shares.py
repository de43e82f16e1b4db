"""Fair shares with real sealing: what the batches hold, with and without the index of shares."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.delivery.ordering import shares
from evermuse_outbox.indexing import SHARES_INDEX, is_built
from evermuse_outbox.indexing.conditional import CONDITIONAL_INDEXES
from evermuse_outbox.models import OutboxLabel, OutboxRecord, OutboxWorkspace
from tests.delivery.helpers import state_of
from tests.delivery.queues import HOT
from tests.records import record

(INDEX,) = (entry.index for entry in CONDITIONAL_INDEXES if entry.index.name == SHARES_INDEX)


@pytest.fixture(params=["index", "no index"])
def index(request, alias):
    """Build the index of shares for one test, or leave it out."""
    if request.param == "no index":
        assert not is_built(alias, SHARES_INDEX)
        yield
        return
    with connections[alias].schema_editor(atomic=False) as editor:
        editor.add_index(OutboxRecord, INDEX)
    assert is_built(alias, SHARES_INDEX)
    yield
    with connections[alias].schema_editor(atomic=False) as editor:
        editor.remove_index(OutboxRecord, INDEX)


@pytest.fixture
def open_fair(context, sandbox, outbox_settings, reopen):
    """Return a function that opens a context with fair shares of customers, and ten records per request."""

    def open_with(**changes):
        defaults = {"MAX_BATCH_RECORDS": 10, "FAIR_SHARES": {"label": "customer", "weights": {"acme": 3}}}
        outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", **(defaults | changes))
        return reopen()

    return open_with


def enqueue_for(context, customer, count, *, first=0, **options):
    """Enqueue records of a customer."""
    labels = {"customer": customer} if customer else None
    rows = [record(f"{customer}-{number}", _product_id=HOT) for number in range(first, first + count)]
    outbox.enqueue_many(rows, using=context.using, labels=labels, **options)


def customers_of(context, sealed):
    """Return how many records of each customer a sealed batch has."""
    rows = OutboxRecord.rows.using(context.using).filter(pk__in=sealed.members)
    values = dict(
        OutboxLabel.objects.using(context.using).filter(name="customer").values_list("label_set_id", "value")
    )
    return dict(Counter(values.get(pk) for pk in rows.values_list("label_set_id", flat=True)))


pytestmark = pytest.mark.commits


def test_a_request_is_shared_by_weight(index, open_fair):
    context = open_fair()
    enqueue_for(context, "acme", 100)
    enqueue_for(context, "globex", 50)
    enqueue_for(context, "initech", 50)
    totals = Counter()
    for _ in range(5):
        totals.update(customers_of(context, seal_next(context)))
    assert sum(totals.values()) == 50
    assert totals == {"acme": 30, "globex": 10, "initech": 10}


def test_a_small_customer_does_not_wait_behind_a_large_one(index, open_fair):
    context = open_fair()
    enqueue_for(context, "globex", 200)
    enqueue_for(context, "initech", 4)
    enqueue_for(context, None, 3)
    assert customers_of(context, seal_next(context)) == {"globex": 3, "initech": 4, None: 3}
    assert customers_of(context, seal_next(context)) == {"globex": 10}


def test_all_requests_are_full_and_every_record_is_sealed_once(index, open_fair):
    context = open_fair()
    for number in range(12):
        enqueue_for(context, f"customer-{number}", number)
    sealed = []
    while batch := seal_next(context):
        sealed.append(batch.members)
    assert [len(members) for members in sealed] == [10] * 6 + [6]
    assert len({pk for members in sealed for pk in members}) == 66


def test_more_label_sets_than_one_look_are_seen_in_turn(index, open_fair, monkeypatch):
    monkeypatch.setattr(shares, "MAX_LABEL_SETS", 4)
    context = open_fair()
    for number in range(10):
        enqueue_for(context, f"customer-{number}", 30)
    totals = Counter()
    for _ in range(10):
        totals.update(customers_of(context, seal_next(context)))
    assert sum(totals.values()) == 100
    if is_built(context.using, SHARES_INDEX):
        assert set(totals.values()) <= {8, 9, 10, 11, 12}


def test_the_position_is_stored_only_with_more_label_sets_than_one_look(index, open_fair):
    context = open_fair()
    enqueue_for(context, "acme", 30)
    enqueue_for(context, "globex", 30)
    seal_next(context)
    assert "label_sets" not in OutboxWorkspace.objects.using(context.using).get().run_queue


def test_more_shares_need_no_longer_statement_where_a_lateral_join_is_possible(index, open_fair):
    """PostgreSQL plans each part of a UNION: 100 of them took longer than to read the records."""
    context = open_fair(MAX_BATCH_RECORDS=40)
    if connections[context.using].vendor != "postgresql":
        pytest.skip("other databases have no LATERAL join")
    lengths = []
    for customers in (3, 30):
        for number in range(customers):
            enqueue_for(context, f"customer-{customers}-{number}", 20)
        with CaptureQueriesContext(connections[context.using]) as captured:
            assert len(seal_next(context).members) == 40
        lengths.append(max(query["sql"].count("LIMIT") for query in captured))
    assert lengths[1] == lengths[0]


def test_several_label_sets_of_a_customer_are_one_share(index, open_fair):
    context = open_fair()
    for number in range(4):
        enqueue_for(context, "initech", 10, first=10 * number, run=f"import {number}")
    enqueue_for(context, "globex", 40)
    first = seal_next(context)
    assert customers_of(context, first) == {"initech": 5, "globex": 5}
    rows = list(OutboxRecord.rows.using(context.using).order_by("pk").values_list("pk", flat=True))
    assert set(rows[:5]) < set(first.members)


def test_blocked_records_of_a_share_do_not_stop_the_others(index, open_fair):
    context = open_fair()
    enqueue_for(context, "initech", 10)
    seal_next(context)
    enqueue_for(context, "initech", 10)  # newer versions of records in flight
    enqueue_for(context, "globex", 30)
    context.clock.sleep(5)
    sealed = seal_next(context)
    assert customers_of(context, sealed) == {"globex": 10}
    assert state_of(OutboxRecord.rows.using(context.using).order_by("pk")[10]) == "pending"


def test_newest_first_within_each_share(index, open_fair):
    context = open_fair(NEWEST_FIRST={"after": timedelta(minutes=10), "backlog_share": 0.5})
    enqueue_for(context, "globex", 40)
    enqueue_for(context, "initech", 40)
    OutboxRecord.rows.using(context.using).update(enqueued_at=context.clock.now() - timedelta(hours=1))
    members = sorted(seal_next(context).members)
    first = OutboxRecord.rows.using(context.using).order_by("pk").first().pk
    positions = [pk - first for pk in members]
    for start in (0, 40):
        of_share = [position - start for position in positions if start <= position < start + 40]
        assert len(of_share) == 5
        assert {position for position in of_share if position < 20} <= {0, 1, 2}
        assert {position for position in of_share if position >= 20} <= {37, 38, 39}


def test_every_look_and_every_portion_reads_the_index(index, open_fair, alias):
    if not is_built(alias, SHARES_INDEX):
        pytest.skip("only with the index")
    context = open_fair()
    enqueue_for(context, "globex", 400)
    enqueue_for(context, "initech", 40)
    with CaptureQueriesContext(connections[alias]) as captured:
        seal_next(context)
    statements = [
        query["sql"] for query in captured if re.search("label_set_id (>|BETWEEN|IS)", query["sql"])
    ]
    assert len(statements) == 3  # the label sets, the records without labels, and one round of portions
    for statement in statements:
        plan = explain(alias, statement)
        assert SHARES_INDEX in plan
        assert "evermuse_record_pending" not in plan
        assert not re.search("Sort Key|filesort|TEMP B-TREE", plan), plan


def explain(alias, statement):
    """Return the plan of a statement. A small table would be read completely on PostgreSQL."""
    prefix = {"sqlite": "EXPLAIN QUERY PLAN"}.get(connections[alias].vendor, "EXPLAIN")
    with connections[alias].cursor() as cursor:
        if connections[alias].vendor == "postgresql":
            cursor.execute("SET enable_seqscan = off")
        cursor.execute(f"{prefix} {statement}")
        plan = "\n".join(map(str, cursor.fetchall()))
        if connections[alias].vendor == "postgresql":
            cursor.execute("RESET enable_seqscan")
    return plan


def test_a_workspace_without_the_settings_sends_no_statement_more(open_fair, alias):
    counts = {}
    for name, changes in {"none": {"FAIR_SHARES": None}, "fair": {}}.items():
        context = open_fair(**changes)
        enqueue_for(context, f"customer of {name}", 30)
        seal_next(context)
        with CaptureQueriesContext(connections[alias]) as captured:
            seal_next(context)
        counts[name] = sum(
            "portion_" in query["sql"] or "LIMIT 1 OFFSET 10" in query["sql"] for query in captured
        )
    assert counts["none"] == 0
    assert counts["fair"] > 0
