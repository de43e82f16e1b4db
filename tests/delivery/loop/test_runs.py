"""Relay runs: how long they last, and when they start more senders."""

from __future__ import annotations

import threading

import pytest

from evermuse_outbox.delivery.context import context as contexts
from evermuse_outbox.delivery.loop import SenderPool, relay, relay_run, relay_with_pool, runs, seal_next
from evermuse_outbox.delivery.sending import give_back
from evermuse_outbox.evermuse.api import client as clients
from evermuse_outbox.models import OutboxBatch
from evermuse_outbox.ratelimit import Admission, Reservation
from evermuse_outbox.sandbox import Fault
from tests.records import enqueue


class UnlimitedThrottle:
    """A throttle that gives every permit at once and records the names of the sending threads."""

    def __init__(self):
        self.senders = set()

    def wait(self):
        return 0.0

    def reserve(self, patience):
        return Reservation(0.0, taken=True)

    def acquire(self):
        self.senders.add(threading.current_thread().name)
        return Admission(0.0, "permit")

    def release(self, permit, *, is_comparable):
        pass


def test_a_relay_ends_when_its_time_is_up_but_not_during_a_batch(
    context, alias, sandbox, outbox_settings, reopen, clock
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=1)
    enqueue(alias, *range(5))
    context = reopen()
    context.throttle.acquire = lambda: clock.move(10) or Admission(0.0, "permit")
    assert relay(context, 15) == 2
    assert len(sandbox.records()) == 2


@pytest.mark.commits
def test_a_batch_that_is_due_is_sent_although_each_run_has_time_for_one_batch_only(
    context, alias, sandbox, outbox_settings, reopen, clock, monkeypatch
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=1, SENDERS=1)
    monkeypatch.setattr(SenderPool, "_pools", {})
    monkeypatch.setattr(runs, "is_database_known", lambda context: True)
    enqueue(alias, 1)
    give_back(context, seal_next(context))
    enqueue(alias, *range(2, 6))
    context = reopen()
    context.throttle.acquire = lambda: clock.move(10) or Admission(0.0, "permit")
    assert [relay_with_pool(context, 5) for _ in range(2)] == [1, 1]
    assert [stored.record["_vendor_ids"]["message_id"] for stored in sandbox.records()] == ["msg-2", "msg-1"]


@pytest.mark.commits
def test_after_a_wake_up_nothing_looks_for_work_first(context, alias, monkeypatch):
    monkeypatch.setattr(runs, "has_work", lambda _: pytest.fail("looked for work"))
    monkeypatch.setattr(SenderPool, "_pools", {})
    with relay_run(context, 5, is_needed=True) as run:
        pass
    assert run.sent == 0
    enqueue(alias, 1)
    with relay_run(context, 5, is_needed=True) as run:
        pass
    assert run.sent == 1


@pytest.mark.commits
@pytest.mark.parametrize("slow", [True, False])
def test_only_slow_answers_need_more_senders(context, alias, sandbox, outbox_settings, monkeypatch, slow):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=1, SENDERS=4)
    throttle = UnlimitedThrottle()
    monkeypatch.setattr(throttle, "wait", lambda: 0.0 if slow else 0.05)
    monkeypatch.setattr(contexts, "open_throttle", lambda workspace, settings: throttle)
    monkeypatch.setattr(SenderPool, "_pools", {})
    enqueue(alias, *range(12))
    if slow:
        sandbox.fail_next(Fault.slow(0.3), count=None)
    context = contexts.open_context(alias, "default")
    assert relay_with_pool(context, 60) == 12
    assert len(sandbox.records()) == 12
    assert {stored.times for stored in sandbox.records()} == {1}
    assert (2 <= len(throttle.senders) <= 4) if slow else len(throttle.senders) == 1
    # The next run starts with as many senders.
    assert SenderPool.of(context, relay)._last_size == len(throttle.senders) - 1
    assert set(OutboxBatch.objects.using(alias).values_list("state", flat=True)) == {"accepted"}


@pytest.mark.commits
def test_more_senders_start_before_the_first_answer_arrives(
    context, alias, sandbox, outbox_settings, monkeypatch
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=1, SENDERS=4)
    monkeypatch.setattr(contexts, "open_throttle", lambda workspace, settings: UnlimitedThrottle())
    monkeypatch.setattr(SenderPool, "_pools", {})
    enqueue(alias, *range(3))
    all_sending, request = threading.Barrier(3, timeout=30), clients._Session.request

    def request_when_all_send(*args, **kwargs):
        all_sending.wait()
        return request(*args, **kwargs)

    monkeypatch.setattr(clients._Session, "request", request_when_all_send)
    assert relay_with_pool(contexts.open_context(alias, "default"), 60) == 3
    assert {stored.times for stored in sandbox.records()} == {1}
