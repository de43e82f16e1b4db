"""Bad records among good ones: each is isolated with its own message, in few requests, whatever the answer names."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
from django.db import transaction

from evermuse_outbox import outbox
from evermuse_outbox.delivery.context import open_context
from evermuse_outbox.delivery.isolation import Refusal, refuse_batch
from evermuse_outbox.delivery.loop import relay, seal_next, send_next
from evermuse_outbox.evermuse.api import Accepted, RecordError
from evermuse_outbox.models import (
    BatchState,
    GroupState,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxRejection,
    group_key,
)
from evermuse_outbox.sandbox import Fault, Sandbox
from tests.conftest import FreeThrottle
from tests.delivery.helpers import batches, deliver, posts, sent_keys, serve, settle_with, state_of
from tests.records import enqueue, record

ANSWERS = {
    "accepted in part, named": {},
    "refused, named in details": {"strict": True},
    "refused, named in errors": {"strict": True, "errors_in": "errors"},
    "accepted in part, not named": {"errors_in": "nowhere"},
    "refused, not named": {"strict": True, "errors_in": "nowhere"},
}
"""How Evermuse answers a batch with bad records: options of the sandbox."""


@pytest.fixture
def sqlite_context(clock):
    """Return a context on SQLite. One database is enough to count requests."""
    return dataclasses.replace(
        open_context("default", "default"), throttle=FreeThrottle(), clock=clock.clock()
    )


def states(alias):
    """Return the states of all records, the oldest first."""
    return list(OutboxRecord.objects.using(alias).order_by("pk").values_list("state", flat=True))


def expected_states(count, bad):
    """Return the states of ``count`` records after delivery. ``bad`` are positions."""
    return ["rejected" if position in bad else "delivered" for position in range(count)]


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("bad", [{3}, {0, 19}, {4, 5, 6, 11}, set(range(8))], ids=len)
def test_every_bad_record_is_rejected_and_every_good_one_delivered(context, alias, clock, answer, bad):
    rows = enqueue(alias, *range(20), invalid=bad)
    with serve(context, clock, **answer) as (context, sandbox):
        deliver(context, clock)
        assert states(alias) == expected_states(20, bad)
        assert len(sandbox.records()) == 20 - len(bad)
        assert sandbox.violations == []
    for position in bad:
        rejection = OutboxRejection.objects.using(alias).get(record=rows[position].pk)
        expected_text = "1 of 1" if answer.get("errors_in") == "nowhere" else "_nature"
        has_message = expected_text in rejection.message
        assert has_message or "REJECTED" in rejection.code, rejection.message
    assert {batch.state for batch in batches(alias)} <= {
        BatchState.COMPLETE, BatchState.SPLIT, BatchState.REFUSED,
    }  # fmt: skip


@pytest.mark.parametrize("bad", [1, 21, 45])
def test_more_records_are_rejected_than_the_answer_lists(context, alias, sandbox, clock, bad):
    rows = enqueue(alias, *range(60), invalid=range(bad))
    deliver(context, clock)
    assert [state_of(row) for row in rows] == ["rejected"] * bad + ["delivered"] * (60 - bad)
    assert all("_nature" in row.rejections.get().message for row in rows[:bad])
    assert len(sandbox.records()) == 60 - bad
    assert len(sent_keys(sandbox)) <= 1 + bad // 20


@pytest.mark.parametrize("errors_in", ["details", "errors", "nowhere"])
def test_a_400_rejects_a_single_record_with_its_message(context, alias, clock, errors_in):
    (row,) = enqueue(alias, 1, invalid=[1])
    with serve(context, clock, errors_in=errors_in) as (context, _):
        relay(context, 60)
    assert state_of(row) == "rejected"
    assert batches(alias)[0].state == BatchState.REFUSED
    assert row.rejections.get().message


def test_a_400_that_is_not_json_rejects_no_record(context, alias, sandbox, clock):
    rows = enqueue(alias, 1, 2)
    sandbox.fail_next(Fault(status=400, body="<html>Bad Request</html>"))
    relay(context, 1)
    assert [state_of(row) for row in rows] == ["in_flight", "in_flight"]
    assert batches(alias)[0].state == BatchState.SEALED


def test_a_batch_refused_with_413_is_sent_in_halves(context, alias, sandbox, clock):
    rows = enqueue(alias, 1, 2, 3)
    sandbox.fail_next(Fault(status=413))
    deliver(context, clock)
    assert [state_of(row) for row in rows] == ["delivered"] * 3
    assert [batch.record_count for batch in batches(alias)] == [3, 2, 1]
    assert len(set(sent_keys(sandbox))) == 3


def test_a_superseded_suspect_leaves_no_suspicion_on_the_others(context, alias, clock):
    enqueue(alias, *range(16), invalid={8})
    with serve(context, clock, strict=True, errors_in="nowhere") as (context, sandbox):
        send_next(context)
        outbox.enqueue(record(8, data={"version": 2}), using=alias)
        deliver(context, clock)
        sizes = [arrival.records for arrival in posts(sandbox)]
    assert sorted(sizes) == [1, 3, 4, 8, 16]  # the newer version alone, and the rest in one request
    assert states(alias) == ["delivered"] * 8 + ["superseded"] + ["delivered"] * 8


def test_a_part_that_cannot_be_sent_does_not_stop_the_other_parts(context, alias, clock):
    rows = enqueue(alias, *range(8), invalid={6})
    with serve(context, clock, strict=True, errors_in="nowhere") as (context, sandbox):
        send_next(context)
        OutboxRecord.rows.using(alias).filter(pk=rows[0].pk).update(payload="{}")  # in the next part
        assert relay(context, 60) == 0
        deliver(context, clock)
    assert states(alias) == expected_states(8, {0, 6})
    assert rows[0].rejections.get().code == "NOT_SENDABLE"


# --- a batch that was sealed before CONTRACT changed ------------------------------------------------------


def test_a_400_for_the_other_contract_rejects_no_record(context, alias, clock, outbox_settings, reopen):
    rows = enqueue(alias, *range(5))
    with Sandbox(contract="openapi", rate_limit=100_000, clock=lambda: clock.at.timestamp()) as sandbox:
        outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox")
        sandbox.fail_next(Fault.drop_before())
        relay(reopen(), 60)
        outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", CONTRACT="openapi")
        clock.move(context.settings.backoff_cap)
        deliver(reopen(), clock)
        assert {state_of(row) for row in rows} == {"delivered"}


def test_records_that_a_202_rejects_under_the_other_contract_are_sent_again(
    context, alias, clock, outbox_settings, reopen
):
    rows = enqueue(alias, 1, 2)
    sealed = seal_next(context)
    outbox_settings(CONTRACT="openapi")
    errors = (RecordError(0, "BAD", "_project_ids is required"),)
    settle_with(reopen(), sealed, Accepted("remote", 1, 1, 1, errors))
    assert [state_of(row) for row in rows] == ["in_flight", "in_flight"]
    assert [batch.contract for batch in batches(alias)] == ["reference", "openapi"]


# --- number of requests -----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("bad", [1, 20, 200, 1_000])
@pytest.mark.parametrize("strict", [False, True], ids=["accepted in part", "refused"])
@pytest.mark.django_db
def test_named_records_among_a_thousand_need_one_request_for_each_twenty(sqlite_context, clock, bad, strict):
    context, alias = sqlite_context, sqlite_context.using
    invalid = set(random.Random(bad).sample(range(1_000), bad))
    enqueue(alias, *range(1_000), invalid=invalid)
    with serve(context, clock, strict=strict) as (context, sandbox):
        deliver(context, clock)
        request_count = len(posts(sandbox))
    assert states(alias) == expected_states(1_000, invalid)
    # An answer names twenty records. If Evermuse is strict, one more request sends the good ones.
    assert request_count <= math.ceil(bad / 20) + (strict and bad < 1_000)


@pytest.mark.long
@pytest.mark.parametrize("bad", [1, 20, 200])
@pytest.mark.django_db
def test_unnamed_records_among_a_thousand_stay_within_the_bound(sqlite_context, clock, bad):
    context, alias = sqlite_context, sqlite_context.using
    invalid = set(random.Random(bad).sample(range(1_000), bad))
    enqueue(alias, *range(1_000), invalid=invalid)
    with serve(context, clock, strict=True, errors_in="nowhere") as (context, sandbox):
        deliver(context, clock)
        request_count = len(posts(sandbox))
    assert states(alias) == expected_states(1_000, invalid)
    assert request_count <= 1.1 * math.log2(math.comb(1_000, bad)) + bad + 10


# --- batches that failed again and again --------------------------------------------------------------

NO_ANSWER = Refusal("NO_ANSWER", "timed out", is_failure=True)


def pause_group(context, batch):
    """Store that the batch's group is paused."""
    OutboxGroup.objects.using(context.using).create(
        scope=group_key(batch.workspace, batch.type, batch.product_id),
        workspace=batch.workspace,
        type=batch.type,
        product_id=batch.product_id,
        since=context.clock.now(),
        blocked_until=context.clock.now(),
        state=GroupState.PAUSED,
        contract=batch.contract,
    )


def refuse(context, sealed, refusal):
    """Refuse a leased batch in a transaction, as ``settle`` does."""
    sealed.batch.in_doubt = True
    OutboxBatch.objects.using(context.using).filter(pk=sealed.batch.pk).update(in_doubt=True)
    with transaction.atomic(using=context.using):
        assert refuse_batch(context, sealed, refusal)


def test_records_of_a_batch_without_an_answer_are_not_pending_when_their_group_is_paused(context, alias):
    """Evermuse may process the batch late. A newer version must not be sent before."""
    (row,) = enqueue(alias, 1)
    sealed = seal_next(context)
    pause_group(context, sealed.batch)
    refuse(context, sealed, NO_ANSWER)
    assert state_of(row) == "in_flight"
    assert (row.batch.state, row.batch.in_doubt) == (BatchState.IN_DOUBT, True)
    assert state_of(sealed.batch) == BatchState.SPLIT


def test_records_of_an_answered_batch_are_pending_when_their_group_is_paused(context, alias):
    (row,) = enqueue(alias, 1)
    sealed = seal_next(context)
    pause_group(context, sealed.batch)
    refuse(context, sealed, dataclasses.replace(NO_ANSWER, code="HTTP_403", columns={"in_doubt": False}))
    assert state_of(row) == "pending"


def test_no_record_is_superseded_while_a_batch_of_the_former_contract_may_be_processed(context, alias):
    (old,) = enqueue(alias, 1)
    sealed = seal_next(context)
    (new,) = enqueue(alias, 1)
    OutboxBatch.objects.using(alias).filter(pk=sealed.batch.pk).update(contract="former")
    sealed.batch.contract = "former"
    refuse(context, sealed, NO_ANSWER)
    assert (state_of(old), state_of(new)) == ("in_flight", "pending")
    assert old.batch.in_doubt
