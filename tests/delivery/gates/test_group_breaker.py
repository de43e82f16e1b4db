"""The circuit breaker of a group: if all of its records are refused alike, it is paused, and it resumes by itself."""

from __future__ import annotations

import dataclasses

import pytest

from evermuse_outbox.delivery.gates import group_breaker
from evermuse_outbox.delivery.loop import relay, seal_next, send, send_next
from evermuse_outbox.delivery.settling import apply_status
from evermuse_outbox.evermuse.api import Status
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxGroup, OutboxRecord
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.upkeep import forget_groups
from tests.delivery.helpers import deliver, posts, serve
from tests.records import enqueue, make_invalid, store_line

ANSWERS = {
    "accepted in part, named in details": {},
    "accepted in part, named in errors": {"errors_in": "errors"},
    "accepted in part, not named": {"errors_in": "nowhere"},
    "refused, named": {"strict": True},
    "refused, not named": {"strict": True, "errors_in": "nowhere"},
}
"""How Evermuse answers a batch with bad records: options of the sandbox."""


@pytest.fixture
def open_small(outbox_settings, reopen, sandbox):
    """Return a function that opens a context with batches of ten records and further settings."""

    def open_with(**keys):
        outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", **{"MAX_BATCH_RECORDS": 10} | keys)
        return reopen()

    return open_with


def correct_payloads(alias):
    """Correct the stored lines that ``make_invalid`` changed."""
    for row in OutboxRecord.rows.using(alias).filter(payload__contains="nonsense"):
        store_line(row, row.payload.replace('"_nature":"nonsense"', '"_nature":"evidence"'))


def relay_often(context):
    """Relay until every batch and part that can be sent at this time was sent."""
    for _ in range(40):
        relay(context, 60)


def states(alias):
    """Return the states that any record has."""
    return set(OutboxRecord.objects.using(alias).values_list("state", flat=True))


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_wrong_contract_pauses_the_group_and_the_right_one_delivers_everything(
    context, alias, open_small, clock, answer
):
    enqueue(alias, *range(60))
    with serve(open_small(), clock, contract="openapi", **answer) as (context, sandbox):
        relay_often(context)
        row = OutboxGroup.objects.using(alias).get()
        assert row.state == "paused"
        assert states(alias) == {"pending"}
        assert len(posts(sandbox)) < 20  # 3 batches, and 10 records alone
        assert not OutboxBatch.objects.using(alias).open().exists()
        if answer.get("errors_in") != "nowhere":
            assert 'set CONTRACT to "openapi"' in row.advice
            assert "_project_ids" in row.reason

        corrected = dataclasses.replace(open_small(CONTRACT="openapi"), client=context.client)
        deliver(corrected, clock)
        assert states(alias) == {"delivered"}
        assert not OutboxGroup.objects.using(alias).filter(state="paused").exists()


def pause_group(context, alias, count=60):
    """Send records that Evermuse refuses until their group is paused, and return the group."""
    enqueue(alias, *range(count), invalid=range(count))
    relay_often(context)
    return OutboxGroup.objects.using(alias).get()


def test_each_probe_of_a_paused_group_sends_one_other_record(context, alias, open_small, clock):
    with serve(open_small(), clock, strict=True) as (context, sandbox):
        pause_group(context, alias)
        before = len(posts(sandbox))
        relay(context, 60)
        assert len(posts(sandbox)) == before
        for probe in range(1, 4):
            clock.move(group_breaker.PROBE_INTERVAL)
            relay(context, 60)
            assert len(posts(sandbox)) == before + probe
            assert posts(sandbox)[-1].records == 1
        assert states(alias) == {"pending"}, "a refused probe rejects no record"
        digests = OutboxBatch.objects.using(alias).order_by("-pk").values_list("sha256", flat=True)[:3]
        assert len(set(digests)) == 3

        correct_payloads(alias)
        clock.move(group_breaker.PROBE_INTERVAL)
        deliver(context, clock)
        assert states(alias) == {"delivered"}


def test_a_paused_group_has_one_probe_at_a_time(context, alias, open_small, clock):
    with serve(open_small(), clock, strict=True) as (context, sandbox):
        row = pause_group(context, alias)
        clock.move(group_breaker.PROBE_INTERVAL)
        assert group_breaker.claim_group_probe(context, row)
        assert not group_breaker.claim_group_probe(context, row)
        row.refresh_from_db()
        assert not group_breaker.claim_group_probe(context, row)


def test_other_groups_are_delivered(context, alias, open_small, clock):
    with serve(open_small(), clock, strict=True) as (context, sandbox):
        pause_group(context, alias)
        enqueue(alias, *range(20), _product_id="prod-other")
        deliver(context, clock)
        delivered = OutboxRecord.objects.using(alias).filter(state="delivered")
        assert set(delivered.values_list("product_id", flat=True)) == {"prod-other"}
        assert delivered.count() == 20


def test_an_operator_resumes_a_group_at_once(context, alias, open_small, clock):
    with serve(open_small(), clock, strict=True) as (context, sandbox):
        pause_group(context, alias)
        correct_payloads(alias)
        assert OutboxGroup.objects.using(alias).all().resume() == 1
        deliver(context, clock)
        assert states(alias) == {"delivered"}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_bad_record_in_every_batch_pauses_no_group(context, alias, open_small, clock, answer):
    enqueue(alias, *range(80), invalid=range(3, 80, 10))
    with serve(open_small(), clock, **answer) as (context, sandbox):
        deliver(context, clock)
        assert not OutboxGroup.objects.using(alias).exists()
        rejected = OutboxRecord.objects.using(alias).filter(state="rejected").order_by("pk")
        assert [row.envelope()["data"]["text"] for row in rejected] == [
            f"Hello {n}" for n in range(3, 80, 10)
        ]
        assert states(alias) == {"delivered", "rejected"}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_good_batches_behind_several_bad_ones_are_delivered(context, alias, open_small, clock, answer):
    enqueue(alias, *range(60), invalid=range(25))
    with serve(open_small(), clock, **answer) as (context, sandbox):
        for _ in range(5):
            deliver(context, clock)
            clock.move(group_breaker.PROBE_INTERVAL)
        assert OutboxRecord.objects.using(alias).filter(state="delivered").count() == 35
        assert OutboxRecord.objects.using(alias).filter(state="rejected").count() == 25
        assert not OutboxGroup.objects.using(alias).filter(state="paused").exists()


def test_batches_of_one_record_that_are_all_refused_alike_pause_their_group(
    context, alias, open_small, clock
):
    with serve(open_small(MAX_BATCH_RECORDS=1), clock) as (context, sandbox):
        pause_group(context, alias, count=15)
        assert len(posts(sandbox)) == group_breaker.BAD_RECORDS
        assert states(alias) == {"pending"}


def test_different_refusals_are_not_added_up(context, alias, open_small, clock):
    rows = enqueue(alias, *range(30))
    for position, row in enumerate(rows):
        field = ("_nature", "_schema_version", "_event_at")[position % 3]
        store_line(row, row.payload.replace(f'"{field}":', f'"{field}":"x","_{field}":'))
    with serve(open_small(MAX_BATCH_RECORDS=1), clock) as (context, sandbox):
        deliver(context, clock)
        assert states(alias) == {"rejected"}


def test_a_batch_in_flight_when_its_group_is_paused_loses_no_record(context, alias, open_small, clock):
    with serve(open_small(), clock, strict=True) as (context, sandbox):
        enqueue(alias, *range(60), invalid=range(60))
        sealed = seal_next(context)
        relay_often(context)
        assert OutboxGroup.objects.using(alias).get().state == "paused"
        send(context, sealed)
        sealed.batch.refresh_from_db()
        assert sealed.batch.state == BatchState.REFUSED
        assert states(alias) == {"pending"}


def test_a_batch_in_doubt_is_sent_again_although_its_group_is_paused(context, alias, open_small, clock):
    with serve(open_small(), clock) as (context, sandbox):
        enqueue(alias, *range(10))
        sandbox.fail_next(Fault.drop_after())
        relay(context, 60)
        clock.move(context.settings.backoff_cap)
        in_doubt = OutboxBatch.objects.using(alias).get(state=BatchState.IN_DOUBT)
        OutboxBatch.objects.using(alias).filter(pk=in_doubt.pk).update(due_at=clock.at.replace(year=2030))
        enqueue(alias, *range(60), invalid=range(60))
        relay(context, 60)
        assert OutboxGroup.objects.using(alias).get().state == "paused"
        OutboxBatch.objects.using(alias).filter(pk=in_doubt.pk).update(due_at=clock.at)
        relay(context, 1)
        in_doubt.refresh_from_db()
        assert in_doubt.state == BatchState.ACCEPTED


def test_a_batch_that_is_isolated_during_a_pause_waits_with_the_others(context, alias, open_small, clock):
    with serve(open_small(), clock) as (context, sandbox):
        enqueue(alias, *range(4))
        relay(context, 1)
        accepted = OutboxBatch.objects.using(alias).get()
        enqueue(alias, *range(100, 160))
        make_invalid(*OutboxRecord.rows.using(alias).all())
        relay_often(context)
        assert OutboxGroup.objects.using(alias).get().state == "paused"
        apply_status(context, accepted, Status(accepted.remote_id, "COMPLETE", 2, 2, 2, ()))
        relay(context, 60)
        assert states(alias) == {"pending"}
        correct_payloads(alias)
        clock.move(group_breaker.PROBE_INTERVAL)
        deliver(context, clock)
        assert states(alias) == {"delivered"}


@pytest.mark.parametrize(
    ("answer", "bad"),
    [(ANSWERS["accepted in part, named in details"], 60), (ANSWERS["refused, not named"], 80)],
    ids=["named", "not named"],
)
def test_many_bad_records_and_the_good_ones_behind_them_are_settled(
    context, alias, open_small, clock, answer, bad
):
    enqueue(alias, *range(120), invalid=range(bad))
    with serve(open_small(), clock, **answer) as (context, sandbox):
        for _ in range(4):
            deliver(context, clock)
            clock.move(group_breaker.PROBE_INTERVAL)
        assert states(alias) == {"delivered", "rejected"}
        assert OutboxRecord.objects.using(alias).filter(state="delivered").count() == 120 - bad


def test_after_a_day_the_same_error_may_pause_the_group_again(context, alias, open_small, clock):
    with serve(open_small(), clock, strict=True) as (context, sandbox):
        pause_group(context, alias)
        correct_payloads(alias)
        clock.move(group_breaker.PROBE_INTERVAL)
        deliver(context, clock)
        row = OutboxGroup.objects.using(alias).get()
        assert (row.state, row.blocked_until) == ("cleared", None)
        clock.move(group_breaker.CLEARED_FOR.total_seconds() + 1)
        enqueue(alias, *range(100, 160), invalid=range(100, 160))
        relay_often(context)
        assert OutboxGroup.objects.using(alias).get().state == "paused"


def test_an_error_list_that_is_cut_within_a_record_rejects_no_record(context, alias, open_small, clock):
    for row in enqueue(alias, *range(150)):
        line = row.payload.replace('"_nature":"evidence"', '"_nature":"nonsense","_tags":3,"_participants":4')
        store_line(row, line)
    with serve(open_small(MAX_BATCH_RECORDS=30), clock, strict=True) as (context, sandbox):
        relay_often(context)
        assert OutboxGroup.objects.using(alias).get().state == "paused"
        assert states(alias) == {"pending"}


def test_groups_without_pending_records_are_forgotten(context, alias, open_small, clock):
    with serve(open_small(), clock, strict=True) as (context, sandbox):
        pause_group(context, alias)
        assert forget_groups(alias, context.clock) == 0
        OutboxRecord.rows.using(alias).all().discard()
        assert forget_groups(alias, context.clock) == 1


def send_new_batches(context, count):
    """Send ``count`` new batches before any part of them is sent on."""
    for _ in range(count):
        send_next(context, prefer_new=True)


def test_batches_of_which_only_some_records_are_refused_raise_no_suspicion(context, alias, open_small, clock):
    enqueue(alias, *range(40), invalid=range(3, 40, 10))
    with serve(open_small(), clock, strict=True) as (context, sandbox):
        send_new_batches(context, 4)
        assert not OutboxGroup.objects.using(alias).exists()
        deliver(context, clock)
        assert len(posts(sandbox)) == 8


def test_batches_that_are_too_large_raise_no_suspicion(context, alias, open_small, clock):
    enqueue(alias, *range(40))
    with serve(open_small(), clock) as (context, sandbox):
        sandbox.fail_next(Fault(status=413), count=4)
        send_new_batches(context, 4)
        assert not OutboxGroup.objects.using(alias).exists()
        deliver(context, clock)
        assert states(alias) == {"delivered"}
