"""Each outcome of a POST, over real HTTP, on every database: what it changes in batch, records and workspace."""

from __future__ import annotations

import dataclasses

import pytest
from django.db import ProgrammingError

from evermuse_outbox.delivery.context import Attempt
from evermuse_outbox.delivery.gates import block_for_retry_after, resume_workspace, workspace_circuit
from evermuse_outbox.delivery.loop import poll, relay, seal_next
from evermuse_outbox.delivery.settling import settle
from evermuse_outbox.evermuse.api import Accepted, Client, RecordError
from evermuse_outbox.models import (
    BatchState,
    OutboxAttempt,
    OutboxBatch,
    OutboxRecord,
    OutboxWorkspace,
    WorkspaceQuerySet,
    WorkspaceState,
)
from evermuse_outbox.ratelimit import ThrottleUnavailable
from evermuse_outbox.sandbox import Fault, Sandbox
from evermuse_outbox.upkeep.maintenance import rescue
from tests.records import enqueue, make_invalid


def state_of(row):
    row.refresh_from_db()
    return row.state


def batches(alias):
    return list(OutboxBatch.objects.using(alias).order_by("pk"))


def workspace(alias):
    return OutboxWorkspace.objects.using(alias).get(pk="default")


def keys_sent(sandbox):
    return [a.headers["Idempotency-Key"] for a in sandbox.arrivals if a.method == "POST"]


UNCLEAR = {
    "500": Fault.server_error(),
    "html 502": Fault.bad_gateway(),
    "dropped before": Fault.drop_before(),
    "dropped after": Fault.drop_after(),
    "garbage 202": Fault(status=202, body=b"\x00<html>"),
    "202 of other counts": Fault(
        status=202, body={"batchId": "b", "acceptedCount": 7, "rejectedCount": 0, "totalErrorCount": 0}
    ),
    "202 without an id": Fault(
        status=202, body={"acceptedCount": 1, "rejectedCount": 0, "totalErrorCount": 0}
    ),
    "202 that is a list": Fault(status=202, body=b"[]"),
}


@pytest.mark.parametrize("fault", UNCLEAR.values(), ids=UNCLEAR.keys())
def test_after_an_unclear_answer_the_batch_is_sent_again_with_the_same_key_and_bytes(
    context, alias, sandbox, clock, fault
):
    (row,) = enqueue(alias, 1)
    sandbox.fail_next(fault)
    relay(context, 1)
    (batch,) = batches(alias)
    assert (batch.state, batch.in_doubt, batch.failures) == (BatchState.IN_DOUBT, True, 1)
    assert workspace(alias).state == WorkspaceState.BACKING_OFF
    assert state_of(row) == "in_flight"

    clock.move(context.settings.backoff_cap)
    relay(context, 1)
    (batch,) = batches(alias)
    assert (batch.state, batch.in_doubt, batch.failures) == (BatchState.ACCEPTED, False, 0)
    assert workspace(alias).state == WorkspaceState.ACTIVE
    assert len(set(keys_sent(sandbox))) == 1
    assert len(keys_sent(sandbox)) == 2
    assert [stored.times for stored in sandbox.records()] == [1]
    assert sandbox.violations == []


def test_a_slow_answer_is_unclear_and_bounded(context, alias, sandbox, clock, outbox_settings, reopen):
    outbox_settings(TIMEOUT=0.3, API_URL=sandbox.url, API_KEY="em_sk_sandbox")
    enqueue(alias, 1)
    sandbox.fail_next(Fault.slow(2.0))
    relay(reopen(), 1)
    assert batches(alias)[0].state == BatchState.IN_DOUBT


def test_a_refused_connection_leaves_no_doubt(context, alias, sandbox, clock):
    enqueue(alias, 1)
    sandbox.stop()
    relay(context, 1)
    (batch,) = batches(alias)
    assert (batch.state, batch.in_doubt) == (BatchState.SEALED, False)
    attempt = OutboxAttempt.objects.using(alias).get()
    assert (attempt.status, attempt.outcome) == (None, "unavailable")
    assert "refused" in attempt.detail.lower()


def test_a_429_blocks_all_senders_and_counts_as_no_failure(context, alias, sandbox, clock):
    (row,) = enqueue(alias, 1)
    sandbox.fail_next(Fault.too_many(retry_after=30))
    relay(context, 1)
    (batch,) = batches(alias)
    assert (batch.state, batch.failures) == (BatchState.SEALED, 0)
    assert context.throttle.held_for == 30
    assert workspace(alias).state == WorkspaceState.THROTTLED
    relay(context, 1)
    assert len(keys_sent(sandbox)) == 1

    clock.move(31)
    context.throttle.held_for = 0
    relay(context, 1)
    assert batches(alias)[0].state == BatchState.ACCEPTED
    assert workspace(alias).state == WorkspaceState.ACTIVE


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_pauses_the_workspace_until_it_works_again(context, alias, sandbox, clock, status):
    (row,) = enqueue(alias, 1)
    if status == 401:
        sandbox.remove_key("em_sk_sandbox")
    else:
        sandbox.set_key("em_sk_sandbox", {"api:read"})
    relay(context, 1)
    assert workspace(alias).state == WorkspaceState.PAUSED
    assert batches(alias)[0].failures == 0
    enqueue(alias, 2)
    relay(context, 1)
    assert len(keys_sent(sandbox)) == 1

    sandbox.set_key("em_sk_sandbox", {"api:write", "api:read"})
    clock.move(61)
    relay(context, 60)
    assert workspace(alias).state == WorkspaceState.ACTIVE
    assert len(sandbox.records()) == 2


def test_without_a_key_nothing_is_sent_and_the_workspace_says_why(
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


def test_without_the_throttle_backend_nothing_is_sent_and_the_workspace_says_why(
    context, alias, sandbox, clock
):
    class Dead:
        def wait(self):
            raise ThrottleUnavailable("Redis holds the rate limit and does not answer")

    (row,) = enqueue(alias, 1)
    assert relay(dataclasses.replace(context, throttle=Dead()), 1) == 0
    assert (state_of(row), sandbox.arrivals) == ("pending", [])
    assert workspace(alias).state == WorkspaceState.BACKING_OFF
    assert "Redis" in workspace(alias).reason
    clock.move(6)
    relay(context, 60)
    assert state_of(row) == "in_flight"
    assert workspace(alias).state == WorkspaceState.ACTIVE


# --- bad records ------------------------------------------------------------------------------------

BAD = {"_participants": [{"id": "x", "role": "external", "email": "someone@ab--1.example"}]}


def deliver(context, clock):
    """Deliver until nothing is left to do."""
    for _ in range(60):
        relay(context, 60)
        clock.move(5)
        if not relay(context, 60) and not poll(context, 60):
            return
    raise AssertionError("the delivery does not end")


def test_a_202_that_names_the_rejected_records(context, alias, sandbox, clock):
    rows = enqueue(alias, *range(10))
    for row in rows[3:5]:
        make_invalid(row)
    relay(context, 1)
    assert [state_of(row) for row in rows] == ["in_flight"] * 3 + ["rejected"] * 2 + ["in_flight"] * 5
    deliver(context, clock)
    assert [state_of(row) for row in rows] == ["delivered"] * 3 + ["rejected"] * 2 + ["delivered"] * 5
    assert len(keys_sent(sandbox)) == 1
    rejection = rows[3].rejections.get()
    assert rejection.position == 3
    assert "_nature" in rejection.message


@pytest.mark.parametrize("bad", [1, 21, 45])
def test_more_rejected_records_than_the_answer_lists(context, alias, sandbox, clock, bad):
    rows = enqueue(alias, *range(60))
    for row in rows[:bad]:
        make_invalid(row)
    deliver(context, clock)
    assert [state_of(row) for row in rows] == ["rejected"] * bad + ["delivered"] * (60 - bad)
    assert all("_nature" in row.rejections.get().message for row in rows[:bad])
    assert len(sandbox.records()) == 60 - bad
    assert len(keys_sent(sandbox)) <= 1 + bad // 20


def _at(alias, context, sandbox):
    client = Client(sandbox.url, lambda: "em_sk_sandbox", 5)
    return dataclasses.replace(context, client=client)


@pytest.mark.parametrize("errors_in", ["details", "errors", "nowhere"])
def test_a_400_rejects_a_single_record_with_its_message(context, alias, clock, errors_in):
    (row,) = enqueue(alias, 1)
    make_invalid(row)
    with Sandbox(rate_limit=100_000, errors_in=errors_in, clock=lambda: clock.at.timestamp()) as other:
        relay(_at(alias, context, other), 60)
    assert state_of(row) == "rejected"
    assert batches(alias)[0].state == BatchState.REFUSED
    assert row.rejections.get().message


def test_a_413_is_halved(context, alias, sandbox, clock):
    rows = enqueue(alias, 1, 2, 3)
    sandbox.fail_next(Fault(status=413))
    deliver(context, clock)
    assert [state_of(row) for row in rows] == ["delivered"] * 3
    assert [batch.record_count for batch in batches(alias)] == [3, 2, 1]
    assert len(set(keys_sent(sandbox))) == 3


def test_a_failed_batch_is_sent_again_under_new_keys_a_limited_number_of_times(
    context, alias, sandbox, clock
):
    (row,) = enqueue(alias, 1)
    sandbox.fail_next(Fault(batch_fails=True), count=None)
    for _ in range(20):
        relay(context, 60)
        clock.move(60)
        poll(context, 60)
    assert state_of(row) == "rejected"
    made = batches(alias)
    assert [batch.state for batch in made] == [BatchState.FAILED] * 6
    assert [batch.resends for batch in made] == [0, 1, 2, 3, 4, 5]
    assert len(set(keys_sent(sandbox))) == 6
    assert "FAILED" in made[-1].message


def test_a_lost_lease_changes_nothing(context, alias, sandbox, clock):
    enqueue(alias, 1)
    sealed = seal_next(context)
    clock.move(context.settings.lease + 1)
    assert rescue(alias, context.clock) == 1
    outcome = Accepted("remote", 1, 0, 0, ())
    settle(context, sealed, outcome, Attempt("ingest", clock.now(), "accepted"), failures=0)
    (batch,) = batches(alias)
    assert (batch.state, batch.remote_id) == (BatchState.IN_DOUBT, "")
    relay(context, 60)
    assert batches(alias)[0].state == BatchState.ACCEPTED
    assert keys_sent(sandbox) == [sealed.batch.key]


def test_payloads_that_were_altered_after_the_sealing_are_never_sent(context, alias, sandbox, clock):
    (row,) = enqueue(alias, 1)
    sandbox.fail_next(Fault.server_error())
    relay(context, 1)
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(payload="{}")
    clock.move(context.settings.backoff_cap)
    relay(context, 60)
    assert len(keys_sent(sandbox)) == 1
    assert batches(alias)[0].state == BatchState.FAILED
    assert "bytes" in batches(alias)[0].message


def test_neither_the_key_nor_a_long_answer_is_stored(context, alias, sandbox, clock):
    enqueue(alias, 1)
    sandbox.fail_next(Fault(status=500, body="x" * 100_000 + "em_sk_sandbox"))
    relay(context, 1)
    attempt = OutboxAttempt.objects.using(alias).get()
    assert len(attempt.detail) == 2_000
    assert "em_sk" not in attempt.detail


def test_records_sealed_under_the_other_contract_are_not_rejected_for_their_form(
    context, alias, clock, outbox_settings, reopen
):
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
    outcome = Accepted("remote", 1, 1, 1, (RecordError(0, "BAD", "_project_ids is required"),))
    settle(reopen(), sealed, outcome, Attempt("ingest", clock.now(), "accepted"), failures=0)
    assert [state_of(row) for row in rows] == ["in_flight", "in_flight"]
    assert [batch.contract for batch in batches(alias)] == ["reference", "openapi"]


def test_resealed_records_are_packed_within_the_present_limits(
    context, alias, sandbox, clock, outbox_settings, reopen
):
    rows = enqueue(alias, *range(6))
    sandbox.fail_next(Fault(batch_fails=True))
    relay(context, 60)
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=4)
    clock.move(10)
    poll(reopen(), 0.1)
    assert [batch.record_count for batch in batches(alias)] == [6, 4, 2]
    deliver(reopen(), clock)
    assert {state_of(row) for row in rows} == {"delivered"}


def test_a_success_does_not_end_a_retry_after_that_is_not_over(context, alias, sandbox, clock):
    block_for_retry_after(context, 60, "HTTP 429")
    resume_workspace(context, by_send=True)
    assert workspace(alias).state == WorkspaceState.THROTTLED
    clock.move(61)
    resume_workspace(context, by_send=True)
    assert workspace(alias).state == WorkspaceState.ACTIVE


def test_a_400_that_is_not_json_rejects_no_record(context, alias, sandbox, clock):
    rows = enqueue(alias, 1, 2)
    sandbox.fail_next(Fault(status=400, body="<html>Bad Request</html>"))
    relay(context, 1)
    assert [state_of(row) for row in rows] == ["in_flight", "in_flight"]
    assert batches(alias)[0].state == BatchState.SEALED


def test_a_sender_that_was_paused_past_its_lease_does_not_send(context, alias, sandbox, clock):
    enqueue(alias, 1)
    enter = context.throttle.acquire
    context.throttle.acquire = lambda: clock.move(context.settings.lease) or enter()
    relay(context, 1)
    assert sandbox.arrivals == []
    assert batches(alias)[0].state == BatchState.SEALED


def settle_with(context, sealed, outcome):
    settle(context, sealed, outcome, Attempt("ingest", context.clock.now(), "accepted"), failures=0)


def test_an_answer_with_more_errors_than_rejected_records_rejects_none_of_them(context, alias):
    rows = enqueue(alias, 1, 2, 3)
    errors = tuple(RecordError(index, "BAD", "bad or not") for index in (0, 1))
    settle_with(context, seal_next(context), Accepted("remote", 2, 1, 2, errors))
    assert [state_of(row) for row in rows] == ["in_flight"] * 3
    assert [batch.state for batch in batches(alias)] == [BatchState.ISOLATING, BatchState.SEALED]


def test_the_answer_is_written_also_if_the_workspace_cannot_be(context, alias, monkeypatch):
    def fail(*args, **kwargs):
        raise ProgrammingError("no such column")

    enqueue(alias, 1)
    sealed = seal_next(context)
    monkeypatch.setattr(WorkspaceQuerySet, "resume", fail)
    with pytest.raises(ProgrammingError):
        settle_with(context, sealed, Accepted("remote", 1, 0, 0, ()))
    assert batches(alias)[0].state == BatchState.ACCEPTED


def test_a_part_of_an_isolating_batch_is_packed_within_the_present_limits(
    context, alias, sandbox, outbox_settings, reopen
):
    enqueue(alias, *range(8))
    sealed = seal_next(context)
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=3)
    settle_with(reopen(), sealed, Accepted("remote", 7, 1, 1, ()))
    parent, part = batches(alias)
    assert (parent.state, part.state) == (BatchState.ISOLATING, BatchState.SEALED)
    assert part.record_count == 2, "half of the eight, halved until one request takes it"
