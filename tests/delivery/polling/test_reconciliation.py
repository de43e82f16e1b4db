"""In doubt for longer than Evermuse may remember a key: the listing is asked first, and believed where it is clear."""

from __future__ import annotations

import dataclasses
import json

import pytest
import requests

from evermuse_outbox import outbox
from evermuse_outbox.conf import get_settings
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.delivery.polling import reconciliation as lookup
from evermuse_outbox.models import (
    BatchState,
    OutboxAttempt,
    OutboxBatch,
    OutboxRecord,
    OutboxWorkspace,
    WorkspaceState,
)
from evermuse_outbox.sandbox import Fault
from tests.records import enqueue, record

DAY = 86_400


@pytest.fixture
def context(context, alias, sandbox, outbox_settings, reopen):
    """Its workers look into this one database."""
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", DATABASES=[alias])
    return dataclasses.replace(context, settings=get_settings())


def posts(sandbox):
    return [arrival for arrival in sandbox.arrivals if arrival.method == "POST"]


def reads(sandbox):
    return [arrival for arrival in sandbox.arrivals if arrival.method == "GET"]


def the_batch(alias):
    return OutboxBatch.objects.using(alias).order_by("pk").first()


def doubt(context, alias, sandbox, fault, count=3, **changes):
    """A batch that Evermuse answered unclearly."""
    enqueue(alias, *range(count), **changes)
    sandbox.fail_next(fault)
    relay(context, 1)
    assert OutboxBatch.objects.using(alias).filter(state=BatchState.IN_DOUBT).exists()


def of_somebody_else(sandbox, count=3):
    """A batch of another client of the same workspace."""
    lines = "\n".join(json.dumps(record(f"theirs-{n}")) for n in range(count))
    headers = {"x-api-key": "em_sk_sandbox", "Content-Type": "application/x-ndjson"}
    answer = requests.post(f"{sandbox.url}/api/v1/ingest", data=lines, headers=headers, timeout=10)
    assert answer.status_code == 202


def a_day_later(sandbox, clock):
    sandbox.forget_idempotency_keys()
    clock.move(DAY + 60)


@pytest.mark.parametrize("fault", [Fault.drop_after(), Fault.garbage()], ids=["no answer", "garbage"])
def test_what_evermuse_has_is_found_and_not_sent_again(context, alias, sandbox, clock, fault):
    doubt(context, alias, sandbox, fault)
    a_day_later(sandbox, clock)
    relay(context, 1)
    batch = the_batch(alias)
    assert (batch.state, batch.in_doubt) == (BatchState.ACCEPTED, False)
    assert batch.remote_id == sandbox.batches()[0].id
    assert len(posts(sandbox)) == 1
    attempt = OutboxAttempt.objects.using(alias).filter(batch=batch).last()
    assert (attempt.call, attempt.outcome) == ("listing", "accepted")
    assert batch.remote_id in attempt.detail
    clock.move(5)
    poll(context, 60)
    assert set(OutboxRecord.objects.using(alias).values_list("state", flat=True)) == {"delivered"}


def test_what_is_not_there_is_sent_again_with_the_same_key(context, alias, sandbox, clock):
    doubt(context, alias, sandbox, Fault.drop_before())
    a_day_later(sandbox, clock)
    relay(context, 1)
    assert the_batch(alias).state == BatchState.ACCEPTED
    assert len({arrival.idempotency_key for arrival in posts(sandbox)}) == 1
    assert [stored.times for stored in sandbox.records()] == [1] * 3


def test_within_the_window_nobody_is_asked(context, alias, sandbox, clock):
    doubt(context, alias, sandbox, Fault.drop_after())
    clock.move(DAY - 60)
    relay(context, 1)
    assert reads(sandbox) == []
    assert posts(sandbox)[1].replayed


def test_the_window_is_a_setting(context, alias, sandbox, clock, outbox_settings, reopen):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", DATABASES=[alias], IDEMPOTENCY_KEY_TTL=60)
    doubt(reopen(), alias, sandbox, Fault.drop_after())
    sandbox.forget_idempotency_keys()
    clock.move(120)
    relay(reopen(), 1)
    assert len(posts(sandbox)) == 1


def test_a_worker_that_never_came_back_leaves_a_doubt_too(context, alias, sandbox, clock):
    from evermuse_outbox.delivery.loop import seal_next
    from evermuse_outbox.delivery.sending import post
    from evermuse_outbox.upkeep.maintenance import rescue

    enqueue(alias, *range(3))
    sealed = seal_next(context)
    post(context, sealed, "permit")
    clock.move(DAY + 60)
    rescue(alias, context.clock)
    sandbox.forget_idempotency_keys()
    relay(context, 1)
    assert the_batch(alias).remote_id == sandbox.batches()[0].id
    assert len(posts(sandbox)) == 1


def test_rejections_are_found_with_it(context, alias, sandbox, clock):
    enqueue(alias, *range(3))
    bad = OutboxRecord.rows.using(alias).first()
    bad.payload = bad.payload.replace('"_nature":"evidence"', '"_nature":"nonsense"')
    bad.save(update_fields=["payload"])
    sandbox.fail_next(Fault.drop_after())
    relay(context, 1)
    a_day_later(sandbox, clock)
    relay(context, 1)
    bad.refresh_from_db()
    assert bad.state == "rejected"
    assert "_nature" in bad.rejections.get().message
    assert len(posts(sandbox)) == 1


@pytest.mark.parametrize("theirs", ["other count", "other time", "two alike"])
def test_what_is_not_clearly_ours_is_not_believed(context, alias, sandbox, clock, theirs):
    fault = Fault.drop_after() if theirs == "two alike" else Fault.drop_before()
    doubt(context, alias, sandbox, fault)
    if theirs == "other time":
        clock.move(3_600)
    of_somebody_else(sandbox, 4 if theirs == "other count" else 3)
    a_day_later(sandbox, clock)
    relay(context, 1)
    keys = [arrival.idempotency_key for arrival in posts(sandbox) if arrival.idempotency_key]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert the_batch(alias).state == BatchState.ACCEPTED


def test_of_two_in_doubt_that_look_alike_none_is_believed(context, alias, sandbox, clock):
    enqueue(alias, *range(3))
    outbox.enqueue_many((record(f"o-{n}", _product_id="prod-other") for n in range(3)), using=alias)
    sandbox.fail_next(Fault.drop_after())
    relay(context, 1)
    clock.move(0.1)
    OutboxWorkspace.objects.using(alias).update(state=WorkspaceState.ACTIVE, blocked_until=None)
    sandbox.fail_next(Fault.drop_before())
    OutboxBatch.objects.using(alias).update(due_at=clock.at.replace(year=2027))
    relay(context, 1)
    OutboxBatch.objects.using(alias).update(due_at=clock.at)
    assert OutboxBatch.objects.using(alias).filter(state=BatchState.IN_DOUBT).count() == 2
    a_day_later(sandbox, clock)
    relay(context, 60)
    assert len(posts(sandbox)) == 4
    assert {batch.state for batch in OutboxBatch.objects.using(alias)} == {BatchState.ACCEPTED}


def test_it_is_found_on_a_later_page(context, alias, sandbox, clock):
    doubt(context, alias, sandbox, Fault.drop_after())
    clock.move(600)
    for _ in range(120):
        of_somebody_else(sandbox, 1)
    a_day_later(sandbox, clock)
    relay(context, 1)
    assert len(reads(sandbox)) == 2
    assert the_batch(alias).state == BatchState.ACCEPTED
    assert len([a for a in posts(sandbox) if a.idempotency_key]) == 1


def test_the_listing_is_read_within_bounds(context, alias, sandbox, clock, monkeypatch):
    monkeypatch.setattr(lookup, "PAGES", 1)
    doubt(context, alias, sandbox, Fault.drop_after())
    clock.move(600)
    for _ in range(120):
        of_somebody_else(sandbox, 1)
    a_day_later(sandbox, clock)
    relay(context, 1)
    assert len(reads(sandbox)) == 1
    assert len([a for a in posts(sandbox) if a.idempotency_key]) == 2


@pytest.mark.parametrize(
    "fault",
    [Fault.server_error(on="GET"), Fault(status=200, body="<html>", on="GET")],
    ids=["500", "garbage"],
)
def test_while_the_listing_cannot_be_read_it_waits(context, alias, sandbox, clock, fault):
    doubt(context, alias, sandbox, Fault.drop_after())
    a_day_later(sandbox, clock)
    sandbox.fail_next(fault)
    relay(context, 1)
    assert the_batch(alias).state == BatchState.IN_DOUBT
    assert len(posts(sandbox)) == 1
    clock.move(context.settings.backoff_cap)
    relay(context, 1)
    assert the_batch(alias).state == BatchState.ACCEPTED
    assert len(posts(sandbox)) == 1


def test_a_key_that_may_not_read_sends_again(context, alias, sandbox, clock):
    doubt(context, alias, sandbox, Fault.drop_after())
    sandbox.set_key("em_sk_sandbox", {"api:write"})
    a_day_later(sandbox, clock)
    relay(context, 1)
    assert len(posts(sandbox)) == 2
    assert the_batch(alias).state == BatchState.ACCEPTED


def test_a_lookup_whose_lease_was_taken_over_changes_nothing(context, alias, sandbox, clock):
    from evermuse_outbox.delivery.loop import send
    from evermuse_outbox.delivery.sending import lease_due

    doubt(context, alias, sandbox, Fault.drop_after())
    a_day_later(sandbox, clock)
    sealed = lease_due(context)
    OutboxBatch.objects.using(alias).update(lease_token="00000000-0000-0000-0000-000000000001")
    send(context, sealed)
    assert (the_batch(alias).state, len(posts(sandbox)), reads(sandbox)) == (BatchState.SENDING, 1, [])


def test_a_batch_of_ours_that_is_under_way_is_not_taken_for_another(context, alias, sandbox, clock):
    from evermuse_outbox.delivery.loop import seal_next, send
    from evermuse_outbox.delivery.sending import lease_due, post

    doubt(context, alias, sandbox, Fault.server_error())
    clock.move(DAY - 100)
    sandbox.fail_next(Fault.server_error())
    relay(context, 1)
    clock.move(170)
    outbox.enqueue_many((record(f"o-{n}") for n in range(3)), using=alias)
    post(context, seal_next(context), "permit")  # Evermuse has it, and its answer is not settled yet
    sealed = lease_due(context)
    send(context, sealed)
    assert len(sandbox.records()) == 6
    assert the_batch(alias).remote_id == sandbox.batches()[1].id


def test_a_batch_of_ours_that_was_purged_is_not_taken_for_another(
    context, alias, sandbox, clock, outbox_settings
):
    from evermuse_outbox.upkeep.purge import purge

    given = {"API_URL": sandbox.url, "API_KEY": "em_sk_sandbox", "DATABASES": [alias]}
    outbox_settings(**given, RETENTION_DAYS=1)
    context = dataclasses.replace(context, settings=get_settings())
    doubt(context, alias, sandbox, Fault.server_error())
    OutboxBatch.objects.using(alias).update(due_at=clock.at.replace(year=2027))
    OutboxWorkspace.objects.using(alias).update(state=WorkspaceState.ACTIVE, blocked_until=None)
    outbox.enqueue_many((record(f"o-{n}") for n in range(3)), using=alias)
    relay(context, 5)
    clock.move(10)
    poll(context, 5)
    clock.move(DAY + 60)
    assert purge(alias, context.clock, 1) == 3
    OutboxBatch.objects.using(alias).update(due_at=clock.at)
    relay(context, 5)
    assert len(sandbox.records()) == 6
    assert the_batch(alias).remote_id == sandbox.batches()[1].id


def test_a_lookup_that_fails_gives_the_batch_back(context, alias, sandbox, clock):
    from evermuse_outbox.delivery.loop import send
    from evermuse_outbox.delivery.sending import lease_due
    from evermuse_outbox.ratelimit import ThrottleUnavailable

    def down(patience):
        raise ThrottleUnavailable("down")

    doubt(context, alias, sandbox, Fault.drop_after())
    a_day_later(sandbox, clock)
    context.throttle.reserve = down
    with pytest.raises(ThrottleUnavailable):
        send(context, lease_due(context))
    assert the_batch(alias).state == BatchState.IN_DOUBT
