"""Several keys of one workspace: which key sends what, a key that is refused or removed, and what a listing shows."""

from __future__ import annotations

import dataclasses
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from evermuse_outbox.delivery.context import context as contexts
from evermuse_outbox.delivery.context import open_context
from evermuse_outbox.delivery.gates import keys
from evermuse_outbox.delivery.loop import Step, poll, relay, seal_next, send_next
from evermuse_outbox.delivery.polling import is_database_known, poll_due_batch, read_budget
from evermuse_outbox.delivery.sending import lease_due
from evermuse_outbox.insight import explain_record
from evermuse_outbox.models import (
    BatchState,
    KeyBlock,
    KeyPool,
    OutboxBatch,
    OutboxRecord,
    OutboxWorkspace,
    block_key,
    move_block,
)
from evermuse_outbox.operations import resume_workspace
from evermuse_outbox.ratelimit import key_fingerprint
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.upkeep import rescue_batches
from tests.conftest import FreeThrottle
from tests.delivery.helpers import batches, posts, workspace
from tests.records import enqueue

A, B, C = "em_sk_sandbox_a", "em_sk_sandbox_b", "em_sk_sandbox_c"


class PoolOfKeys:
    """The sandbox with its keys, a free throttle for each, and a context that is opened as a worker opens it."""

    def __init__(self, context, sandbox, clock, change):
        self.context, self.sandbox, self.clock, self._change = context, sandbox, clock, change
        self.throttles = {}

    def use(self, *names):
        for name in names:
            if name not in self.throttles:
                self.sandbox.set_key(name, {"api:write", "api:read"})
        self._change(
            API_URL=self.sandbox.url,
            API_KEY=names[0],
            API_KEYS=list(names[1:]),
            DATABASES=[self.context.using],
        )
        for name in names:
            self.throttles.setdefault(name, FreeThrottle())
        return self.open()

    def open(self):
        fresh = open_context(self.context.using, "default")
        return dataclasses.replace(fresh, clock=self.context.clock)

    def fingerprint(self, name):
        return key_fingerprint(self.sandbox.url, name)

    def throttle(self, workspace, settings):
        return self.throttles[workspace.api_key.reveal()]

    def run(self, seconds=61):
        self.clock.move(seconds)
        context = self.open()
        relay(context, 15)
        return context

    def blocks(self):
        return KeyPool.of(workspace(self.context.using)).blocks


@pytest.fixture
def pool(context, sandbox, clock, outbox_settings, monkeypatch):
    made = PoolOfKeys(context, sandbox, clock, outbox_settings)
    monkeypatch.setattr(contexts, "open_throttle", made.throttle)
    monkeypatch.setattr(keys.random, "shuffle", lambda items: None)
    return made


def sent_with(sandbox):
    return [arrival.key for arrival in posts(sandbox)]


def lose_answer(sandbox):
    """Let the sandbox process the next POST and close the connection without an answer."""
    sandbox.fail_next(Fault.drop_after())


def test_the_key_with_the_free_permit_sends_and_the_batch_is_bound_before_its_post(pool, alias, sandbox):
    context = pool.use(A, B)
    pool.throttles[A].wait = lambda: 0.2
    enqueue(alias, 1)
    assert send_next(context) is Step.SENT
    assert sent_with(sandbox) == [B]
    assert [batch.api_key for batch in batches(alias)] == [pool.fingerprint(B)]
    assert pool.throttles[A].slots == 0


def test_a_key_is_crowded_only_if_every_key_is(pool, alias, sandbox):
    context = pool.use(A, B)
    enqueue(alias, 1)
    for throttle in pool.throttles.values():
        throttle.wait = lambda: 60.0
    assert send_next(context) is Step.CROWDED
    pool.throttles[B].wait = lambda: 0.0
    assert send_next(context) is Step.SENT


def test_a_retry_uses_the_same_key_also_if_another_one_is_free_first(pool, alias, sandbox, clock):
    sandbox.set_scopes(idempotency="key")
    context = pool.use(A, B)
    enqueue(alias, 1)
    lose_answer(sandbox)
    assert send_next(context) is Step.SENT
    assert batches(alias)[0].state == BatchState.IN_DOUBT
    pool.throttles[A].wait = lambda: 0.2
    pool.run()
    assert sent_with(sandbox) == [A, A]
    assert [arrival.replayed for arrival in posts(sandbox)] == [False, True]
    assert batches(alias)[0].state == BatchState.ACCEPTED


def test_a_worker_that_dies_after_the_lease_leaves_the_batch_to_the_same_key(pool, alias, sandbox, clock):
    context = pool.use(A, B)
    enqueue(alias, 1)
    seal_next(context)  # leased for its first POST, and the process ends here
    clock.move(10_000)
    rescue_batches(alias, context.clock)
    assert (batches(alias)[0].in_doubt, batches(alias)[0].api_key) == (True, pool.fingerprint(A))
    pool.throttles[A].wait = lambda: 0.2
    pool.run(0)
    assert sent_with(sandbox) == [A]


@pytest.mark.parametrize("listing", ["workspace", "key"])
def test_a_batch_in_doubt_whose_key_is_gone_is_looked_for_before_another_key_sends_it(
    pool, alias, sandbox, clock, listing
):
    sandbox.set_scopes(listing=listing, idempotency="key")
    context = pool.use(A, B)
    enqueue(alias, 1)
    lose_answer(sandbox)
    send_next(context)
    pool.use(B, C)
    pool.run(61)
    assert sent_with(sandbox) == [A]  # it waits: processes with the former settings may still run
    assert batches(alias)[0].state == BatchState.IN_DOUBT
    pool.run(keys.KEY_PATIENCE.total_seconds())
    (batch,) = batches(alias)
    assert batch.state == BatchState.ACCEPTED
    reads = [arrival for arrival in sandbox.arrivals if arrival.method == "GET"]
    assert reads
    assert {arrival.key for arrival in reads} == {B}
    # If the listing shows only the batches of its key, the same version of the record is stored again over itself.
    assert sent_with(sandbox) == ([A] if listing == "workspace" else [A, B])
    assert batch.api_key == pool.fingerprint(A if listing == "workspace" else B)
    assert len(sandbox.records()) == 1


@pytest.mark.parametrize("former", [(A,), (A, B)], ids=["rotation", "rolling-deployment"])
def test_a_process_with_one_key_leaves_a_batch_in_doubt_to_its_key_first(pool, alias, sandbox, clock, former):
    sandbox.set_scopes(listing="key", idempotency="key")
    context = pool.use(*former)
    enqueue(alias, 1)
    lose_answer(sandbox)
    send_next(context)
    pool.use(C)
    pool.run(61)
    assert sent_with(sandbox) == [A]  # processes with the former settings may still run
    text = explain_record(OutboxRecord.objects.using(alias).get())
    assert pool.fingerprint(A)[:8] in text
    assert "sent with another key" in text
    pool.run(keys.KEY_PATIENCE.total_seconds())
    assert sent_with(sandbox) == [A, C]
    assert batches(alias)[0].state == BatchState.ACCEPTED
    assert batches(alias)[0].api_key == pool.fingerprint(C)


def test_a_process_with_one_key_sends_what_cannot_be_at_evermuse_at_once(pool, alias, sandbox):
    context = pool.use(A, B)
    enqueue(alias, 1)
    seal_next(context)
    rows = OutboxBatch.objects.using(alias)
    rows.update(state="sealed", lease_token=None, leased_until=None)
    pool.use(C)
    pool.run(0)
    assert sent_with(sandbox) == [C]


def test_one_key_sends_a_batch_in_doubt_of_an_earlier_version_at_once(pool, alias, sandbox):
    context = pool.use(A)
    enqueue(alias, 1)
    lose_answer(sandbox)
    send_next(context)
    OutboxBatch.objects.using(alias).update(api_key=None)
    assert "sent with another key" not in explain_record(OutboxRecord.objects.using(alias).get())
    pool.run()
    assert sent_with(sandbox) == [A, A]


def test_a_newer_version_waits_for_a_batch_in_doubt_of_a_slow_key(pool, alias, sandbox, clock):
    sandbox.set_scopes(listing="key", idempotency="key")
    context = pool.use(A, B)
    enqueue(alias, 1, data={"text": "old"})
    lose_answer(sandbox)
    send_next(context)
    pool.throttles[A].blocked_for = 30.0
    enqueue(alias, 1, data={"text": "new"})
    enqueue(alias, 2)
    pool.run(61)
    assert sent_with(sandbox) == [A, B]  # the other record, with the other key
    pool.throttles[A].blocked_for = 0.0
    for _ in range(6):
        context = pool.run(61)
        poll(context, 5)
    stored = {record.record["_vendor_ids"]["message_id"]: record.record for record in sandbox.records()}
    assert stored["msg-1"]["data"] == {"text": "new"}
    assert set(OutboxRecord.objects.using(alias).values_list("batch__state", flat=True)) == {"complete"}


def test_a_revoked_key_takes_only_itself_out_and_comes_back_by_a_probe(pool, alias, sandbox, clock):
    context = pool.use(A, B)
    sandbox.remove_key(A)
    for number in range(8):
        enqueue(alias, number, _product_id=f"prod-{number}")
    for _ in range(4):
        pool.run(30)
    pool.run(3)  # the batch that was the last probe
    assert workspace(alias).state == "active"
    block = pool.blocks()[pool.fingerprint(A)]
    assert block.kind == "refused"
    assert "401" in block.reason
    assert list(pool.blocks()) == [pool.fingerprint(A)]
    assert set(OutboxRecord.objects.using(alias).values_list("batch__state", flat=True)) == {"accepted"}
    assert {arrival.status for arrival in posts(sandbox) if arrival.key == B} == {202}
    sandbox.set_key(A, {"api:write", "api:read"})
    for number in range(20, 24):
        enqueue(alias, number)
        pool.run(61)
    assert pool.blocks() == {}
    assert sent_with(sandbox)[-1] == A
    assert context.pool


def test_one_refused_batch_blocks_its_key_only_for_a_moment(pool, alias, sandbox, clock):
    context = pool.use(A, B)
    enqueue(alias, 1)
    sandbox.fail_next(status=403)
    send_next(context)
    block = pool.blocks()[pool.fingerprint(A)]
    assert block.until - clock.at.timestamp() < 10
    pool.run(61)
    assert batches(alias)[0].state == BatchState.ACCEPTED


def test_without_any_usable_key_the_workspace_is_paused_and_goes_on_by_itself(pool, alias, sandbox, clock):
    pool.use(A, B)
    sandbox.remove_key(A)
    sandbox.remove_key(B)
    for number in range(6):
        enqueue(alias, number, _product_id=f"prod-{number}")
    for _ in range(6):
        pool.run(5)
    row = workspace(alias)
    assert row.state == "paused"
    assert "None of 2 API keys can be used" in row.reason
    for key in (A, B):
        sandbox.set_key(key, {"api:write", "api:read"})
    for _ in range(6):
        pool.run(61)
    assert workspace(alias).state == "active"
    assert set(OutboxRecord.objects.using(alias).values_list("batch__state", flat=True)) == {"accepted"}


def test_a_429_concerns_its_key_and_a_402_the_workspace(pool, alias, sandbox, clock):
    context = pool.use(A, B)
    enqueue(alias, 1)
    sandbox.fail_next(status=429, retry_after=30)
    send_next(context)
    assert workspace(alias).state == "active"
    assert pool.blocks()[pool.fingerprint(A)].kind == "throttled"
    assert pool.throttles[A].blocked_for == 30
    enqueue(alias, 2, _type="email")
    pool.run(1)
    assert sent_with(sandbox)[1:] == [B] * (len(sent_with(sandbox)) - 1)
    assert batches(alias)[1].state == BatchState.ACCEPTED
    for number in (3, 4, 5):
        enqueue(alias, number, _product_id=f"prod-{number}")
    sandbox.fail_next(status=402, count=3)
    pool.run(1)
    assert workspace(alias).state == "no_credits"


def test_a_person_ends_the_block_of_a_key(pool, alias, sandbox, clock, context):
    pool.use(A, B)
    sandbox.remove_key(A)
    for number in range(4):
        enqueue(alias, number, _product_id=f"prod-{number}")
    pool.run()
    pool.run()
    assert pool.blocks()
    assert resume_workspace(alias, "default", by="ann", reason="new key", clock=context.clock)
    assert pool.blocks() == {}


@pytest.mark.parametrize("listing", ["workspace", "key"])
def test_each_batch_is_followed_to_its_end_whatever_a_listing_shows(pool, alias, sandbox, clock, listing):
    sandbox.set_scopes(listing=listing)
    context = pool.use(A, B)
    for number in range(6):
        pool.throttles[A].wait = (lambda: 0.2) if number % 2 else (lambda: 0.0)
        enqueue(alias, number, _product_id=f"prod-{number}")
        assert send_next(context) is Step.SENT
    assert Counter(sent_with(sandbox)) == {A: 3, B: 3}
    clock.move(10)
    for _ in range(6):
        poll(pool.open(), 5)
        clock.move(10)
    assert {batch.state for batch in batches(alias)} == {BatchState.COMPLETE}
    reads = [arrival for arrival in sandbox.arrivals if arrival.method == "GET"]
    assert len(reads) == (1 if listing == "workspace" else 2)
    assert {arrival.path for arrival in reads} == {"/api/v1/ingest/batches"}
    assert KeyPool.of(workspace(alias)).lists_all is (listing == "workspace")


@pytest.mark.parametrize("listing", ["workspace", "key"])
def test_a_batch_of_a_removed_key_is_followed_with_another_one(pool, alias, sandbox, clock, listing):
    sandbox.set_scopes(listing=listing)
    context = pool.use(A, B)
    enqueue(alias, 1)
    send_next(context)
    pool.use(B)
    sandbox.remove_key(A)
    for _ in range(30):
        clock.move(60)
        poll(pool.open(), 5)
    assert {batch.state for batch in batches(alias)} == {BatchState.COMPLETE}


def test_one_key_has_no_pool(context, alias, sandbox):
    assert context.pool == {}
    enqueue(alias, 1)
    send_next(context)
    assert workspace(alias).key_pool is None
    assert [batch.api_key for batch in batches(alias)] == [context.key_fingerprint]


def test_a_batch_of_an_earlier_version_is_sent_with_any_key_unless_it_is_in_doubt(pool, alias, clock):
    context = pool.use(A, B)
    enqueue(alias, 1)
    seal_next(context)
    rows = OutboxBatch.objects.using(alias)
    rows.update(api_key=None, state="sealed", lease_token=None, leased_until=None)
    assert lease_due(context.with_key(pool.fingerprint(B))) is not None
    now = context.clock.now()
    rows.update(
        api_key=None, state="in_doubt", in_doubt=True, lease_token=None, leased_until=None, due_at=now
    )
    assert lease_due(context) is None
    rows.update(due_at=now - keys.KEY_PATIENCE - timedelta(seconds=1))
    assert lease_due(context) is not None


def test_two_processes_that_read_the_same_block_make_one_probe(alias):
    rows = OutboxWorkspace.objects.using(alias)
    block_key(rows, "default", "a1b2", KeyBlock("refused", 100.0, 50.0, "HTTP 401"))
    assert move_block(rows, "default", "a1b2", 100.0, 200.0)
    assert not move_block(rows, "default", "a1b2", 100.0, 300.0)


def test_a_throttled_key_is_used_as_before_after_its_retry_after(pool, alias, sandbox, clock):
    context = pool.use(A, B)
    enqueue(alias, 1)
    sandbox.fail_next(status=429, retry_after=30)
    send_next(context)
    pool.throttles[A].blocked_for = 0.0
    enqueue(alias, 2)
    pool.run(61)
    assert sent_with(sandbox)[-1] == A
    assert pool.blocks() == {}


def test_a_send_without_a_block_of_its_key_does_not_lock_the_workspace(pool, alias):
    context = pool.use(A, B)
    rows = OutboxWorkspace.objects.using(alias)
    rows.ensure_row("default")
    rows.update(key_pool={"blocks": {}, "lists_all": True})
    enqueue(alias, 1)
    with CaptureQueriesContext(connections[alias]) as before:
        send_next(context)
    rows.update(key_pool=None)
    enqueue(alias, 2)
    with CaptureQueriesContext(connections[alias]) as after:
        send_next(context)
    assert len(before) == len(after)


def test_a_batch_without_a_known_key_proves_nothing_about_the_listing(pool, alias, sandbox, clock):
    sandbox.set_scopes(listing="key")
    context = pool.use(A, B)
    for number in range(3):
        enqueue(alias, number, _product_id=f"prod-{number}")
        assert send_next(context) is Step.SENT
    first = OutboxBatch.objects.using(alias).earliest("pk")
    OutboxBatch.objects.using(alias).filter(pk=first.pk).update(api_key=None)  # sent by an earlier version
    OutboxBatch.objects.using(alias).filter(pk=first.pk).update(next_poll_at=clock.at + timedelta(days=1))
    clock.move(10)
    poll(pool.open(), 5)
    assert not KeyPool.of(workspace(alias)).lists_all


def test_a_batch_in_doubt_does_not_wait_forever_for_a_refused_key_that_is_still_set(pool, alias, sandbox):
    context = pool.use(A, B)
    enqueue(alias, 1)
    lose_answer(sandbox)
    send_next(context)
    sandbox.remove_key(A)
    for _ in range(15):
        pool.run(61)
    assert batches(alias)[0].state == BatchState.ACCEPTED


def test_a_pool_of_which_one_key_is_readable_is_still_a_pool(pool, alias, sandbox, outbox_settings, tmp_path):
    pool.use(A, B)
    outbox_settings(API_URL=sandbox.url, API_KEY=A, API_KEYS=[tmp_path / "missing"], DATABASES=[alias])
    context = pool.open()
    enqueue(alias, 1)
    sandbox.fail_next(status=429, retry_after=30)
    send_next(context)
    assert workspace(alias).state == "active"  # processes that can read the other key go on
    assert list(pool.blocks()) == [pool.fingerprint(A)]


def test_the_question_whether_a_database_is_known_does_not_wait_for_a_blocked_key(pool, alias, sandbox):
    context = pool.use(A, B)
    rows = OutboxWorkspace.objects.using(alias)
    rows.ensure_row("default")
    rows.update(batch_count=1)
    now = context.clock.now().timestamp()
    block_key(rows, "default", pool.fingerprint(A), KeyBlock("throttled", now + 900, now, "HTTP 429"))
    pool.throttles[A].blocked_for = 900.0
    assert is_database_known(context)


def test_while_a_key_is_probed_the_workspace_is_not_paused_for_the_other_keys(pool, alias):
    context = pool.use(A, B)
    rows = OutboxWorkspace.objects.using(alias)
    rows.ensure_row("default")
    now = context.clock.now().timestamp()
    for name, until in ((A, now + 900), (B, now - 1)):
        block_key(rows, "default", pool.fingerprint(name), KeyBlock("throttled", until, now - 9, "HTTP 429"))
    assert move_block(rows, "default", pool.fingerprint(B), now - 1, now + 60)
    enqueue(alias, 1)
    assert send_next(context) is Step.BLOCKED
    # The success of the probe would not end the state throttled of the workspace.
    assert workspace(alias).state == "active"


@pytest.mark.parametrize("blocked", [(), (B, C)], ids=["all-keys", "one-key-left"])
def test_a_refused_key_earns_no_reads(pool, alias, clock, monkeypatch, blocked):
    monkeypatch.setattr(read_budget, "FEW_POLLED_BATCHES", 1)
    context = pool.use(A, B, C)
    enqueue(alias, 1)
    assert send_next(context) is Step.SENT
    enqueue(alias, 2)  # waits to be sent, so that reads have a budget
    rows, now = OutboxWorkspace.objects.using(alias), clock.at.timestamp()
    for name in blocked:
        block_key(rows, "default", pool.fingerprint(name), KeyBlock("refused", now + 900, now, "HTTP 401"))
    clock.move(10)
    started_at = context.clock.now()
    assert poll_due_batch(context)
    interval = (workspace(alias).next_read_at - started_at).total_seconds()
    usable = 3 - len(blocked)
    assert interval == pytest.approx(read_budget.SENDS_PER_READ / (10 * usable), abs=0.01)


def test_a_free_permit_of_a_refused_key_serves_no_read(pool, alias, sandbox, clock):
    context = pool.use(A, B)
    rows, now = OutboxWorkspace.objects.using(alias), clock.at.timestamp()
    rows.ensure_row("default")
    block_key(rows, "default", pool.fingerprint(B), KeyBlock("refused", now + 900, now, "HTTP 401"))
    pool.throttles[A].wait = lambda: 0.5
    enqueue(alias, 1)
    with read_budget.claim_read(context) as run:
        assert run.is_busy
