"""Records of a sealed batch are deleted or altered: only they are affected, on every database."""

from __future__ import annotations

import pytest
from django.db import connections

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import relay, seal_next, send, send_next
from evermuse_outbox.delivery.sending import give_back
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxRecord, OutboxRejection
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.upkeep import purge_old_rows
from tests.delivery.helpers import batches, deliver, posts, sent_keys, serve, state_of
from tests.records import enqueue, record

TABLE = OutboxRecord._meta.db_table


def delete_instance(alias, row):
    row.delete()


def delete_by_query(alias, row):
    OutboxRecord.objects.using(alias).filter(pk=row.pk).delete()


def delete_by_sql(alias, row):
    with connections[alias].cursor() as cursor:
        cursor.execute(f"DELETE FROM {TABLE} WHERE id = %s", [row.pk])


REMOVALS = [delete_instance, delete_by_query, delete_by_sql]


def states(alias):
    return list(OutboxRecord.objects.using(alias).order_by("pk").values_list("state", flat=True))


def put_in_doubt(context, sandbox, clock):
    """Send once, with an answer that is lost after Evermuse took the batch."""
    sandbox.fail_next(Fault.drop_after())
    relay(context, 1)
    clock.move(context.settings.backoff_cap)


def rewrite(alias, row, payload):
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(payload=payload)


@pytest.mark.parametrize("remove", REMOVALS)
@pytest.mark.parametrize("was_sent", [True, False], ids=["in doubt", "sealed"])
def test_the_other_records_of_a_batch_go_on_under_a_new_key(context, alias, sandbox, clock, remove, was_sent):
    rows = enqueue(alias, *range(5))
    if was_sent:
        put_in_doubt(context, sandbox, clock)
    else:
        give_back(context, seal_next(context))
    remove(alias, rows[2])
    deliver(context, clock)
    old, new = batches(alias)
    assert (old.state, old.message) == (
        BatchState.SPLIT,
        "1 of 5 records were removed after the batch was sealed.",
    )
    assert (new.state, new.parent_id, new.record_count) == (BatchState.COMPLETE, old.pk, 4)
    assert new.key != old.key
    assert [state_of(row) for row in rows if row is not rows[2]] == ["delivered"] * 4
    assert sent_keys(sandbox).count(old.key) == was_sent


def test_a_newer_version_waits_until_the_rest_of_a_batch_in_doubt_has_ended(context, alias, sandbox, clock):
    rows = enqueue(alias, 1, 2)
    put_in_doubt(context, sandbox, clock)
    outbox.enqueue(record(1, data={"version": 2}), using=alias)
    rows[1].delete()
    relay(context, 60)  # seals the rest again
    relay(context, 60)
    assert states(alias) == ["in_flight", "pending"]
    assert [batch.state for batch in batches(alias)] == [BatchState.SPLIT, BatchState.ACCEPTED]
    deliver(context, clock)
    assert states(alias) == ["delivered", "delivered"]


def test_the_rest_of_a_batch_that_was_never_sent_is_superseded_at_once(context, alias, clock):
    rows = enqueue(alias, 1, 2)
    give_back(context, seal_next(context))
    outbox.enqueue(record(1, data={"version": 2}), using=alias)
    rows[1].delete()
    deliver(context, clock)
    assert states(alias) == ["superseded", "delivered"]


def test_the_rest_of_a_batch_in_doubt_is_in_doubt(context, alias, sandbox, clock):
    rows = enqueue(alias, 1, 2)
    put_in_doubt(context, sandbox, clock)
    rows[0].delete()
    sandbox.fail_next(Fault(status=429, body={"retryAfter": 1}))
    relay(context, 60)
    assert [(batch.state, batch.in_doubt) for batch in batches(alias)][1] == (BatchState.IN_DOUBT, True)


@pytest.mark.parametrize("was_sent", [True, False], ids=["in doubt", "sealed"])
def test_a_batch_without_records_ends(context, alias, sandbox, clock, was_sent):
    rows = enqueue(alias, 1, 2)
    if was_sent:
        put_in_doubt(context, sandbox, clock)
    else:
        give_back(context, seal_next(context))
    for row in rows:
        row.delete()
    deliver(context, clock)
    (batch,) = batches(alias)
    assert (batch.state, batch.message) == (
        BatchState.SPLIT,
        "2 of 2 records were removed after the batch was sealed.",
    )
    assert len(posts(sandbox)) == was_sent
    clock.move(20 * 86_400)
    purge_old_rows(alias, context.clock, 14)
    assert batches(alias) == []


# --- lines that were altered ------------------------------------------------------------------------------


ALTERED = {
    "the same size": lambda line: line.replace("Hello", "Howdy"),
    "another size": lambda line: line.replace("Hello", "Goodbye"),
    "cut off": lambda line: line[:-1],
    "empty": lambda line: "",
    "two lines": lambda line: line.replace(":", ":\n", 1),
    "another record": lambda line: line.replace('"_vendor_ids":{', '"_vendor_ids":{"other":"1",'),
}


@pytest.mark.parametrize("change", ALTERED.values(), ids=ALTERED)
def test_only_the_record_with_an_altered_line_is_rejected(context, alias, sandbox, clock, change):
    rows = enqueue(alias, 1, 2, 3)
    put_in_doubt(context, sandbox, clock)
    rewrite(alias, rows[1], change(rows[1].payload))
    deliver(context, clock)
    assert states(alias) == ["delivered", "rejected", "delivered"]
    rejection = rows[1].rejections.get()
    assert rejection.code == "NOT_SENDABLE"
    assert rejection.message.startswith("The database does not have what was enqueued")
    assert len(set(sent_keys(sandbox))) == 2
    assert batches(alias)[0].message == "Stored lines were altered after the batch was sealed."


# --- while the batch is on its way, or accepted -----------------------------------------------------------


def send_and_remove(context, row, remove, alias):
    """Seal a batch, delete a record of it, and send it: the answer is about all records."""
    sealed = seal_next(context)
    remove(alias, row)
    send(context, sealed)


@pytest.mark.parametrize("remove", REMOVALS)
@pytest.mark.parametrize("strict", [True, False], ids=["400", "202 in part"])
@pytest.mark.parametrize("errors_in", ["body", "nowhere"])
@pytest.mark.parametrize("removed", [1, 3], ids=["a good one", "the bad one"])
def test_an_answer_about_a_removed_record_leaves_the_others_alone(
    context, alias, clock, remove, strict, errors_in, removed
):
    rows = enqueue(alias, *range(6), invalid={3})
    options = {} if errors_in == "body" else {"errors_in": errors_in}
    with serve(context, clock, strict=strict, **options) as (context, _):
        send_and_remove(context, rows[removed], remove, alias)
        deliver(context, clock)
    expected = ["rejected" if n == 3 else "delivered" for n in range(6) if n != removed]
    assert [state_of(row) for n, row in enumerate(rows) if n != removed] == expected
    assert not OutboxRejection.objects.using(alias).filter(record_id=rows[removed].pk).exists()


@pytest.mark.parametrize("remove", REMOVALS)
def test_an_accepted_batch_is_completed_without_a_removed_record(context, alias, clock, remove):
    rows = enqueue(alias, 1, 2, 3)
    relay(context, 60)
    remove(alias, rows[0])
    deliver(context, clock)
    assert [state_of(row) for row in rows[1:]] == ["delivered"] * 2
    clock.move(20 * 86_400)
    purge_old_rows(alias, context.clock, 14)
    assert not OutboxRecord.rows.using(alias).exists()
    assert batches(alias) == []


def test_a_batch_that_evermuse_fails_is_sent_again_without_removed_records(context, alias, sandbox, clock):
    rows = enqueue(alias, 1, 2, 3)
    sandbox.fail_next(Fault(batch_fails=True))
    relay(context, 60)
    rows[0].delete()
    deliver(context, clock)
    assert [batch.record_count for batch in batches(alias)] == [3, 2]
    assert states(alias) == ["delivered"] * 2


# --- isolation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("removed", [0, 1, 2, 5, 6, 7], ids=lambda n: f"record {n}")
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_isolation_goes_on_without_a_removed_record(context, alias, clock, removed, steps):
    rows = enqueue(alias, *range(8), invalid={1, 6})
    with serve(context, clock, strict=True, errors_in="nowhere") as (context, _):
        for _ in range(steps):
            _send_once(context, clock)
        rows[removed].delete()
        deliver(context, clock)
    expected = ["rejected" if n in (1, 6) else "delivered" for n in range(8) if n != removed]
    assert states(alias) == expected
    assert not OutboxBatch.objects.using(alias).open().exists()


@pytest.mark.parametrize("kept", [(), (7,), (0,)], ids=["none", "a waiting one", "one of the part"])
def test_isolation_ends_when_nearly_all_records_are_removed(context, alias, clock, kept):
    rows = enqueue(alias, *range(8), invalid={1})
    with serve(context, clock, strict=True, errors_in="nowhere") as (context, _):
        _send_once(context, clock)
        for number, row in enumerate(rows):
            if number not in kept:
                row.delete()
        deliver(context, clock)
    assert states(alias) == ["delivered"] * len(kept)
    assert not OutboxBatch.objects.using(alias).open().exists()


def test_a_part_in_doubt_without_one_of_its_records(context, alias, clock):
    rows = enqueue(alias, *range(8), invalid={6})
    with serve(context, clock, strict=True, errors_in="nowhere") as (context, sandbox):
        _send_once(context, clock)
        sandbox.fail_next(Fault.drop_after())
        _send_once(context, clock)
        clock.move(context.settings.backoff_cap)
        rows[0].delete()
        deliver(context, clock)
    assert states(alias) == ["delivered"] * 5 + ["rejected", "delivered"]


def _send_once(context, clock):
    send_next(context)
    clock.move(1)
