"""Trouble of the API as a whole: how long it holds a workspace, and that it ends by itself."""

from __future__ import annotations

import random

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.delivery.gates import back_off, block_for_retry_after, workspace_circuit
from evermuse_outbox.delivery.gates.workspace_breaker import THROTTLE_RETRY
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.models import OutboxBatch, OutboxRecord, OutboxWorkspace, WorkspaceState
from evermuse_outbox.sandbox import Fault
from tests.records import record

HOURS = 3_600


class Sender:
    """One of many senders at the same time, each admitted by its own circuit."""

    def __init__(self, context):
        self._context, self._admission = context, workspace_circuit(context)
        self.circuit = self._admission.__enter__()

    def fails(self):
        back_off(self._context, "HTTP 503", self.circuit.failures)
        self._admission.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def same_dice():
    random.seed(3)


def workspace(alias):
    return OutboxWorkspace.objects.using(alias).get(pk="default")


def held_for(alias, clock):
    return (workspace(alias).blocked_until - clock.now()).total_seconds()


def test_requests_that_were_under_way_together_fail_as_one(context, alias, clock):
    senders = [Sender(context) for _ in range(10)]
    assert all(sender.circuit.allows_requests for sender in senders)
    for sender in senders:
        sender.fails()
    assert workspace(alias).failures == 1
    assert held_for(alias, clock) <= context.settings.backoff_base


def test_each_try_after_a_pause_that_fails_makes_the_next_one_longer(context, alias, clock):
    late = Sender(context)
    for failures in range(1, 4):
        Sender(context).fails()
        assert workspace(alias).failures == failures
        clock.move(context.settings.backoff_cap)
    # One that was under way all the time tells nothing new.
    before = workspace(alias).blocked_until
    late.fails()
    assert (workspace(alias).failures, workspace(alias).blocked_until) == (3, before)


def test_a_failure_does_not_shorten_a_retry_after(context, alias, clock):
    late = Sender(context)
    block_for_retry_after(context, 60, "HTTP 429")
    late.fails()
    block_for_retry_after(context, 1, "HTTP 429")
    assert workspace(alias).state == WorkspaceState.THROTTLED
    assert held_for(alias, clock) == 60


def test_who_keeps_the_pace_going_away_is_no_failure_of_the_api(context, alias, clock):
    from evermuse_outbox.ratelimit import ThrottleUnavailable

    for _ in range(5):
        with workspace_circuit(context) as circuit:
            assert circuit.allows_requests
            raise ThrottleUnavailable("Redis holds the rate limit and does not answer")
        clock.move(THROTTLE_RETRY)
    assert workspace(alias).failures == 0


@pytest.mark.parametrize("trouble", ["refuses connections", "answers 503"])
def test_after_six_hours_without_the_api_everything_flows_by_itself(
    context, alias, sandbox, clock, trouble, outbox_settings, reopen
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=5, BACKOFF_CAP=1_200)
    context = reopen()
    outbox.enqueue_many((record(number) for number in range(60)), using=alias)
    if trouble == "refuses connections":
        sandbox.stop()
    else:
        sandbox.fail_next(Fault(status=503), count=None)
    beginning, tries = clock.now(), 0
    while (clock.now() - beginning).total_seconds() < 6 * HOURS:
        tries += relay(context, 60)
        clock.move(max(held_for(alias, clock), 1))
    # Pauses grow to the cap and are half of it on average; a few short ones come before that.
    assert tries < 2 * 6 * HOURS / context.settings.backoff_cap + 40
    assert OutboxRecord.rows.using(alias).rejected().count() == 0
    outbox.enqueue(record(0, data={"text": "the version of after the outage"}), using=alias)

    sandbox.start()
    sandbox.clear_faults()
    beginning = clock.now()
    while OutboxRecord.objects.using(alias).filter(state__in=["pending", "in_flight"]).exists():
        relay(context, 60)
        poll(context, 60)
        clock.move(10)
    assert (clock.now() - beginning).total_seconds() < 3 * context.settings.backoff_cap
    assert (workspace(alias).state, workspace(alias).failures) == (WorkspaceState.ACTIVE, 0)
    assert len(sandbox.records()) == 60
    newest = sandbox.record("message", {"message_id": "msg-0"}, "2026-02-24T12:34:56Z")
    assert newest.record["data"]["text"] == "the version of after the outage"
    assert not OutboxBatch.objects.using(alias).exclude(resends=0).exists()
