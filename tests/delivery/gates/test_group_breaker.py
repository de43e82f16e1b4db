"""Where everything is refused alike: the group is paused before its records are used up, and goes on by itself."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.delivery.gates import group_breaker
from evermuse_outbox.delivery.loop import poll, relay, send_next
from evermuse_outbox.delivery.settling.apply_status import apply_status
from evermuse_outbox.evermuse.api import Client, Status
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxGroup, OutboxRecord
from evermuse_outbox.sandbox import Fault, Sandbox
from evermuse_outbox.upkeep.maintenance import forget_groups
from tests.records import enqueue, make_invalid, record

WAYS = {
    "named": {},
    "in errors": {"errors_in": "errors"},
    "nobody named": {"errors_in": "nowhere"},
    "whole": {"strict": True},
    "whole, nobody named": {"strict": True, "errors_in": "nowhere"},
}


@pytest.fixture
def small(outbox_settings, reopen, sandbox):
    """Batches of ten records, with other settings on top."""

    def opened(**keys):
        given = {"API_URL": sandbox.url, "API_KEY": "em_sk_sandbox", "MAX_BATCH_RECORDS": 10}
        outbox_settings(**given | keys)
        return reopen()

    return opened


@contextmanager
def served(context, clock, **options):
    """The channel, talking to a sandbox of that kind, and the sandbox."""
    with Sandbox(rate_limit=100_000, clock=lambda: clock.at.timestamp(), **options) as sandbox:
        client = Client(sandbox.url, lambda: "em_sk_sandbox", 10)
        yield dataclasses.replace(context, client=client), sandbox
        client.close()


def mend(alias):
    for row in OutboxRecord.rows.using(alias).filter(payload__contains="nonsense"):
        row.payload = row.payload.replace('"_nature":"nonsense"', '"_nature":"evidence"')
        row.save(update_fields=["payload"])


def deliver(context, clock, rounds=40):
    for _ in range(rounds):
        sent = relay(context, 60)
        clock.move(5)
        if not sent and not poll(context, 60):
            return


def states(alias):
    return set(OutboxRecord.objects.using(alias).values_list("state", flat=True))


def posts(sandbox):
    return [arrival for arrival in sandbox.arrivals if arrival.method == "POST"]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_another_contract_pauses_the_group_and_its_change_delivers_everything(
    context, alias, small, clock, way
):
    enqueue(alias, *range(60))
    with served(small(), clock, contract="openapi", **way) as (here, sandbox):
        for _ in range(40):
            relay(here, 60)
        row = OutboxGroup.objects.using(alias).get()
        assert row.state == "paused"
        assert states(alias) == {"pending"}
        assert len(posts(sandbox)) < 20  # 3 batches, and 10 records alone
        assert not OutboxBatch.objects.using(alias).open().exists()
        if way.get("errors_in") != "nowhere":
            assert 'set CONTRACT to "openapi"' in row.advice
            assert "_project_ids" in row.reason

        mended = dataclasses.replace(small(CONTRACT="openapi"), client=here.client)
        deliver(mended, clock)
        assert states(alias) == {"delivered"}
        assert not OutboxGroup.objects.using(alias).filter(state="paused").exists()


def paused(context, alias, clock, count=60):
    """A paused group of records that Evermuse refuses; returns its row."""
    enqueue(alias, *range(count), invalid=range(count))
    for _ in range(40):
        relay(context, 60)
    return OutboxGroup.objects.using(alias).get()


def test_a_paused_group_is_probed_gently_each_time_with_another_record(context, alias, small, clock):
    with served(small(), clock, strict=True) as (here, sandbox):
        paused(here, alias, clock)
        before = len(posts(sandbox))
        relay(here, 60)
        assert len(posts(sandbox)) == before
        for probe in range(1, 4):
            clock.move(group_breaker.PROBE_INTERVAL)
            relay(here, 60)
            assert len(posts(sandbox)) == before + probe
            assert posts(sandbox)[-1].records == 1
        assert states(alias) == {"pending"}  # who is probed in vain loses no chance
        sizes = OutboxBatch.objects.using(alias).order_by("-pk").values_list("record_count", "sha256")[:3]
        assert len({digest for _, digest in sizes}) == 3

        mend(alias)
        clock.move(group_breaker.PROBE_INTERVAL)
        deliver(here, clock)
        assert states(alias) == {"delivered"}


def test_one_probe_at_a_time(context, alias, small, clock):
    with served(small(), clock, strict=True) as (here, sandbox):
        row = paused(here, alias, clock)
        clock.move(group_breaker.PROBE_INTERVAL)
        assert group_breaker.claim_group_probe(here, row)
        assert not group_breaker.claim_group_probe(here, row)
        row.refresh_from_db()
        assert not group_breaker.claim_group_probe(here, row)


def test_other_groups_go_on(context, alias, small, clock):
    with served(small(), clock, strict=True) as (here, sandbox):
        paused(here, alias, clock)
        enqueue(alias, *range(20), _product_id="prod-other")
        deliver(here, clock)
        delivered = OutboxRecord.objects.using(alias).filter(state="delivered")
        assert set(delivered.values_list("product_id", flat=True)) == {"prod-other"}
        assert delivered.count() == 20


def test_a_person_resumes_it_at_once(context, alias, small, clock):
    with served(small(), clock, strict=True) as (here, sandbox):
        paused(here, alias, clock)
        mend(alias)
        assert OutboxGroup.objects.using(alias).all().resume() == 1
        deliver(here, clock)
        assert states(alias) == {"delivered"}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_bad_record_in_every_batch_is_not_systemic(context, alias, small, clock, way):
    enqueue(alias, *range(80), invalid=range(3, 80, 10))
    with served(small(), clock, **way) as (here, sandbox):
        deliver(here, clock)
        assert not OutboxGroup.objects.using(alias).exists()
        rejected = OutboxRecord.objects.using(alias).filter(state="rejected").order_by("pk")
        assert [row.envelope()["data"]["text"] for row in rejected] == [
            f"Hello {n}" for n in range(3, 80, 10)
        ]
        assert states(alias) == {"delivered", "rejected"}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_good_batches_behind_several_bad_ones_are_delivered(context, alias, small, clock, way):
    enqueue(alias, *range(60), invalid=range(25))
    with served(small(), clock, **way) as (here, sandbox):
        for _ in range(5):
            deliver(here, clock)
            clock.move(group_breaker.PROBE_INTERVAL)
        assert OutboxRecord.objects.using(alias).filter(state="delivered").count() == 35
        assert OutboxRecord.objects.using(alias).filter(state="rejected").count() == 25
        assert not OutboxGroup.objects.using(alias).filter(state="paused").exists()


def test_lone_records_that_are_all_refused_alike_pause_their_group_too(context, alias, small, clock):
    with served(small(MAX_BATCH_RECORDS=1), clock) as (here, sandbox):
        paused(here, alias, clock, count=15)
        assert len(posts(sandbox)) == group_breaker.BAD_RECORDS
        assert states(alias) == {"pending"}


def test_refusals_that_differ_are_not_added_up(context, alias, small, clock):
    rows = enqueue(alias, *range(30))
    for position, row in enumerate(rows):
        field = ("_nature", "_schema_version", "_event_at")[position % 3]
        row.payload = row.payload.replace(f'"{field}":', f'"{field}":"x","_{field}":')
        row.save(update_fields=["payload"])
    with served(small(MAX_BATCH_RECORDS=1), clock) as (here, sandbox):
        deliver(here, clock)
        assert states(alias) == {"rejected"}


def test_a_batch_under_way_when_its_group_was_paused_is_not_used_up(context, alias, small, clock):
    from evermuse_outbox.delivery.loop import seal_next, send

    with served(small(), clock, strict=True) as (here, sandbox):
        enqueue(alias, *range(60), invalid=range(60))
        early = seal_next(here)
        for _ in range(40):
            relay(here, 60)
        assert OutboxGroup.objects.using(alias).get().state == "paused"
        send(here, early)
        early.batch.refresh_from_db()
        assert early.batch.state == BatchState.REFUSED
        assert states(alias) == {"pending"}


def test_what_is_in_doubt_when_its_group_is_paused_is_still_asked_again(context, alias, small, clock):
    with served(small(), clock) as (here, sandbox):
        enqueue(alias, *range(10))
        sandbox.fail_next(Fault.drop_after())
        relay(here, 60)
        clock.move(here.settings.backoff_cap)
        doubted = OutboxBatch.objects.using(alias).get(state=BatchState.IN_DOUBT)
        OutboxBatch.objects.using(alias).filter(pk=doubted.pk).update(due_at=clock.at.replace(year=2030))
        enqueue(alias, *range(60))
        for row in OutboxRecord.rows.using(alias).pending():
            make_invalid(row)
        relay(here, 60)
        assert OutboxGroup.objects.using(alias).get().state == "paused"
        OutboxBatch.objects.using(alias).filter(pk=doubted.pk).update(due_at=clock.at)
        relay(here, 1)
        doubted.refresh_from_db()
        assert doubted.state == BatchState.ACCEPTED


def test_what_begins_to_be_divided_during_a_pause_waits_with_the_others(context, alias, small, clock):
    with served(small(), clock) as (here, sandbox):
        enqueue(alias, *range(4))
        relay(here, 1)
        accepted = OutboxBatch.objects.using(alias).get()
        outbox.enqueue_many((record(n) for n in range(100, 160)), using=alias)
        for row in OutboxRecord.rows.using(alias).all():
            make_invalid(row)
        for _ in range(40):
            relay(here, 60)
        assert OutboxGroup.objects.using(alias).get().state == "paused"
        apply_status(here, accepted, Status(accepted.remote_id, "COMPLETE", 2, 2, 2, ()))
        relay(here, 60)
        assert states(alias) == {"pending"}
        mend(alias)
        clock.move(group_breaker.PROBE_INTERVAL)
        deliver(here, clock)
        assert states(alias) == {"delivered"}


@pytest.mark.parametrize("way", [WAYS["named"], WAYS["whole, nobody named"]], ids=["named", "not named"])
def test_many_bad_ones_with_good_ones_behind_come_to_their_end(context, alias, small, clock, way):
    enqueue(alias, *range(120), invalid=range(80 if way else 60))
    with served(small(), clock, **way) as (here, sandbox):
        for _ in range(4):
            deliver(here, clock, rounds=100)
            clock.move(group_breaker.PROBE_INTERVAL)
        assert states(alias) == {"delivered", "rejected"}
        assert OutboxRecord.objects.using(alias).filter(state="delivered").count() == 120 - (
            80 if way else 60
        )


def test_after_a_day_the_same_complaint_may_pause_again(context, alias, small, clock):
    with served(small(), clock, strict=True) as (here, sandbox):
        paused(here, alias, clock)
        mend(alias)
        clock.move(group_breaker.PROBE_INTERVAL)
        deliver(here, clock)
        row = OutboxGroup.objects.using(alias).get()
        assert (row.state, row.blocked_until) == ("cleared", None)
        clock.move(group_breaker.CLEARED_FOR.total_seconds() + 1)
        outbox.enqueue_many((record(n) for n in range(100, 160)), using=alias)
        for row in OutboxRecord.rows.using(alias).pending():
            make_invalid(row)
        for _ in range(40):
            relay(here, 60)
        assert OutboxGroup.objects.using(alias).get().state == "paused"


def test_lists_that_are_cut_within_a_record_leave_nobody_rejected(context, alias, small, clock):
    for row in enqueue(alias, *range(150)):
        row.payload = row.payload.replace(
            '"_nature":"evidence"', '"_nature":"nonsense","_tags":3,"_participants":4'
        )
        row.save(update_fields=["payload"])
    with served(small(MAX_BATCH_RECORDS=30), clock, strict=True) as (here, sandbox):
        for _ in range(40):
            relay(here, 60)
        assert OutboxGroup.objects.using(alias).get().state == "paused"
        assert states(alias) == {"pending"}


def test_groups_that_nothing_waits_in_any_more_are_forgotten(context, alias, small, clock):
    with served(small(), clock, strict=True) as (here, sandbox):
        paused(here, alias, clock)
        assert forget_groups(alias, here.clock) == 0
        OutboxRecord.rows.using(alias).all().discard()
        assert forget_groups(alias, here.clock) == 1


def send_new_ones(context, count):
    """So many new batches, before any part of them goes on."""
    for _ in range(count):
        send_next(context, prefer_new=True)


def test_batches_of_which_only_some_are_complained_of_rouse_no_suspicion(context, alias, small, clock):
    enqueue(alias, *range(40), invalid=range(3, 40, 10))
    with served(small(), clock, strict=True) as (here, sandbox):
        send_new_ones(here, 4)
        assert not OutboxGroup.objects.using(alias).exists()
        deliver(here, clock)
        assert len(posts(sandbox)) == 8


def test_batches_that_are_too_large_rouse_no_suspicion(context, alias, small, clock):
    enqueue(alias, *range(40))
    with served(small(), clock) as (here, sandbox):
        sandbox.fail_next(Fault(status=413), count=4)
        send_new_ones(here, 4)
        assert not OutboxGroup.objects.using(alias).exists()
        deliver(here, clock)
        assert states(alias) == {"delivered"}
