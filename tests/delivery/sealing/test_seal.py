"""Sealing on every database: who goes, who waits, who is set aside, and what the bytes are."""

from __future__ import annotations

import hashlib
import json

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import relay, seal_next
from evermuse_outbox.delivery.sealing import SealRaced, open_sealed, seal
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxRecord
from tests.records import enqueue, record


def state_of(row):
    row.refresh_from_db()
    return row.state


def seal_all(context):
    sealed = []
    while one := seal_next(context):
        sealed.append(one)
    return sealed


def test_a_sealed_batch_is_committed_with_members_order_bytes_and_key(context, alias):
    rows = enqueue(alias, 3, 1, 2)
    sealed = seal_next(context)
    batch = OutboxBatch.objects.using(alias).get()
    assert sealed.members == tuple(row.pk for row in rows)
    assert sealed.body == "".join(row.payload + "\n" for row in rows).encode()
    assert batch.sha256 == hashlib.sha256(sealed.body).hexdigest()
    assert (batch.record_count, batch.byte_count) == (3, len(sealed.body))
    assert batch.state == BatchState.SENDING
    assert 0 < len(batch.key) <= 256
    assert open_sealed(context, batch) == sealed


@pytest.mark.parametrize(
    ("body_format", "content_type"),
    [("ndjson", "application/x-ndjson"), ("array", "application/json"), ("wrapper", "application/json")],
)
def test_each_body_format_is_what_evermuse_reads(
    context, alias, sandbox, outbox_settings, reopen, body_format, content_type
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", BODY_FORMAT=body_format)
    enqueue(alias, 1, 2)
    relay(reopen(), 60)
    assert len(sandbox.records()) == 2
    assert sandbox.arrivals[0].headers["Content-Type"] == content_type


def test_the_format_hint_of_a_type_goes_along(context, alias, sandbox, outbox_settings, reopen):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", FORMAT_HINTS={"call": "audio"})
    enqueue(alias, 1)
    enqueue(alias, 2, _type="call")
    relay(reopen(), 60)
    assert {a.type: a.query for a in sandbox.arrivals} == {"message": [], "call": [("format", "audio")]}


def test_limits_of_the_settings_bound_a_batch(context, alias, sandbox, outbox_settings, reopen):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=3)
    enqueue(alias, *range(7))
    assert [len(sealed.members) for sealed in seal_all(reopen())] == [3, 3, 1]


def test_attachments_bound_a_batch(context, alias, sandbox, outbox_settings, reopen):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_ATTACHMENTS=5)
    enqueue(alias, *range(4), _attachments=[{"type": "file"}, {"type": "file"}])
    assert [sealed.batch.attachment_count for sealed in seal_all(reopen())] == [4, 4]


@pytest.mark.parametrize("body_format", ["ndjson", "array", "wrapper"])
def test_the_largest_record_of_all_is_deliverable_in_every_format(
    context, alias, sandbox, outbox_settings, reopen, body_format
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", BODY_FORMAT=body_format)
    (small,) = enqueue(alias, 1)
    (row,) = enqueue(alias, 2, data={"text": "x" * (5_000_000 - 1 - small.size + len("Hello 1"))})
    assert row.size == 4_999_999
    relay(reopen(), 60)
    assert len(sandbox.records()) == 2
    assert max(arrival.size for arrival in sandbox.arrivals) == 5_000_000
    assert sandbox.violations == []


# --- lingering --------------------------------------------------------------------------------------


def test_a_record_lingers_for_company(context, alias, sandbox, outbox_settings, reopen):
    from datetime import timedelta

    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", LINGER=10)
    context = reopen()
    (row,) = enqueue(alias, 1)
    at = context.clock.now()

    def enqueued(seconds_ago):
        OutboxRecord.rows.using(alias).update(enqueued_at=at - timedelta(seconds=seconds_ago))
        return seal_next(context)

    assert enqueued(9) is None
    assert enqueued(11) is not None


def test_a_full_request_lingers_no_longer(context, alias, sandbox, outbox_settings, reopen, clock):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", LINGER=1000, MAX_BATCH_RECORDS=2)
    context = reopen()
    enqueue(alias, 1)
    OutboxRecord.rows.using(alias).update(enqueued_at=clock.now())
    assert seal_next(context) is None
    enqueue(alias, 2)
    OutboxRecord.rows.using(alias).update(enqueued_at=clock.now())
    assert len(seal_next(context).members) == 2


def test_a_host_whose_clock_is_ahead_does_not_linger_for_ever(context, alias, clock, outbox_settings, reopen):
    from datetime import timedelta

    outbox_settings(LINGER=10)
    enqueue(alias, 1)
    OutboxRecord.rows.using(alias).update(enqueued_at=clock.now() + timedelta(days=1))
    assert seal_next(reopen()) is not None


# --- groups in turn -----------------------------------------------------------------------------------


def test_groups_have_their_turn(context, alias, sandbox, outbox_settings, reopen):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=1)
    for number in range(3):
        enqueue(alias, number)
        enqueue(alias, 10 + number, _product_id="other")
        enqueue(alias, 20 + number, _type="call")
    groups = [(sealed.batch.type, sealed.batch.product_id) for sealed in seal_all(reopen())]
    assert len(groups) == 9
    assert all(len(set(groups[start : start + 3])) == 3 for start in (0, 3, 6))


# --- versions -----------------------------------------------------------------------------------------


def test_an_unsent_older_version_is_superseded(context, alias, sandbox):
    first, second, third = (enqueue(alias, 1, data={"version": n})[0] for n in range(3))
    relay(context, 60)
    assert [state_of(row) for row in (first, second, third)] == ["superseded", "superseded", "in_flight"]
    assert (first.superseded_by, second.superseded_by) == (third.pk, third.pk)
    assert [stored.record["data"] for stored in sandbox.records()] == [{"version": 2}]


def test_versions_in_two_groups_are_versions_all_the_same(context, alias, sandbox):
    (older,) = enqueue(alias, 1, _product_id="a")
    (newer,) = enqueue(alias, 1, _product_id="b")
    relay(context, 60)
    assert (state_of(older), state_of(newer)) == ("superseded", "in_flight")


def test_a_newer_version_waits_for_the_older_one_under_way(context, alias, sandbox, clock):
    from evermuse_outbox.delivery.loop import poll

    enqueue(alias, 1, data={"version": 1})
    relay(context, 60)
    (newer,) = enqueue(alias, 1, data={"version": 2})
    (other,) = enqueue(alias, 2)
    relay(context, 60)
    assert (state_of(newer), state_of(other)) == ("pending", "in_flight")

    clock.move(5)
    poll(context, 60)
    relay(context, 60)
    assert state_of(newer) == "in_flight"
    assert sandbox.records()[0].record["data"] == {"version": 2}


def test_an_older_version_that_commits_late_never_leaves(context, alias, sandbox, clock):
    from evermuse_outbox.delivery.loop import poll

    late, newer = enqueue(alias, 1), enqueue(alias, 1, data={"version": 2})
    # The older row becomes visible only after the newer one was delivered: ids are not commit order.
    OutboxRecord.rows.using(alias).filter(pk=late[0].pk).update(closed_as="discarded")
    relay(context, 60)
    clock.move(5)
    poll(context, 60)
    OutboxRecord.rows.using(alias).filter(pk=late[0].pk).update(closed_as=None)
    relay(context, 60)
    assert state_of(late[0]) == "superseded"
    assert state_of(newer[0]) == "delivered"
    assert [stored.times for stored in sandbox.records()] == [1]


def test_a_full_page_of_fenced_records_does_not_hide_those_behind(
    context, alias, sandbox, outbox_settings, reopen
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=3)
    context = reopen()
    enqueue(alias, 1, 2, 3)
    relay(context, 60)
    fenced = enqueue(alias, 1, 2, 3, data={"version": 2})
    free = enqueue(alias, 4, 5)
    relay(context, 60)
    assert [state_of(row) for row in fenced] == ["pending"] * 3
    assert [state_of(row) for row in free] == ["in_flight"] * 2


# --- the other contract -------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [("reference", "openapi"), ("openapi", "reference")])
def test_a_change_of_contract_strands_nothing(context, alias, clock, outbox_settings, reopen, before, after):
    from evermuse_outbox.sandbox import Sandbox

    with Sandbox(contract=after, rate_limit=100_000) as sandbox:
        known = {"API_URL": sandbox.url, "API_KEY": "em_sk_sandbox"}
        outbox_settings(**known, CONTRACT=before)
        nature = None if before == "reference" else "guidance"
        (row,) = enqueue(alias, 1, _nature=nature)
        outbox_settings(**known, CONTRACT=after)
        relay(reopen(), 60)
        assert state_of(row) == "in_flight"
        (stored,) = sandbox.records()
        assert stored.record.get("_nature") == (nature or "evidence")
        assert sandbox.violations == []


def test_what_the_new_contract_cannot_say_is_rejected_with_the_reason(
    context, alias, sandbox, outbox_settings, reopen
):
    known = {"API_URL": sandbox.url, "API_KEY": "em_sk_sandbox"}
    outbox_settings(**known, CONTRACT="openapi")
    (many,) = enqueue(alias, 1, _project_id=None, _project_ids=["a", "b"])
    (one,) = enqueue(alias, 2)
    outbox_settings(**known, CONTRACT="reference")
    relay(reopen(), 60)
    assert (state_of(many), state_of(one)) == ("rejected", "in_flight")
    assert "_project_ids" in many.rejections.get().message


def test_a_sealed_batch_keeps_its_bytes_when_the_settings_change(
    context, alias, sandbox, clock, outbox_settings, reopen
):
    from evermuse_outbox.sandbox import Fault

    known = {"API_URL": sandbox.url, "API_KEY": "em_sk_sandbox"}
    enqueue(alias, 1)
    sandbox.fail_next(Fault.drop_after())
    relay(context, 1)
    outbox_settings(**known, CONTRACT="openapi", BODY_FORMAT="wrapper")
    clock.move(context.settings.backoff_cap)
    relay(reopen(), 60)
    assert [stored.times for stored in sandbox.records()] == [1]
    assert sandbox.arrivals[1].replayed
    assert json.loads(sandbox.records()[0].line)["_project_id"] == "proj-123"


# --- cost ---------------------------------------------------------------------------------------------


def test_the_number_of_queries_does_not_grow_with_the_records(
    context, alias, django_assert_max_num_queries, outbox_settings, reopen, sandbox
):
    enqueue(alias, 1)
    seal_next(context)
    outbox.enqueue_many((record(n) for n in range(2, 600)), using=alias)
    from django.db import connections

    with django_assert_max_num_queries(18, connection=connections[alias]):
        assert len(seal_next(context).members) == 598


def test_a_record_that_is_discarded_while_it_is_sealed_is_not_taken(context, alias, monkeypatch):
    first, _second = enqueue(alias, 1, 2)
    read = seal.read_records

    def read_and_discard(rows):
        page = read(rows)
        assert OutboxRecord.rows.using(alias).filter(pk=first.pk).discard() == 1
        return page

    monkeypatch.setattr(seal, "read_records", read_and_discard)
    with pytest.raises(SealRaced, match="1 of 2 records"):
        seal_next(context)
    assert not OutboxBatch.objects.using(alias).exists()


def test_a_newer_version_that_comes_between_two_pages_takes_the_older_ones_place(
    context, alias, sandbox, outbox_settings, reopen, monkeypatch
):

    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=3)
    context = reopen()
    enqueue(alias, 8)
    relay(context, 60)
    enqueue(alias, 8, data={"version": 2})  # fenced, so that one page does not fill a request
    older, _other = enqueue(alias, 1, 2)
    read, newer = seal.read_records, []

    def read_and_commit(rows):
        page = read(rows)
        if not newer:
            newer.extend(enqueue(alias, 1, data={"version": 2}))
        return page

    monkeypatch.setattr(seal, "read_records", read_and_commit)
    sealed = seal_next(context)
    assert older.pk not in sealed.members
    assert newer[0].pk in sealed.members
    assert state_of(older) == "superseded"
