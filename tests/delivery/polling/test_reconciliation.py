"""Reconciliation: a batch that is in doubt for long is accepted only if the listing proves that Evermuse has it."""

from __future__ import annotations

import dataclasses
import json

import pytest
import requests

from evermuse_outbox import outbox
from evermuse_outbox.conf import get_settings
from evermuse_outbox.delivery.loop import poll, relay, seal_next, send
from evermuse_outbox.delivery.polling import reconciliation
from evermuse_outbox.delivery.sending import lease_due, post
from evermuse_outbox.models import (
    BatchState,
    OutboxAttempt,
    OutboxBatch,
    OutboxRecord,
    OutboxWorkspace,
    WorkspaceState,
)
from evermuse_outbox.ratelimit import ThrottleUnavailable
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.upkeep import purge_old_rows, rescue_batches
from tests.records import enqueue, record, store_line

DAY = 86_400


@pytest.fixture
def context(context, alias, sandbox, outbox_settings, reopen):
    """Return a context with settings that name this database alone."""
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", DATABASES=[alias])
    return dataclasses.replace(context, settings=get_settings())


def posts(sandbox):
    return [arrival for arrival in sandbox.arrivals if arrival.method == "POST"]


def reads(sandbox):
    return [arrival for arrival in sandbox.arrivals if arrival.method == "GET"]


def first_batch(alias):
    return OutboxBatch.objects.using(alias).order_by("pk").first()


def leave_in_doubt(context, alias, sandbox, fault, count=3, **changes):
    """Send a batch that gets an unclear answer."""
    enqueue(alias, *range(count), **changes)
    sandbox.fail_next(fault)
    relay(context, 1)
    assert OutboxBatch.objects.using(alias).filter(state=BatchState.IN_DOUBT).exists()


def post_as_other_client(sandbox, count=3):
    """Send a batch as another client of the same workspace."""
    lines = "\n".join(json.dumps(record(f"theirs-{n}")) for n in range(count))
    headers = {"x-api-key": "em_sk_sandbox", "Content-Type": "application/x-ndjson"}
    answer = requests.post(f"{sandbox.url}/api/v1/ingest", data=lines, headers=headers, timeout=10)
    assert answer.status_code == 202


def pass_a_day(sandbox, clock):
    sandbox.forget_idempotency_keys()
    clock.move(DAY + 60)


@pytest.mark.parametrize("fault", [Fault.drop_after(), Fault.garbage()], ids=["no answer", "garbage"])
def test_a_listed_batch_is_accepted_and_not_sent_again(context, alias, sandbox, clock, fault):
    leave_in_doubt(context, alias, sandbox, fault)
    pass_a_day(sandbox, clock)
    relay(context, 1)
    batch = first_batch(alias)
    assert (batch.state, batch.in_doubt) == (BatchState.ACCEPTED, False)
    assert batch.remote_id == sandbox.batches()[0].id
    assert len(posts(sandbox)) == 1
    attempt = OutboxAttempt.objects.using(alias).filter(batch=batch).last()
    assert (attempt.call, attempt.outcome) == ("listing", "accepted")
    assert batch.remote_id in attempt.detail
    clock.move(5)
    poll(context, 60)
    assert set(OutboxRecord.objects.using(alias).values_list("state", flat=True)) == {"delivered"}


def test_an_unlisted_batch_is_sent_again_with_the_same_key(context, alias, sandbox, clock):
    leave_in_doubt(context, alias, sandbox, Fault.drop_before())
    pass_a_day(sandbox, clock)
    relay(context, 1)
    assert first_batch(alias).state == BatchState.ACCEPTED
    assert len({arrival.idempotency_key for arrival in posts(sandbox)}) == 1
    assert [stored.times for stored in sandbox.records()] == [1] * 3


def test_while_the_key_is_remembered_the_listing_is_not_read(context, alias, sandbox, clock):
    leave_in_doubt(context, alias, sandbox, Fault.drop_after())
    clock.move(DAY - 60)
    relay(context, 1)
    assert reads(sandbox) == []
    assert posts(sandbox)[1].replayed


def test_the_time_is_a_setting(context, alias, sandbox, clock, outbox_settings, reopen):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", DATABASES=[alias], IDEMPOTENCY_KEY_TTL=60)
    leave_in_doubt(reopen(), alias, sandbox, Fault.drop_after())
    sandbox.forget_idempotency_keys()
    clock.move(120)
    relay(reopen(), 1)
    assert len(posts(sandbox)) == 1


def test_a_lost_worker_leaves_a_batch_in_doubt(context, alias, sandbox, clock):
    enqueue(alias, *range(3))
    sealed = seal_next(context)
    post(context, sealed, "permit")
    clock.move(DAY + 60)
    rescue_batches(alias, context.clock)
    sandbox.forget_idempotency_keys()
    relay(context, 1)
    assert first_batch(alias).remote_id == sandbox.batches()[0].id
    assert len(posts(sandbox)) == 1


def test_rejected_records_are_located_in_the_listing(context, alias, sandbox, clock):
    enqueue(alias, *range(3))
    bad = OutboxRecord.rows.using(alias).first()
    store_line(bad, bad.payload.replace('"_nature":"evidence"', '"_nature":"nonsense"'))
    sandbox.fail_next(Fault.drop_after())
    relay(context, 1)
    pass_a_day(sandbox, clock)
    relay(context, 1)
    bad.refresh_from_db()
    assert bad.state == "rejected"
    assert "_nature" in bad.rejections.get().message
    assert len(posts(sandbox)) == 1


@pytest.mark.parametrize("theirs", ["other count", "other time", "two alike"])
def test_a_batch_that_is_not_clearly_ours_is_not_accepted(context, alias, sandbox, clock, theirs):
    fault = Fault.drop_after() if theirs == "two alike" else Fault.drop_before()
    leave_in_doubt(context, alias, sandbox, fault)
    if theirs == "other time":
        clock.move(3_600)
    post_as_other_client(sandbox, 4 if theirs == "other count" else 3)
    pass_a_day(sandbox, clock)
    relay(context, 1)
    keys = [arrival.idempotency_key for arrival in posts(sandbox) if arrival.idempotency_key]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert first_batch(alias).state == BatchState.ACCEPTED


def test_two_batches_in_doubt_of_the_same_size_are_sent_again(context, alias, sandbox, clock):
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
    pass_a_day(sandbox, clock)
    relay(context, 60)
    assert len(posts(sandbox)) == 4
    assert {batch.state for batch in OutboxBatch.objects.using(alias)} == {BatchState.ACCEPTED}


def test_a_later_page_is_read(context, alias, sandbox, clock):
    leave_in_doubt(context, alias, sandbox, Fault.drop_after())
    clock.move(600)
    for _ in range(120):
        post_as_other_client(sandbox, 1)
    pass_a_day(sandbox, clock)
    relay(context, 1)
    assert len(reads(sandbox)) == 2
    assert first_batch(alias).state == BatchState.ACCEPTED
    assert len([a for a in posts(sandbox) if a.idempotency_key]) == 1


def test_the_number_of_pages_is_limited(context, alias, sandbox, clock, monkeypatch):
    monkeypatch.setattr(reconciliation, "MAX_PAGES", 1)
    leave_in_doubt(context, alias, sandbox, Fault.drop_after())
    clock.move(600)
    for _ in range(120):
        post_as_other_client(sandbox, 1)
    pass_a_day(sandbox, clock)
    relay(context, 1)
    assert len(reads(sandbox)) == 1
    assert len([a for a in posts(sandbox) if a.idempotency_key]) == 2


@pytest.mark.parametrize(
    "fault",
    [Fault.server_error(on="GET"), Fault(status=200, body="<html>", on="GET")],
    ids=["500", "garbage"],
)
def test_a_failed_listing_is_read_again_later(context, alias, sandbox, clock, fault):
    leave_in_doubt(context, alias, sandbox, Fault.drop_after())
    pass_a_day(sandbox, clock)
    sandbox.fail_next(fault)
    relay(context, 1)
    assert first_batch(alias).state == BatchState.IN_DOUBT
    assert len(posts(sandbox)) == 1
    clock.move(context.settings.backoff_cap)
    relay(context, 1)
    assert first_batch(alias).state == BatchState.ACCEPTED
    assert len(posts(sandbox)) == 1


def test_if_the_listing_fails_for_hours_the_batch_is_sent_again_with_its_key(context, alias, sandbox, clock):
    leave_in_doubt(context, alias, sandbox, Fault.drop_after())
    pass_a_day(sandbox, clock)
    sandbox.fail_next(Fault.server_error(on="GET"), count=None)
    for _ in range(5):
        relay(context, 1)
        clock.move(3600)
    assert len(posts(sandbox)) == 1
    for _ in range(3):
        clock.move(3600)
        relay(context, 1)
    assert len(posts(sandbox)) == 2
    assert len({arrival.idempotency_key for arrival in posts(sandbox)}) == 1
    assert first_batch(alias).state == BatchState.ACCEPTED


def test_with_a_write_only_key_the_batch_is_sent_again(context, alias, sandbox, clock):
    leave_in_doubt(context, alias, sandbox, Fault.drop_after())
    sandbox.set_key("em_sk_sandbox", {"api:write"})
    pass_a_day(sandbox, clock)
    relay(context, 1)
    assert len(posts(sandbox)) == 2
    assert first_batch(alias).state == BatchState.ACCEPTED


def test_after_a_lost_lease_nothing_is_read_or_changed(context, alias, sandbox, clock):
    leave_in_doubt(context, alias, sandbox, Fault.drop_after())
    pass_a_day(sandbox, clock)
    sealed = lease_due(context)
    OutboxBatch.objects.using(alias).update(lease_token="00000000-0000-0000-0000-000000000001")
    send(context, sealed)
    assert (first_batch(alias).state, len(posts(sandbox)), reads(sandbox)) == (BatchState.SENDING, 1, [])


def test_a_batch_of_ours_in_flight_is_not_taken_for_another(context, alias, sandbox, clock):
    leave_in_doubt(context, alias, sandbox, Fault.server_error())
    clock.move(DAY - 100)
    sandbox.fail_next(Fault.server_error())
    relay(context, 1)
    clock.move(170)
    outbox.enqueue_many((record(f"o-{n}") for n in range(3)), using=alias)
    post(context, seal_next(context), "permit")  # Evermuse has it, and its answer is not settled yet
    sealed = lease_due(context)
    send(context, sealed)
    assert len(sandbox.records()) == 6
    assert first_batch(alias).remote_id == sandbox.batches()[1].id


def test_a_purged_batch_of_ours_is_not_taken_for_another(context, alias, sandbox, clock, outbox_settings):
    given = {"API_URL": sandbox.url, "API_KEY": "em_sk_sandbox", "DATABASES": [alias]}
    outbox_settings(**given, RETENTION_DAYS=1)
    context = dataclasses.replace(context, settings=get_settings())
    leave_in_doubt(context, alias, sandbox, Fault.server_error())
    OutboxBatch.objects.using(alias).update(due_at=clock.at.replace(year=2027))
    OutboxWorkspace.objects.using(alias).update(state=WorkspaceState.ACTIVE, blocked_until=None)
    outbox.enqueue_many((record(f"o-{n}") for n in range(3)), using=alias)
    relay(context, 5)
    clock.move(10)
    poll(context, 5)
    clock.move(DAY + 60)
    assert purge_old_rows(alias, context.clock, 1) == 3
    OutboxBatch.objects.using(alias).update(due_at=clock.at)
    relay(context, 5)
    assert len(sandbox.records()) == 6
    assert first_batch(alias).remote_id == sandbox.batches()[1].id


def test_after_an_error_the_batch_is_given_back(context, alias, sandbox, clock):
    def down(patience):
        raise ThrottleUnavailable("down")

    leave_in_doubt(context, alias, sandbox, Fault.drop_after())
    pass_a_day(sandbox, clock)
    context.throttle.reserve = down
    with pytest.raises(ThrottleUnavailable):
        send(context, lease_due(context))
    assert first_batch(alias).state == BatchState.IN_DOUBT
