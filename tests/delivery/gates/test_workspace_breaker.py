"""The circuit breaker of a workspace: how long it stays open, one probe at a time, and that it closes by itself."""

from __future__ import annotations

import dataclasses
import random

import pytest

from evermuse_outbox.delivery.gates import (
    back_off,
    block_for_retry_after,
    resume_workspace,
    workspace_circuit,
)
from evermuse_outbox.delivery.gates.workspace_breaker import THROTTLE_RETRY
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.models import OutboxBatch, OutboxRecord, WorkspaceState
from evermuse_outbox.ratelimit import ThrottleUnavailable
from evermuse_outbox.sandbox import Fault
from tests.delivery.helpers import sent_keys, state_of, workspace
from tests.records import enqueue

HOUR = 3_600
"""Seconds."""


class Sender:
    """One of many senders at the same time. Each enters the circuit for itself."""

    def __init__(self, context):
        self._context, self._entered = context, workspace_circuit(context)
        self.circuit = self._entered.__enter__()

    def fail(self):
        back_off(self._context, "HTTP 503", self.circuit.failures)
        self._entered.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def fixed_seed():
    random.seed(3)


def blocked_seconds(alias, clock):
    """Return the seconds until the workspace may send again."""
    return (workspace(alias).blocked_until - clock.now()).total_seconds()


def test_requests_in_flight_at_the_same_time_count_as_one_failure(context, alias, clock):
    senders = [Sender(context) for _ in range(10)]
    assert all(sender.circuit.allows_requests for sender in senders)
    for sender in senders:
        sender.fail()
    assert workspace(alias).failures == 1
    assert blocked_seconds(alias, clock) <= context.settings.backoff_base


def test_each_failed_probe_makes_the_next_pause_longer(context, alias, clock):
    late = Sender(context)
    for failures in range(1, 4):
        Sender(context).fail()
        assert workspace(alias).failures == failures
        clock.move(context.settings.backoff_cap)
    # A request that was in flight all the time adds no failure.
    before = workspace(alias).blocked_until
    late.fail()
    assert (workspace(alias).failures, workspace(alias).blocked_until) == (3, before)


def test_a_failure_does_not_shorten_a_retry_after(context, alias, clock):
    late = Sender(context)
    block_for_retry_after(context, 60, "HTTP 429")
    late.fail()
    block_for_retry_after(context, 1, "HTTP 429")
    assert workspace(alias).state == WorkspaceState.THROTTLED
    assert blocked_seconds(alias, clock) == 60


def test_a_lost_throttle_backend_is_no_failure_of_the_api(context, alias, clock):
    for _ in range(5):
        with workspace_circuit(context) as circuit:
            assert circuit.allows_requests
            raise ThrottleUnavailable("Redis holds the rate limit and does not answer")
        clock.move(THROTTLE_RETRY)
    assert workspace(alias).failures == 0


@pytest.mark.parametrize("outage", ["refuses connections", "answers 503"])
def test_after_an_outage_of_six_hours_everything_is_delivered_without_help(
    context, alias, sandbox, clock, outage, outbox_settings, reopen
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=5, BACKOFF_CAP=1_200)
    context = reopen()
    enqueue(alias, *range(60))
    if outage == "refuses connections":
        sandbox.stop()
    else:
        sandbox.fail_next(Fault(status=503), count=None)
    outage_start, requests = clock.now(), 0
    while (clock.now() - outage_start).total_seconds() < 6 * HOUR:
        requests += relay(context, 60)
        clock.move(max(blocked_seconds(alias, clock), 1))
    # Pauses grow to the cap and are half of it on average; a few short ones come before that.
    assert requests < 2 * 6 * HOUR / context.settings.backoff_cap + 40
    assert OutboxRecord.rows.using(alias).rejected().count() == 0
    enqueue(alias, 0, data={"text": "the version after the outage"})

    sandbox.start()
    sandbox.clear_faults()
    outage_end = clock.now()
    while OutboxRecord.objects.using(alias).filter(state__in=["pending", "in_flight"]).exists():
        relay(context, 60)
        poll(context, 60)
        clock.move(10)
    assert (clock.now() - outage_end).total_seconds() < 3 * context.settings.backoff_cap
    assert (workspace(alias).state, workspace(alias).failures) == (WorkspaceState.ACTIVE, 0)
    assert len(sandbox.records()) == 60
    newest = sandbox.record("message", {"message_id": "msg-0"}, "2026-02-24T12:34:56Z")
    assert newest.record["data"]["text"] == "the version after the outage"
    assert not OutboxBatch.objects.using(alias).exclude(resends=0).exists()


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_api_key_pauses_the_workspace_until_it_works_again(context, alias, sandbox, clock, status):
    enqueue(alias, 1)
    if status == 401:
        sandbox.remove_key("em_sk_sandbox")
    else:
        sandbox.set_key("em_sk_sandbox", {"api:read"})
    relay(context, 1)
    assert workspace(alias).state == WorkspaceState.PAUSED
    enqueue(alias, 2)
    relay(context, 1)
    assert len(sent_keys(sandbox)) == 1

    sandbox.set_key("em_sk_sandbox", {"api:write", "api:read"})
    clock.move(61)
    relay(context, 60)
    assert workspace(alias).state == WorkspaceState.ACTIVE
    assert len(sandbox.records()) == 2


def test_without_an_api_key_nothing_is_sent_and_the_reason_is_stored(
    context, alias, sandbox, outbox_settings, reopen
):
    outbox_settings(API_URL=sandbox.url, API_KEY="")
    enqueue(alias, 1)
    relay(reopen(), 1)
    assert sandbox.arrivals == []
    assert "API_KEY" in workspace(alias).reason


def test_one_sender_at_a_time_probes_a_blocked_workspace(context, alias, sandbox, clock):
    enqueue(alias, 1)
    sandbox.fail_next(Fault.server_error())
    relay(context, 1)
    with workspace_circuit(context) as circuit:
        assert not circuit.allows_requests
    clock.move(context.settings.backoff_cap)
    with workspace_circuit(context) as first:
        assert first.probe_until
        with workspace_circuit(context) as second:
            assert not second.allows_requests
    # The probe brought no outcome, so the next caller may probe.
    with workspace_circuit(context) as third:
        assert third.probe_until


def test_without_the_throttle_backend_nothing_is_sent_and_the_reason_is_stored(
    context, alias, sandbox, clock
):
    class DeadThrottle:
        def wait(self):
            raise ThrottleUnavailable("Redis holds the rate limit and does not answer")

    (row,) = enqueue(alias, 1)
    assert relay(dataclasses.replace(context, throttle=DeadThrottle()), 1) == 0
    assert (state_of(row), sandbox.arrivals) == ("pending", [])
    assert workspace(alias).state == WorkspaceState.BACKING_OFF
    assert "Redis" in workspace(alias).reason
    clock.move(6)
    relay(context, 60)
    assert state_of(row) == "in_flight"
    assert workspace(alias).state == WorkspaceState.ACTIVE


def test_a_success_does_not_end_a_running_retry_after(context, alias, sandbox, clock):
    block_for_retry_after(context, 60, "HTTP 429")
    resume_workspace(context, by_send=True)
    assert workspace(alias).state == WorkspaceState.THROTTLED
    clock.move(61)
    resume_workspace(context, by_send=True)
    assert workspace(alias).state == WorkspaceState.ACTIVE
